"""A distribution in a bounded number of logarithmic buckets: deterministic, and merged without loss."""

import math
import struct
from typing import Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from ._parameters import number, whole
from .compiled import kernel
from .values import usable

__all__ = ["QuantileSketch"]

_HEAD = struct.Struct("<dIqq")
_SIDE = struct.Struct("<qI")
_SMALLEST = 1e-100
"""Magnitudes below are counted as zero."""


class QuantileSketch:
    """Counts of values in buckets whose bounds grow by a fixed ratio, on both sides of zero.

    Quantiles have a bounded *relative* error; the same values give the same sketch in whatever order and pieces they
    came, and `merge` of two equals the sketch of all. Where the values span so much that a side would need more buckets
    than it may have, those nearest to zero share one.

    Parameters
    ----------
    relative_error : float
        Of a quantile, in (0, 0.5].
    max_buckets : int
        Of each side of zero, at least 16; 2,048 of 1 % span 17 orders of magnitude.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> sketch = QuantileSketch()
    >>> sketch.update_many(np.arange(1.0, 1001.0))
    >>> round(sketch.quantile(0.5) / 500, 1)
    1.0

    References
    ----------
    Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB
    2019.
    """

    _KIND = "quantile_sketch"
    _LAYOUT = 1

    def __init__(self, relative_error: float = 0.01, max_buckets: int = 2048) -> None:
        self.relative_error = number("relative_error", relative_error, above=0.0, most=0.5)
        self.max_buckets = whole("max_buckets", max_buckets, least=16, most=1 << 16)
        self._log_ratio = math.log((1 + self.relative_error) / (1 - self.relative_error))
        self._sides = {1: _Side(self.max_buckets), -1: _Side(self.max_buckets)}
        self._zeros = 0
        self._missing = 0

    @property
    def count(self) -> int:
        """Values counted."""
        return self._zeros + sum(side.total for side in self._sides.values())

    @property
    def missing(self) -> int:
        """Values left out: NaN, infinite or beyond 1e100 in magnitude."""
        return self._missing

    def update_many(self, values: npt.ArrayLike) -> None:
        """Count an array of values of any shape."""
        flat = np.ascontiguousarray(values, np.float64).reshape(-1)
        numbers, kinds = np.empty(len(flat), np.int64), np.empty(len(flat), np.int8)
        _places(flat, self._log_ratio, numbers, kinds)
        self._missing += int(np.count_nonzero(kinds == _MISSING))
        self._zeros += int(np.count_nonzero(kinds == 0))
        for sign, side in self._sides.items():
            side.count(numbers[kinds == sign])

    def merge(self, other: "QuantileSketch") -> None:
        """Take in what another sketch with the same parameters counted.

        Raises
        ------
        ValueError
            If the parameters differ.
        """
        if (self.relative_error, self.max_buckets) != (other.relative_error, other.max_buckets):
            raise ValueError(
                f"a sketch of relative_error {self.relative_error} and max_buckets {self.max_buckets} can't take in "
                f"one of {other.relative_error} and {other.max_buckets}"
            )
        self._zeros += other._zeros  # noqa: SLF001 - its own class
        self._missing += other._missing  # noqa: SLF001
        for sign, side in self._sides.items():
            side.merge(other._sides[sign])  # noqa: SLF001

    def quantile(self, q: float) -> float:
        """Value below which the share `q`, in 0..1, of the values lies; NaN without values."""
        number("q", q, least=0.0, most=1.0)
        bounds, counts = self.buckets()
        if not len(counts):
            return math.nan
        place = int(np.searchsorted(np.cumsum(counts), max(1, math.ceil(q * self.count))))
        low, high = bounds[place]
        # Midway in ratio: as far from one bound as from the other.
        return float(2 * low * high / (low + high)) if low * high > 0 else 0.0

    def buckets(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return what is filled, ascending.

        Returns
        -------
        bounds : float64 [n, 2]
            Of each bucket; both 0.0 for that of zero.
        counts : int64 [n]
        """
        parts: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]] = []
        for sign, side in self._sides.items():
            filled = np.flatnonzero(side.counts)
            numbers = filled + side.first
            edges = np.exp(np.stack([numbers - 1, numbers], axis=1) * self._log_ratio)
            if sign < 0:
                parts.insert(0, (-edges[::-1, ::-1], side.counts[filled][::-1]))
            else:
                parts.append((edges, side.counts[filled]))
        if self._zeros:
            parts.insert(1, (np.zeros((1, 2)), np.array([self._zeros], np.int64)))
        return np.concatenate([bounds for bounds, _ in parts]), np.concatenate([counts for _, counts in parts])

    def to_bytes(self) -> bytes:
        """Parameters and counts; equal for equal values."""
        body = _HEAD.pack(self.relative_error, self.max_buckets, self._zeros, self._missing)
        for side in self._sides.values():
            first, counts = side.trimmed()
            body += _SIDE.pack(first, len(counts)) + counts.astype("<i8").tobytes()
        return _envelope.wrap(self._KIND, self._LAYOUT, body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the sketch again from `to_bytes`; ``ValueError`` for damaged or foreign bytes."""
        body = _envelope.unwrap(data, cls._KIND, cls._LAYOUT)
        try:
            error, most, zeros, missing = _HEAD.unpack_from(body)
            sketch = cls(error, most)
            at = _HEAD.size
            for side in sketch._sides.values():
                first, filled = _SIDE.unpack_from(body, at)
                at += _SIDE.size
                counts = np.frombuffer(body, "<i8", filled, at)
                at += 8 * filled
                side.put(first, counts.astype(np.int64))
        except (struct.error, ValueError) as error:
            raise _envelope.damaged(cls._KIND, str(error)) from error
        if at != len(body) or zeros < 0 or missing < 0:
            raise _envelope.damaged(cls._KIND, "its counts make no sense")
        sketch._zeros, sketch._missing = zeros, missing
        return sketch


class _Side:
    """Buckets of one sign: bucket `n` holds magnitudes of ratio**(n-1) to ratio**n; the lowest also all below it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.first = 0
        self.counts = np.zeros(0, np.int64)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def put(self, first: int, counts: npt.NDArray[np.int64]) -> None:
        if len(counts) > self.most or (len(counts) and counts.min() < 0) or abs(first) > 1 << 40:
            raise ValueError("its buckets make no sense")
        self.first, self.counts = first, counts

    def count(self, numbers: npt.NDArray[np.int64]) -> None:
        if len(numbers):
            found, times = np.unique(numbers, return_counts=True)
            self._add(int(found[0]), found, times)

    def merge(self, other: "_Side") -> None:
        filled = np.flatnonzero(other.counts)
        if len(filled):
            self._add(int(filled[0]) + other.first, filled + other.first, other.counts[filled])

    def _add(self, lowest: int, numbers: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> None:
        first, counts = self.trimmed()
        top = max(int(numbers[-1]), first + len(counts) - 1 if len(counts) else int(numbers[-1]))
        bottom = max(min(lowest, first if len(counts) else lowest), top - self.most + 1)
        room = np.zeros(top - bottom + 1, np.int64)
        np.add.at(room, np.maximum(np.arange(first, first + len(counts)), bottom) - bottom, counts)
        np.add.at(room, np.maximum(numbers, bottom) - bottom, times)
        self.first, self.counts = bottom, room

    def trimmed(self) -> tuple[int, npt.NDArray[np.int64]]:
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return 0, self.counts[:0]
        return self.first + int(filled[0]), self.counts[filled[0] : filled[-1] + 1]


_MISSING = 2


@kernel
def _places(
    values: npt.NDArray[np.float64],
    log_ratio: float,
    numbers: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.int8],
) -> None:
    # Compiled, since numpy's logarithm may round by where in an array a value lies.
    for k in range(len(values)):
        x = values[k]
        numbers[k] = 0
        if not usable(x):
            kinds[k] = _MISSING
        elif abs(x) < _SMALLEST:
            kinds[k] = 0
        else:
            numbers[k] = np.int64(math.ceil(math.log(abs(x)) / log_ratio))
            kinds[k] = 1 if x > 0 else -1
