"""The test of one ADWIN window: whether a cut parts it in two whose means differ by more than chance allows."""

import math

import numpy as np
import numpy.typing as npt

from .compiled import kernel

__all__ = ["cut_found"]

# The quick test compares rounded figures with rounded figures. 8 ulp of the summands bounds what the subtraction of two
# means may have lost; 1e-9 is far more than all other roundings together.
_ULPS = 8.0 * 2.0**-52
_SURE = 1.0 - 1e-9


@kernel
def cut_found(  # noqa: PLR0917 - kernels are called by position
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.uint8],
    levels: int,
    width: float,
    total: float,
    variance: float,
    delta: float,
    min_window: int,
    max_buckets: int,
) -> bool:
    """Whether any cut between two buckets separates means that differ by more than epsilon.

    Parameters
    ----------
    totals : float64 [levels, buckets]
        Sums of the buckets of one series, oldest first in each level; the highest level is the oldest.
    counts : uint8 [levels]
        Buckets in use.
    levels, width, total, variance
        The window, as in `AdwinArrays`.
    delta, min_window, max_buckets
        As in `adwin_push`.
    """
    if width < 2.0:
        return False
    prime = math.log(2.0 * math.log(width) / delta)
    # Multiplied by n0 * n1, epsilon is at least either of these: the harmonic term only shrinks with min_window.
    linear = 2.0 / 3.0 * prime * width * _SURE
    square = 2.0 * variance * prime * _SURE
    if square < 1e-150:  # squares near the denormals lose digits
        square = 0.0
    # The default in figures: a loop of known length has no branch to guess wrong.
    if max_buckets == 5:
        possible = _possible(totals, counts, levels, width, total, linear, square, 5)
    else:
        possible = _possible(totals, counts, levels, width, total, linear, square, max_buckets)
    return possible and _certain(totals, counts, levels, width, total, variance, prime, min_window)


@kernel(inline=True)
def _possible(  # noqa: PLR0917 - kernels are called by position
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.uint8],
    levels: int,
    width: float,
    total: float,
    linear: float,
    square: float,
    max_buckets: int,
) -> bool:
    """Whether some cut may differ enough. Without divisions, roots and branches; nearly always False."""
    n0 = 0.0
    n1 = width
    u0 = 0.0
    u1 = total
    size = 2.0**levels
    near = False
    for level in range(levels - 1, -1, -1):
        size *= 0.5
        count = np.int64(counts[level])
        for k in range(max_buckets):
            # Past the buckets in use the cut before is looked at again.
            n = size if k < count else 0.0
            u = totals[level, k] if k < count else 0.0
            n0 += n
            n1 -= n
            u0 += u
            u1 -= u
            cross0 = u0 * n1
            cross1 = u1 * n0
            gap = abs(cross0 - cross1) + _ULPS * (abs(cross0) + abs(cross1))
            near |= not ((gap < linear) | (gap * gap < square * n0 * n1))
    return near


@kernel
def _certain(  # noqa: PLR0917 - kernels are called by position
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.uint8],
    levels: int,
    width: float,
    total: float,
    variance: float,
    prime: float,
    min_window: int,
) -> bool:
    """What river computes for each cut, in its order."""
    spread = variance / width
    n0 = 0.0
    n1 = width
    u0 = 0.0
    u1 = total
    size = 2.0**levels
    for level in range(levels - 1, -1, -1):
        size *= 0.5
        for k in range(np.int64(counts[level])):
            n0 += size
            n1 -= size
            u0 += totals[level, k]
            u1 -= totals[level, k]
            if n1 < min_window:
                return False
            if n0 < min_window:
                continue
            recip = 1.0 / (n0 - min_window + 1.0) + 1.0 / (n1 - min_window + 1.0)
            radicand = 2.0 * recip * spread * prime
            # A negative variance, left by cancellation, is no cut: river's comparison with NaN.
            if radicand >= 0.0 and abs(u0 / n0 - u1 / n1) > math.sqrt(radicand) + 2.0 / 3.0 * prime * recip:
                return True
    return False
