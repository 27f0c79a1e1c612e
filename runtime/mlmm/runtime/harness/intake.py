"""From Kafka's records to the processor's: offsets, log time, placement and duplicates checked."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

import msgspec

from mlmm.events.errors import MalformedEvent
from mlmm.events.placement import partition_of
from mlmm.runtime.deadletters import dead_letter
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.ticks import is_tick

__all__ = ["Accepted", "Fetched", "GapRule", "Placement", "records_of"]


class Fetched(Protocol):
    """A record as aiokafka gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def records_of(fetched: Sequence[Fetched], log_time: int) -> list[Record]:
    """Make the processor's records.

    Parameters
    ----------
    fetched : sequence
        As aiokafka gives them; timestamps in milliseconds.
    log_time : int
        Latest log time so far, in microseconds: a broker whose clock went back (a new leader) does not take the log's
        time with it.
    """
    times = accumulate([each.timestamp * 1000 for each in fetched], max, initial=log_time)
    next(times)
    # A named tuple's own constructor costs twice as much: this is a third of the harness's cost a record.
    make = tuple.__new__
    return [
        make(Record, (each.offset, time, each.key or b"", each.value or b"", each.headers))
        for each, time in zip(fetched, times, strict=True)
    ]


class Placement:
    """Which keys belong in one partition; remembers, since a partition has few keys and murmur2 is slow in Python."""

    _REMEMBERED = 100_000

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition = partition
        self.partitions = partitions
        self._right: set[bytes] = set()
        self._wrong: set[bytes] = set()

    def strangers(self, records: Sequence[Fetched]) -> bool:
        """Whether keys that were never seen lie in the wrong partition: the topic may have been given more of them."""
        unknown = {each.key or b"" for each in records} - self._right - self._wrong
        return any(key and partition_of(key, self.partitions) != self.partition for key in unknown)

    def split(self, records: list[Record]) -> tuple[list[Record], list[Output]]:
        """Return the records that lie where their key belongs, and dead letters for the others."""
        unknown = {record.key for record in records} - self._right
        wrong = {key for key in unknown if not key or partition_of(key, self.partitions) != self.partition}
        for known in (self._right, self._wrong):
            if len(known) > self._REMEMBERED:
                known.clear()
        self._right |= unknown - wrong
        self._wrong |= wrong
        if not wrong:
            return records, []
        right: list[Record] = []
        letters: list[Output] = []
        for record in records:
            if record.key not in wrong or is_tick(record):
                right.append(record)
            else:
                letters.append(dead_letter(record, self._error(record.key)))
        return right, letters

    def _error(self, key: bytes) -> MalformedEvent:
        if not key:
            return MalformedEvent("a record needs a key: the model, run id or host", field="key")
        return MalformedEvent(
            f"belongs in partition {partition_of(key, self.partitions)} of {self.partitions}, not in {self.partition}: "
            "the producer places keys by another rule than murmur2 (librdkafka: partitioner=murmur2_random)",
            field="key",
        )


class Accepted(msgspec.Struct, frozen=True):
    """What the gap rule makes of what was fetched."""

    fetched: Sequence[Any]
    """To be processed; may be empty."""
    seek: bool = False
    """Whether to fetch from the next offset once more."""
    gap: int = 0
    """Offsets that the broker no longer has."""
    lower: bool = False
    """Whether the log gave offsets from before the next one: it may have become shorter."""


class GapRule:
    """A gap in offsets: seek once more; the same gap again is the broker's truth, counted and reported."""

    def __init__(self) -> None:
        self._gap: tuple[int, int] | None = None

    def accept(self, fetched: Sequence[Fetched], expected: int) -> Accepted:
        """Judge one fetch of one partition.

        Parameters
        ----------
        fetched : sequence
            Ascending offsets, at least one.
        expected : int
            Next offset to be read.
        """
        first, last = fetched[0].offset, fetched[-1].offset
        if first == expected and last - first + 1 == len(fetched):
            self._gap = None
            return Accepted(fetched)
        if first < expected:
            return Accepted((), seek=True, lower=True)
        missing = 0
        for at, each in enumerate(fetched):
            if each.offset != expected:
                gap = (expected, each.offset)
                if gap != self._gap:
                    self._gap = gap
                    return Accepted(fetched[:at], seek=True, gap=missing)
                missing += each.offset - expected
            expected = each.offset + 1
        return Accepted(fetched, gap=missing)
