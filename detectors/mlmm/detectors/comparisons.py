"""Is this still the distribution of the reference? Each answer has a statistic, a p-value, an effect size, and n.

Large samples make any difference significant and small ones make none: a p-value says whether there is a difference,
the effect size whether it matters. Ask for both.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from .reference import Counts
from .sketch import QuantileSketch

__all__ = [
    "Comparison",
    "chi_squared",
    "g_test",
    "hellinger",
    "jensen_shannon",
    "kolmogorov_smirnov",
    "psi",
    "wasserstein",
]

_Shares = npt.NDArray[np.float64]


class Comparison(NamedTuple):
    """What a comparison found."""

    statistic: float
    """By its name; NaN where either side is empty."""
    p_value: float | None
    """Chance of such a difference, or a larger one, without any; None where no such figure exists."""
    effect: float
    """How large the difference is, whatever n: see each comparison."""
    reference: int
    """Values in the reference."""
    current: int
    """Values compared with it."""
    error: float = 0.0
    """By how much the statistic may be too low, since a sketch rounds."""


def psi(reference: Counts, current: Counts) -> Comparison:
    """Population stability index, in nats, freed of its bias.

    Without any change the plain index is some (classes - 1)(1/n + 1/m), which is more than the customary 0.1 for 10
    classes and 100 values: that is taken off here. Classes that are empty on one side count half a value.

    Parameters
    ----------
    reference, current : Counts
        Of the same reference.

    Returns
    -------
    Comparison
        Statistic: the plain index. Effect: the index without bias, at least 0; below 0.1 is customarily no change,
        above 0.25 a large one. The p-value is by χ² and asymptotic: it needs some 5 values a class.

    References
    ----------
    Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation
    14, 2020.
    """

    def index(p: _Shares, q: _Shares) -> float:
        return float(((q - p) * np.log(q / p)).sum())

    def judged(plain: float, per: float, classes: int) -> tuple[float, float]:
        return plain / per, max(0.0, plain - (classes - 1) * per)

    return _divergence(reference, current, index, judged, half=True)


def jensen_shannon(reference: Counts, current: Counts) -> Comparison:
    """Jensen-Shannon divergence, in nats.

    Returns
    -------
    Comparison
        Effect: the Jensen-Shannon distance, the root of the divergence in bits, 0..1. The p-value is by χ² and
        asymptotic.

    References
    ----------
    Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37, 1991.
    """

    def divergence(p: _Shares, q: _Shares) -> float:
        middle = (p + q) / 2
        return float(special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum()) / 2

    def judged(plain: float, per: float, classes: int) -> tuple[float, float]:  # noqa: ARG001 - one door for all
        return 8 * plain / per, math.sqrt(plain / math.log(2))

    return _divergence(reference, current, divergence, judged)


def hellinger(reference: Counts, current: Counts) -> Comparison:
    """Hellinger distance, 0..1.

    Returns
    -------
    Comparison
        Effect: the distance. The p-value is by χ² and asymptotic.

    References
    ----------
    Hellinger, "Neue Begründung der Theorie quadratischer Formen", 1909.
    """

    def distance(p: _Shares, q: _Shares) -> float:
        return math.sqrt(max(0.0, 1.0 - float(np.sqrt(p * q).sum())))

    def judged(plain: float, per: float, classes: int) -> tuple[float, float]:  # noqa: ARG001 - one door for all
        return 8 * plain**2 / per, plain

    return _divergence(reference, current, distance, judged)


def chi_squared(reference: Counts, current: Counts) -> Comparison:
    """Pearson's χ² test that both are of one distribution. Effect: Cramér's V, 0..1."""
    return _homogeneity(reference, current, pearson=True)


def g_test(reference: Counts, current: Counts) -> Comparison:
    """Likelihood-ratio test that both are of one distribution. Effect: Cramér's V, 0..1."""
    return _homogeneity(reference, current, pearson=False)


def kolmogorov_smirnov(reference: QuantileSketch, current: QuantileSketch) -> Comparison:
    """Kolmogorov and Smirnov's largest distance of two distribution functions, of sketches.

    It is exact at the bounds of the buckets. Within a bucket the distance may be larger by what `error` says; the
    p-value is that of the distance at the bounds, so never too low for that reason.

    Returns
    -------
    Comparison
        Effect: the distance, 0..1. The p-value is asymptotic.

    References
    ----------
    Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of Mathematical Statistics
    19, 1948.
    """
    _same(reference, current)
    n, m = reference.count, current.count
    if not n or not m:
        return Comparison(math.nan, None, math.nan, n, m)
    _, one, other = _common(reference, current)
    distance = float(np.abs(np.cumsum(one) - np.cumsum(other)).max())
    within = float(np.maximum(one, other).max())
    root = math.sqrt(n * m / (n + m))
    return Comparison(distance, float(special.kolmogorov(root * distance)), distance, n, m, min(within, 1 - distance))


def wasserstein(reference: QuantileSketch, current: QuantileSketch) -> Comparison:
    """Wasserstein's distance: how far, on average, values had to move. In the unit of the values.

    Returns
    -------
    Comparison
        Effect: the distance in standard deviations of the reference (infinite where that has none and there is a
        distance). No p-value: its distribution depends on that of the values. `error` is what rounding to buckets may
        hide.

    References
    ----------
    Vallender, "Calculation of the Wasserstein distance between probability distributions on the line", 1974.
    """
    _same(reference, current)
    n, m = reference.count, current.count
    if not n or not m:
        return Comparison(math.nan, None, math.nan, n, m)
    places, one, other = _common(reference, current)
    apart = np.abs(np.cumsum(one) - np.cumsum(other))[:-1]
    distance = float((apart * np.diff(places)).sum())
    mean = float((one * places).sum())
    sd = math.sqrt(float((one * (places - mean) ** 2).sum()))
    error = float(((one + other) * np.abs(places)).sum()) * reference.relative_error
    effect = distance / sd if sd else (0.0 if distance == 0 else math.inf)
    return Comparison(distance, None, effect, n, m, error)


_Judged = Callable[[float, float, int], tuple[float, float]]


def _divergence(
    reference: Counts,
    current: Counts,
    divergence: Callable[[_Shares, _Shares], float],
    judged: _Judged,
    *,
    half: bool = False,
) -> Comparison:
    """Compare shares; `judged` makes of a divergence, 1/n + 1/m and the classes a χ² and the effect."""
    one, other = _filled(reference, current)
    n, m, classes = reference.n, current.n, len(one)
    if not n or not m:
        return Comparison(math.nan, None, math.nan, n, m)
    if classes < 2:
        return Comparison(0.0, 1.0, 0.0, n, m)
    a, b = one.astype(np.float64), other.astype(np.float64)
    if half:
        a[a == 0] = b[b == 0] = 0.5
    plain = divergence(a / a.sum(), b / b.sum())
    square, effect = judged(plain, 1 / n + 1 / m, classes)
    return Comparison(plain, float(special.chdtrc(classes - 1, max(square, 0.0))), effect, n, m)


def _homogeneity(reference: Counts, current: Counts, *, pearson: bool) -> Comparison:
    one, other = _filled(reference, current)
    n, m = reference.n, current.n
    if not n or not m:
        return Comparison(math.nan, None, math.nan, n, m)
    if len(one) < 2:
        return Comparison(0.0, 1.0, 0.0, n, m)
    both = np.stack([one, other]).astype(np.float64)
    expected = both.sum(axis=0) * np.array([[n], [m]]) / (n + m)
    square = float(((both - expected) ** 2 / expected).sum())
    statistic = square if pearson else float(2 * special.rel_entr(both, expected).sum())
    return Comparison(
        statistic, float(special.chdtrc(len(one) - 1, max(statistic, 0.0))), math.sqrt(square / (n + m)), n, m
    )


def _filled(reference: Counts, current: Counts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Classes that either side has seen."""
    if len(reference.counts) != len(current.counts):
        raise ValueError(
            f"counts of {len(reference.counts)} and of {len(current.counts)} classes are of two references"
        )
    seen = (reference.counts + current.counts) > 0
    return reference.counts[seen], current.counts[seen]


def _same(reference: QuantileSketch, current: QuantileSketch) -> None:
    if reference.relative_error != current.relative_error:
        raise ValueError(
            f"sketches of relative_error {reference.relative_error} and {current.relative_error} have other buckets"
        )


def _common(reference: QuantileSketch, current: QuantileSketch) -> tuple[_Shares, _Shares, _Shares]:
    """Middles of all buckets that either has filled, ascending, and the share of each side in them."""
    (one_bounds, one), (other_bounds, other) = reference.buckets(), current.buckets()
    middles = [bounds.mean(axis=1) for bounds in (one_bounds, other_bounds)]
    places = np.unique(np.concatenate(middles))
    shares = []
    for middle, counts in zip(middles, (one, other), strict=True):
        share = np.zeros(len(places))
        share[np.searchsorted(places, middle)] = counts / counts.sum()
        shares.append(share)
    return places, shares[0], shares[1]
