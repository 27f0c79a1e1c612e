"""Deadlines of many runs, moved on with every record at no cost: a heap whose entries may lag behind."""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush, heapreplace

__all__ = ["Timers"]


class Timers:
    """Earliest deadlines first.

    A deadline that moves on is not told: `deadline_of` is asked when the entry comes up. One that moves back must be
    (`add`).

    Parameters
    ----------
    deadline_of : Callable[[bytes], int | None]
        Deadline of a key as it is now; None where the key no longer has one here.
    """

    def __init__(self, deadline_of: Callable[[bytes], int | None]) -> None:
        self._deadline_of = deadline_of
        self._heap: list[tuple[int, bytes]] = []
        self._told: dict[bytes, int] = {}

    def add(self, key: bytes, deadline: int) -> None:
        """Watch a key."""
        told = self._told.get(key)
        if told is None or deadline < told:
            self._told[key] = deadline
            heappush(self._heap, (deadline, key))

    def load(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Watch these keys and no others."""
        self._heap = list(entries)
        self._told = {key: deadline for deadline, key in self._heap}
        heapify(self._heap)

    def first(self) -> tuple[int, bytes] | None:
        """Return the earliest deadline and its key, and go on watching it."""
        heap = self._heap
        while heap:
            told, key = heap[0]
            if self._told.get(key) != told:
                heappop(heap)
                continue
            deadline = self._deadline_of(key)
            if deadline is None:
                heappop(heap)
                del self._told[key]
            elif deadline != told:
                heapreplace(heap, (deadline, key))
                self._told[key] = deadline
            else:
                return heap[0]
        return None

    def due(self, now: int) -> list[bytes]:
        """Keys whose deadline is at or before ``now``, by deadline and key; they are no longer watched."""
        made: list[bytes] = []
        while (entry := self.first()) is not None and entry[0] <= now:
            heappop(self._heap)
            del self._told[entry[1]]
            made.append(entry[1])
        return made
