"""The words of all runs of a partition: segments that a kernel walks and a cell is cut from."""

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Words"]

SMALLEST: Final = 128  # words: a run with one metric


class Words:
    """One array of 64-bit words, handed out in segments of powers of two.

    ``f`` and ``i`` are the same memory as float64 and as int64. Both are replaced when the array grows: never hold
    them.
    """

    def __init__(self) -> None:
        if sys.byteorder != "little":  # pragma: no cover - no supported platform is
            raise RuntimeError("state cells are little-endian and are cut from memory: this machine is big-endian")
        self._use(np.zeros(1024, dtype=np.float64))
        self._top = 0
        self._free: dict[int, list[int]] = {}

    def _use(self, words: NDArray[np.float64]) -> None:
        self.f: NDArray[np.float64] = words
        self.i: NDArray[np.int64] = words.view(np.int64)
        self._bytes = words.data.cast("B")

    def take(self, words: int) -> tuple[int, int]:
        """Hand out a zeroed segment of at least ``words`` words: its first word and its capacity."""
        capacity = SMALLEST
        while capacity < words:
            capacity *= 2
        free = self._free.get(capacity)
        if free:
            return free.pop(), capacity
        base = self._top
        self._top += capacity
        if self._top > len(self.f):
            grown = np.zeros(max(2 * len(self.f), self._top), dtype=np.float64)
            grown[:base] = self.f[:base]
            self._use(grown)
        return base, capacity

    def give(self, base: int, capacity: int) -> None:
        """Take a segment back."""
        self.f[base : base + capacity] = 0.0
        self._free.setdefault(capacity, []).append(base)

    def grow(self, base: int, capacity: int, words: int) -> tuple[int, int]:
        """Move a segment to where at least ``words`` words fit."""
        new, wider = self.take(words)
        self.f[new : new + capacity] = self.f[base : base + capacity]
        self.give(base, capacity)
        return new, wider

    def cut(self, base: int, words: int) -> memoryview:
        """The bytes of a segment's first words; valid until the next change."""
        return self._bytes[8 * base : 8 * (base + words)]

    def fill(self, base: int, data: bytes | memoryview) -> None:
        """Write bytes (a multiple of 8) at word ``base``."""
        self._bytes[8 * base : 8 * base + len(data)] = data
