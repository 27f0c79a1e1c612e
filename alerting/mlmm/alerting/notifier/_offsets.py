"""Which offset may be committed: the one before which every record is done."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from mlmm.alerting.notifier._pipeline import Place

__all__ = ["Offsets"]


class Offsets:
    """Follows the records of the assigned partitions. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._assignment = 0
        self._assigned: dict[int, int] = {}
        self._open: dict[int, set[int]] = {}
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def assign(self, partitions: Iterable[int]) -> None:
        """Begin anew with partitions: what was open of them belongs to an earlier assignment."""
        with self._lock:
            self._assignment += 1
            for partition in partitions:
                self._assigned[partition] = self._assignment
                self._open[partition] = set()
                self._next.pop(partition, None)
                self._committed.pop(partition, None)

    def revoke(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Let partitions go; return the first offset of each that is not done, where any was read."""
        with self._lock:
            ready = self._ready()
            for partition in partitions:
                self._assigned.pop(partition, None)
                self._open.pop(partition, None)
                self._next.pop(partition, None)
            return ready

    def _ready(self) -> dict[int, int]:
        return {partition: min(self._open.get(partition) or {following}) for partition, following in self._next.items()}

    def take(self, partition: int, offset: int) -> Place:
        """Note a record that was read, in ascending order; return its place."""
        with self._lock:
            self._open.setdefault(partition, set()).add(offset)
            self._next[partition] = offset + 1
            return partition, self._assigned.setdefault(partition, self._assignment), offset

    def owned(self, place: Place) -> bool:
        """Whether a record's partition is still the one that it was read from."""
        with self._lock:
            return self._assigned.get(place[0]) == place[1]

    def done(self, places: Sequence[Place]) -> None:
        """Note records that need nothing more."""
        with self._lock:
            for partition, assignment, offset in places:
                if self._assigned.get(partition) == assignment:
                    self._open[partition].discard(offset)

    def committable(self) -> Mapping[int, int]:
        """Partition → offset to commit, where it moved since `committed`."""
        with self._lock:
            return {
                partition: offset
                for partition, offset in self._ready().items()
                if self._committed.get(partition) != offset
            }

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Note what was committed."""
        with self._lock:
            self._committed.update(offsets)
