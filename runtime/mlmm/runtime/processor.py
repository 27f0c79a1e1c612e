"""The door between the harness and every pure processor.

A processor is a state and a function of records. It does no I/O, has no clock (time is in the records) and no
randomness. The harness (`mlmm.runtime.harness`), `mlmm replay` and the tests run it through these types alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

__all__ = ["Output", "Processor", "Record", "State"]


class Record(NamedTuple):
    """One record of the input log."""

    offset: int
    """Offset in the partition."""
    log_time: int
    """When the log took it, in microseconds since the epoch; never decreases within a partition."""
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    """Kafka headers in the order they were sent."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One record that a processor puts out; committed with the state, then sent by the harness."""

    topic: str
    """Logical name without the prefix: ``"findings"``, ``"commands"``, ``"dead-letters"``, …"""
    key: bytes
    type: str
    """The CloudEvents type; empty for a dead letter, whose headers are kept as received."""
    id: str
    """The CloudEvents id: a function of content alone, so that a replay makes the same one."""
    time: int
    """The CloudEvents time in microseconds: the log time or deadline that caused it."""
    value: bytes
    offset: int
    """Offset of the input record that caused it; with its place among that record's outputs it makes ``sequence``."""
    causation: str = ""
    """``ce_id`` of the cause, when there is one."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Further headers, after those of CloudEvents."""
    signed: bool = False
    """Whether the harness signs it when it drains (commands)."""


class State(Protocol):
    """The state of one input partition. Single-threaded; changed in place by `process`."""

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Take in stored cells, in any order and in several calls, before the first `process`.

        Raises ``ValueError`` naming the cell where a layout is unknown or damaged.
        """

    def process(self, records: Sequence[Record]) -> list[Output]:
        """Fold records (ascending offsets) and return what they cause, ordered by input offset.

        Never raises for the content of a record: a malformed one leaves as a dead letter.
        """

    def changed(self) -> Mapping[bytes, bytes | None]:
        """Cells touched since the last call, with their new value or None where the cell is gone."""

    def cells(self) -> Mapping[bytes, bytes]:
        """All cells: the canonical dump, equal for equal histories however they were packed and cut."""

    def deadline(self) -> int | None:
        """Earliest pending deadline in log time (microseconds), or None: while there is one, ticks are written."""

    def counters(self) -> Mapping[str, int]:
        """Monotone counts for self-metrics, such as events, late, duplicates, expired, dead letters."""


class Processor(Protocol):
    """A kind of monitoring: a name, an input topic and a way to make an empty state."""

    name: str
    """``"serving"``, ``"training"``, ``"alerting"``: part of keys in Redis and of ``ce_source``."""
    input: str
    """Logical name of the input topic, without the prefix."""
    layouts: tuple[int, ...]
    """Layouts of cells that it reads and writes, ascending: the newest, and at least the one before, so that two
    versions may run side by side (``mlmm state upgrade`` ends that)."""

    def state(self, layout: int | None = None) -> State:
        """Make an empty state for one partition, which reads all `layouts` and writes one; the newest for None."""

    def key_of(self, cell: bytes) -> bytes:
        """Return the record key that a cell belongs to: all that is known of a key goes where its records go."""
