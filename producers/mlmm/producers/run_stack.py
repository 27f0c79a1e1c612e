"""What a run says on its way: in the order in which it was said, metrics of equal names packed into blocks."""

import struct
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from mlmm.events import TYPES, Acked, Event, Heartbeat, MetricsBlock, MetricsHead
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed, pack_block, pack_event, slices

__all__ = ["RunStack", "Said"]

_METRICS = "mlmm.run.metrics.v1"
_TYPE_OF = {kind: name for name, kind in TYPES.items()}
_EVENT = 400
"""Bytes of an event that is not metrics, beside its text."""
_STEP = 150
"""Bytes of one step's metrics beside its values."""


class Said(NamedTuple):
    """Metrics of one step."""

    names: tuple[str, ...]
    phase: str
    step: int
    time: int
    values: tuple[float, ...]


class RunStack:
    """Collects what one run says.

    Parameters
    ----------
    intake : Intake
    run_id, attempt : str
    """

    rank = 0

    def __init__(self, intake: Intake, run_id: str, attempt: str) -> None:
        self.intake = intake
        self.run_id = run_id
        self.attempt = attempt
        self._begin()

    def _begin(self) -> None:
        self._said: list[Said | tuple[Event, int]] = []
        self._waiting = False

    def say(self, event: Event, size: int = 0) -> None:
        """Take an event other than metrics.

        There are few, and they matter, so that the bounds do not hold for them; but heartbeats go on while a broker is
        away, for weeks if need be.
        """
        size += _EVENT
        intake = self.intake
        with intake.lock:
            if intake.closed:
                intake.turn_away(1, "closed")
                return
            if isinstance(event, Heartbeat) and not intake.has_room(1, size):
                intake.turn_away(1, "queue_full")
                return
            intake.take_in(1, size)
            self._hold((event, size))
        if intake.asleep:
            intake.wake()

    def log(self, said: Said) -> bool:
        """Take metrics; False when there is no room."""
        size = self.size_of(said)
        intake = self.intake
        with intake.lock:
            if intake.closed or not intake.has_room(1, size):
                return False
            intake.take_in(1, size)
            self._hold(said)
        if intake.asleep:
            intake.wake()
        return True

    def _hold(self, said: Said | tuple[Event, int]) -> None:
        self._said.append(said)
        if not self._waiting:
            self._waiting = True
            self.intake.dirty.append(self)

    @staticmethod
    def size_of(said: Said) -> int:
        """Estimate the bytes of one step's metrics."""
        return _STEP + 32 * len(said.values)

    def take(self) -> "RunBatch | None":
        """Hand over what was collected."""
        said = self._said
        self._begin()
        return RunBatch(self, said) if said else None


class RunBatch:
    """What a `RunStack` handed over."""

    def __init__(self, stack: RunStack, said: list[Said | tuple[Event, int]]) -> None:
        self.n = len(said)
        self._stack = stack
        self._said = said

    @property
    def size(self) -> int:
        """Bytes that they take in the queue: the sum of what each call counted."""
        return sum(RunStack.size_of(each) if isinstance(each, Said) else each[1] for each in self._said)

    def pack(self, batch_events: int, batch_bytes: int, source: str) -> Iterator[Packed]:
        """Make records, one a step, in order."""
        key = self._stack.run_id.encode()
        at = 0
        for form, group in groupby(self._said, _form):
            members = list(group)
            if form is None:
                for event, size in members:  # type: ignore[misc]  # without a form they are pairs
                    yield self._single(event, size, key, source)
            else:
                size = sum(map(RunStack.size_of, members))  # type: ignore[arg-type]  # with a form they are metrics
                for first, end, share in slices(len(members), size, batch_events, batch_bytes):
                    yield from pack_block(
                        self.block,
                        at + first,
                        at + end,
                        share,
                        topic="training",
                        key=key,
                        type_=_METRICS,
                        source=source,
                    )
            at += len(members)

    @staticmethod
    def _single(event: Event, size: int, key: bytes, source: str) -> Packed:
        id_ = ""
        if isinstance(event, Acked):
            id_ = f"{event.command_id}:{'unproven' if event.unproven else event.state}"
        type_ = _TYPE_OF[type(event)]
        return pack_event(event, topic="training", key=key, type_=type_, size=size, source=source, id_=id_)

    def block(self, first: int, end: int) -> MetricsBlock:
        """Make a block of the metrics ``first`` to ``end``, which have equal names and phase."""
        members: list[Said] = self._said[first:end]  # type: ignore[assignment]  # pack() gives no others
        head = MetricsHead(
            run_id=self._stack.run_id, attempt=self._stack.attempt, names=members[0].names, phase=members[0].phase
        )
        n = len(members)
        return MetricsBlock(
            head=head,
            n=n,
            step=struct.pack(f"<{n}q", *(each.step for each in members)),
            time=struct.pack(f"<{n}q", *(each.time for each in members)),
            values=b"".join(struct.pack(f"<{len(each.values)}d", *each.values) for each in members),
        )


def _form(said: Said | tuple[Event, int]) -> tuple[tuple[str, ...], str] | None:
    return (said.names, said.phase) if isinstance(said, Said) else None
