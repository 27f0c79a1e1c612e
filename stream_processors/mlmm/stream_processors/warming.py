"""Compiled kernels made ready before the first record comes: read from the cache, or compiled into it.

A worker that compiled while it holds partitions would keep them waiting; an image build compiles once for all.
"""

import time
from collections.abc import Iterator, Sequence

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    Event,
    Failure,
    Label,
    Metrics,
    Prediction,
    RunStarted,
    Tick,
    blocks_of,
    cloudevents_headers,
    encode_columns,
    encode_json,
    types,
)
from mlmm.runtime.processor import Processor, Record
from mlmm.runtime.settings import ServingSettings, TrainingSettings

__all__ = ["warm_up"]

_SECOND = 1_000_000
_START = 1_760_000_000 * _SECOND
_NAMES = {kind: name for name, kind in types.TYPES.items()}


def warm_up() -> float:
    """Send a little made-up stream through the processors, so that every kernel they call is loaded.

    Returns
    -------
    float
        Seconds that it took: one or two where the kernels were cached, half a minute where they had to be compiled.
    """
    began = time.perf_counter()
    # Not at the top: a settings error should not wait for numba.
    from mlmm.stream_processors.serving import ServingProcessor  # noqa: PLC0415
    from mlmm.stream_processors.training import TrainingProcessor  # noqa: PLC0415

    serving = ServingSettings(windows=(5.0,), allowed_lateness=1.0, idle_after=2.0, last=10, label_horizon=60.0)
    for processor, stream in (
        (ServingProcessor(serving), _serving()),
        (TrainingProcessor(TrainingSettings()), _training()),
    ):
        _through(processor, list(stream))
    return time.perf_counter() - began


def _through(processor: Processor, records: Sequence[Record]) -> None:
    """Fold, store and load again: as a worker that takes a partition over."""
    half = len(records) // 2
    state = processor.state()
    state.process(records[:half])
    cells = state.cells()
    state.changed()
    state = processor.state()
    state.load(cells.items())
    for record in records[half:]:
        state.process([record])
    state.changed()
    state.deadline()


def _serving() -> Iterator[Record]:
    """Give predictions, late labels and failures, some alone and some in columns, over some windows."""
    offset = 0
    for second in range(40):
        at = _START + second * _SECOND
        predictions = [
            Prediction(
                prediction_id=f"p{second}-{number}",
                time=at + number,
                model="m",
                output=number % 2,
                features={"x": float(number), "y": None if number == 3 else second * 1.5, "z": "a"},
                score=0.5,
                latency=0.01,
                segments={"s": "a"},
            )
            for number in range(8)
        ]
        labels = [
            Label(prediction_id=f"p{second - 2}-{number}", time=at, model="m", value=number % 2) for number in range(8)
        ]
        failures = [Failure(time=at, model="m", kind="ValueError", latency=0.1)]
        for events in (predictions, labels, failures):
            yield _record(offset, at, b"m", events, columns=second % 2 == 0)
            offset += 1
    yield _tick(offset, _START + 80 * _SECOND)


def _training() -> Iterator[Record]:
    """Give a run whose figures fall, with each kind of trigger."""
    triggers = tuple(kind(metric="a") for kind in (types.Falling, types.FallingStrict, types.Plateau))
    started = RunStarted(
        run_id="r", attempt="a1", time=_START, experiment="e", triggers=(*triggers, types.NotFinite()), params={}
    )
    yield _record(0, _START, b"r", [started], columns=False)
    for step in range(60):
        at = _START + step * _SECOND
        event = Metrics(run_id="r", attempt="a1", time=at, step=step, values={"a": 1.0 - step / 60, "b": 1.0})
        yield _record(1 + step, at, b"r", [event], columns=step % 2 == 0)
    yield _tick(61, _START + 90 * _SECOND)


def _record(offset: int, at: int, key: bytes, events: Sequence[Event], *, columns: bool) -> Record:
    name = _NAMES[type(events[0])]
    blocks = blocks_of(events) if columns else []
    content = COLUMNS_TYPE if len(blocks) == 1 else JSON
    value = encode_columns(blocks[0]) if len(blocks) == 1 else encode_json(list(events))
    return Record(offset, at, key, value, cloudevents_headers(name, f"w{offset}", "mlmm://warm-up", at, content))


def _tick(offset: int, at: int) -> Record:
    headers = cloudevents_headers("mlmm.tick.v1", f"w{offset}", "mlmm://warm-up", at, JSON)
    return Record(offset, at, b"", encode_json(Tick(time=at)), headers)
