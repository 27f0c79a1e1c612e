"""KSWIN: the newest values against a sample of those before."""

import random
import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt

from . import _envelope
from ._parameters import number, whole
from .values import LARGEST

__all__ = ["KSWIN"]

_HEAD = struct.Struct("<dIIQqQBI")
_LEAST_DISTANCE = 0.1
_MOST = 10_000


class KSWIN:
    """Kolmogorov-Smirnov windowing: the newest values against a random sample of those before, at every value.

    Sees any change of a distribution, not of its mean alone. It asks at every value, with no correction for it: with
    ``alpha=0.005`` it alarms some once in 800 values of a stream that did not change, and is the slowest detector here
    (a sort for each value; it has no bank). For one series that is looked at by people.

    Equal to ``river.drift.KSWIN`` 0.26.1 in alarms and window, for the same seed. river's default seed is another in
    each process; state here is a function of parameters and values, so ours is 0.

    Parameters
    ----------
    alpha : float
        p-value of the two-sample test at or below which it alarms, in [0, 1].
    window_size : int
        Values that are kept; no alarm before there are as many.
    stat_size : int
        Newest values that are compared with as many older ones; at most half the window.
    seed : int
        Seed of the choice of older values.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> detector = KSWIN(alpha=1e-3)
    >>> detector.update_many(np.concatenate([rng.normal(0, 1, 300), rng.normal(0, 5, 100)]))
    array([326])

    References
    ----------
    Raab, Heusinger and Schleif, "Reactive soft prototype computing for concept drift streams", Neurocomputing 416,
    2020. Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för Matematik 3, 1958.
    """

    _KIND = "kswin"
    _LAYOUT = 1

    def __init__(self, alpha: float = 0.005, window_size: int = 100, stat_size: int = 30, seed: int = 0) -> None:
        self.alpha = number("alpha", alpha, least=0.0, most=1.0)
        self.window_size = whole("window_size", window_size, least=2, most=_MOST)
        self.stat_size = whole("stat_size", stat_size, least=1, most=self.window_size // 2)
        self.seed = whole("seed", seed, least=0, most=2**63 - 1)
        self._p_values = _p_values(self.stat_size)
        self._missing = 0
        self._reset()

    def _reset(self) -> None:
        self._drift = False
        self._n = 0
        self._window: deque[float] = deque(maxlen=self.window_size)
        self._random = random.Random(self.seed)  # noqa: S311 - a sample, no secret
        self._p_value = 1.0

    @property
    def drift_detected(self) -> bool:
        """Whether the last value raised an alarm."""
        return self._drift

    @property
    def warning_detected(self) -> bool:
        """False: KSWIN has no warning zone."""
        return False

    @property
    def p_value(self) -> float:
        """Of the last test; 1.0 before the first."""
        return self._p_value

    @property
    def width(self) -> int:
        """Values since the last alarm."""
        return self._n

    @property
    def estimation(self) -> float:
        """Mean of the newest values, at most `stat_size`; 0.0 before the first value."""
        newest = list(self._newest())
        return sum(newest) / len(newest) if newest else 0.0

    @property
    def missing(self) -> int:
        """Values left out: NaN, infinite or beyond 1e100 in magnitude."""
        return self._missing

    def _newest(self) -> Iterator[float]:
        return islice(self._window, max(0, len(self._window) - self.stat_size), None)

    def update(self, value: float) -> bool:
        """Add one value; return whether it raised an alarm (river's returns nothing)."""
        x = float(value)
        if self._drift:
            self._reset()
        if not -LARGEST <= x <= LARGEST:
            self._missing += 1
            return False
        self._n += 1
        self._window.append(x)
        if len(self._window) < self.window_size:
            return False
        window = list(self._window)
        older = self.window_size - self.stat_size
        sample = sorted(window[place] for place in self._random.sample(range(older), self.stat_size))
        apart = _apart(sample, sorted(window[older:]))
        self._p_value = self._p_values[apart]
        self._drift = self._p_value <= self.alpha and apart / self.stat_size > _LEAST_DISTANCE
        return self._drift

    def update_many(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Add a 1-D array of values; return the positions in it at which an alarm was raised, ascending.

        Raises
        ------
        ValueError
            If `values` is not one-dimensional.
        """
        column = np.asarray(values, np.float64)
        if column.ndim != 1:
            raise ValueError(f"values must be one-dimensional, not of the shape {list(column.shape)}")
        return np.array([k for k, value in enumerate(column.tolist()) if self.update(value)], np.int64)

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""
        _, words, _ = self._random.getstate()
        head = _HEAD.pack(
            self.alpha, self.window_size, self.stat_size, self.seed, self._n, self._missing, self._drift,
            len(self._window),
        )  # fmt: skip
        body = struct.pack(f"<d{len(words)}I{len(self._window)}d", self._p_value, *words, *self._window)
        return _envelope.wrap(self._KIND, self._LAYOUT, head + body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make the detector again from `to_bytes`; it goes on exactly where it was.

        Raises
        ------
        ValueError
            If the bytes are damaged, of another kind or of an unknown layout.
        """
        body = _envelope.unwrap(data, cls._KIND, cls._LAYOUT)
        if len(body) < _HEAD.size:
            raise _envelope.damaged(cls._KIND, "it ends within the parameters")
        alpha, window_size, stat_size, seed, n, missing, drift, kept = _HEAD.unpack_from(body)
        try:
            detector = cls(alpha, window_size, stat_size, seed)
            state = struct.Struct(f"<d{_WORDS}I{kept}d")
            p_value, *rest = state.unpack(body[_HEAD.size :])
            detector._random.setstate((3, tuple(rest[:_WORDS]), None))
        except (ValueError, struct.error) as error:
            raise _envelope.damaged(cls._KIND, str(error)) from error
        window = rest[_WORDS:]
        if kept != min(n, window_size) or drift > 1 or not all(abs(x) <= LARGEST for x in window):
            raise _envelope.damaged(cls._KIND, "its window makes no sense")
        detector._window.extend(window)
        detector._n, detector._missing = n, missing
        detector._drift, detector._p_value = bool(drift), p_value
        return detector


_WORDS = 625
"""Of the Mersenne Twister's state in Python's `random`."""


def _apart(one: list[float], other: list[float]) -> int:
    """Largest distance of the distribution functions of two sorted samples of equal size, in values."""
    return max(abs(bisect_right(one, x) - bisect_right(other, x)) for x in (*one, *other))


def _p_values(n: int) -> list[float]:
    """Exact two-sided p-values of the two-sample test for two samples of `n`, by the distance in values, 0 to `n`.

    By the reflection principle: twice the alternating sum of C(2n, n - j h) over C(2n, n).
    """
    ratios = [1.0]
    for k in range(1, n + 1):
        ratios.append(ratios[-1] * (n - k + 1) / (n + k))
    found = [1.0]
    for apart in range(1, n + 1):
        terms = (ratio if j % 2 == 0 else -ratio for j, ratio in enumerate(ratios[apart::apart]))
        found.append(min(1.0, max(0.0, 2.0 * sum(terms))))
    return found
