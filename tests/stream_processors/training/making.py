"""Records of the training topic, as tests write them."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace

import msgspec

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    TYPES,
    Acked,
    Checkpoint,
    CommandState,
    Event,
    Heartbeat,
    Metrics,
    MetricsBlock,
    RunEnded,
    RunStarted,
    RunState,
    Tick,
    blocks_of,
    encode_columns,
    encode_json,
)
from mlmm.runtime.processor import Output, Record
from mlmm.stream_processors.training import Bounds, TrainingProcessor, TrainingState

T0 = 1_763_600_000_000_000
SECOND = 1_000_000
DAY = 86_400 * SECOND
NAMES = {of: name for name, of in TYPES.items()}


def state(bounds: Bounds | None = None, lost_after: int = 3) -> TrainingState:
    return TrainingProcessor(SimpleNamespace(lost_after=lost_after), bounds=bounds).state()


def record(offset: int, seconds: float, *events: Event | MetricsBlock, key: str | None = None) -> Record:
    """One record at T0 + seconds; several events make a JSON array."""
    first = events[0]
    if isinstance(first, MetricsBlock):
        kind, content, value, of = "mlmm.run.metrics.v1", COLUMNS_TYPE, encode_columns(first), first.head.run_id
    else:
        kind, content = NAMES[type(first)], JSON
        value = encode_json(first) if len(events) == 1 else encode_json(list(events))
        of = getattr(first, "run_id", getattr(first, "target", ""))
    name = (of if key is None else key).encode()
    headers = [("ce_type", kind.encode()), ("content-type", content.encode())]
    return Record(offset, T0 + round(seconds * SECOND), name, value, headers)


def columns(*events: Metrics) -> MetricsBlock:
    (block,) = blocks_of(events)
    return block


def started(run: str = "r", attempt: str = "a1", **fields: object) -> RunStarted:
    return RunStarted(**{"run_id": run, "attempt": attempt, "time": T0, "experiment": "churn", **fields})


def metrics(step: int, run: str = "r", attempt: str = "a1", phase: str = "train", **values: float) -> Metrics:
    return Metrics(run_id=run, attempt=attempt, time=T0 + step, step=step, values=values, phase=phase)


def beat(run: str = "r", attempt: str = "a1", step: int | None = None) -> Heartbeat:
    return Heartbeat(run_id=run, attempt=attempt, time=T0, step=step)


def checkpoint(step: int, run: str = "r", attempt: str = "a1") -> Checkpoint:
    return Checkpoint(run_id=run, attempt=attempt, time=T0, step=step, uri=f"file:///{step}", size=1, sha256="0" * 64)


def ended(run: str = "r", attempt: str = "a1", status: str = "completed", **fields: object) -> RunEnded:
    return RunEnded(**{"run_id": run, "attempt": attempt, "time": T0, "status": status, **fields})


def acked(command: str, what: str, run: str = "r", attempt: str | None = "a1", **fields: object) -> Acked:
    return Acked(command_id=command, state=what, time=T0, target=run, attempt=attempt, **fields)


def tick(offset: int, seconds: float) -> Record:
    return record(offset, seconds, Tick(time=T0 + round(seconds * SECOND)), key="")


def log(*entries: tuple[float, Event | Sequence[Event] | None]) -> list[Record]:
    """Records from (seconds, event, events or None for a tick)."""
    made = []
    for offset, (seconds, what) in enumerate(entries):
        if what is None:
            made.append(tick(offset, seconds))
        else:
            made.append(record(offset, seconds, *(what if isinstance(what, Sequence) else (what,))))
    return made


def said(outputs: Iterable[Output]) -> list[RunState | CommandState]:
    """The findings among outputs; fails on a dead letter."""
    return [msgspec.json.decode(output.value, type=TYPES[output.type]) for output in outputs]


def statuses(outputs: Iterable[Output]) -> list[str]:
    """What was said, in short: a run's status or the trigger that fired, a command's id and state."""
    return [
        f"{each.command_id}:{each.state}" if isinstance(each, CommandState) else each.trigger or each.status
        for each in said(outputs)
    ]
