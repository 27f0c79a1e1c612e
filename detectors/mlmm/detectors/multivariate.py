"""Many columns at once: a bounded sample of rows, and three ways to ask whether two samples are of one distribution."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ._parameters import whole
from .compiled import kernel

__all__ = ["ProjectionDrift", "Reservoir", "RowComparison", "domain_classifier", "energy_test", "projection_test"]

_Matrix = npt.NDArray[np.float64]
_MOST_ROWS = 100_000


class Reservoir:
    """A uniform sample of rows, bounded, and a function of the rows and their ordinals alone.

    Each row has a priority, a hash of its ordinal; the rows of the lowest priorities stay. So the sample does not
    depend on how the rows were cut into calls, and the reservoirs of two parts of a stream merge into that of the
    whole.

    Parameters
    ----------
    size : int
        Rows kept at most, 1 to 100,000.
    columns : int
        Values of a row.
    seed : int
        Another seed gives another sample.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    def __init__(self, size: int, columns: int, seed: int = 0) -> None:
        self.size = whole("size", size, least=1, most=_MOST_ROWS)
        self.columns = whole("columns", columns, least=1, most=100_000)
        self.seed = whole("seed", seed, least=0, most=2**63 - 1)
        self._seen = 0
        self._priorities = np.empty(0, np.uint64)
        self._rows: _Matrix = np.empty((0, self.columns))

    @property
    def seen(self) -> int:
        """Rows offered, those with a missing value included."""
        return self._seen

    @property
    def rows(self) -> _Matrix:
        """The sample, float64 [rows, columns], by priority."""
        return self._rows.copy()

    def add(self, rows: npt.ArrayLike, first: int | None = None) -> None:
        """Offer rows; one with a value that is not finite is never kept.

        Parameters
        ----------
        rows : array_like of float, [rows, columns]
        first : int, optional
            Ordinal of the first one, where it is not the number seen so far: for the second part of a stream.

        Raises
        ------
        ValueError
            If the rows have another number of columns.
        """
        given = np.asarray(rows, np.float64)
        if given.ndim != 2 or given.shape[1] != self.columns:
            raise ValueError(f"rows must have the shape [rows, {self.columns}], not {list(given.shape)}")
        start = self._seen if first is None else whole("first", first, least=0, most=2**62)
        usable = np.isfinite(given).all(axis=1)
        ordinals = np.flatnonzero(usable) + start
        priorities = np.empty(len(ordinals), np.uint64)
        _priorities(ordinals.astype(np.uint64), np.uint64(self.seed), priorities)
        self._keep(priorities, given[usable])
        self._seen += len(given)

    def merge(self, other: "Reservoir") -> None:
        """Take in another one's rows; their ordinals must differ from ours (`add` with `first`)."""
        if (self.size, self.columns, self.seed) != (other.size, other.columns, other.seed):
            raise ValueError("reservoirs of different size, columns or seed can't be merged")
        self._keep(other._priorities, other._rows)  # noqa: SLF001 - its own class
        self._seen += other._seen  # noqa: SLF001

    def _keep(self, priorities: npt.NDArray[np.uint64], rows: _Matrix) -> None:
        if len(self._rows) == self.size:
            sooner = priorities < self._priorities[-1]
            priorities, rows = priorities[sooner], rows[sooner]
        if not len(rows):
            return
        everyone = np.concatenate([self._priorities, priorities])
        best = np.argsort(everyone, kind="stable")[: self.size]
        self._rows = np.concatenate([self._rows, rows])[best]
        self._priorities = everyone[best]


class RowComparison(NamedTuple):
    """What a comparison of two samples of rows found."""

    statistic: float
    """By its test; NaN where a side has too few rows."""
    p_value: float
    """Chance of such a difference, or a larger one, without any."""
    effect: float
    """How large it is, whatever n: see each test."""
    reference: int
    """Rows of the reference."""
    current: int
    """Rows compared with it."""


def energy_test(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, permutations: int = 199, seed: int = 0
) -> RowComparison:
    """Energy test: sees any difference of two multivariate distributions; by permutations.

    Columns are standardised by the reference. Takes time and memory of the square of the rows: use a `Reservoir` of
    some 500 a side.

    Parameters
    ----------
    reference, current : array_like of float, [rows, columns]
        Without missing values, at least 2 rows each.
    permutations : int
        The p-value is a multiple of 1 / (permutations + 1).
    seed : int
        Of the permutations.

    Returns
    -------
    RowComparison
        Statistic: the energy distance of the standardised rows times nm/(n + m). Effect: the distance over its highest
        possible value, 0..1.

    References
    ----------
    Székely and Rizzo, "Testing for equal distributions in high dimension", InterStat 5, 2004.
    """
    a, b = _standardised(reference, current)
    n, m = len(a), len(b)
    both = np.concatenate([a, b])
    squares = (both**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * both @ both.T, 0.0))
    np.fill_diagonal(apart, 0.0)

    def distance(first: npt.NDArray[np.bool_]) -> tuple[float, float]:
        rows = apart @ first
        within_a, between = float(rows[first].sum()), float(rows[~first].sum())
        within_b = float(apart.sum()) - within_a - 2 * between
        cross = 2 * between / (n * m)
        return cross - within_a / n**2 - within_b / m**2, cross

    labels = np.arange(n + m) < n
    found, highest = distance(labels)
    rng = np.random.default_rng(whole("seed", seed, least=0, most=2**63 - 1))
    times = whole("permutations", permutations, least=1, most=1_000_000)
    as_far = sum(distance(rng.permutation(labels))[0] >= found - 1e-12 for _ in range(times))
    p_value = (1 + as_far) / (times + 1)
    return RowComparison(found * n * m / (n + m), p_value, max(0.0, found / highest) if highest else 0.0, n, m)


def domain_classifier(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, folds: int = 5, seed: int = 0
) -> RowComparison:
    """Can a classifier tell the two samples apart? Logistic regression on columns and their squares, cross-validated.

    Says how well they can be told apart in a figure that people know, the area under the ROC curve. It sees changes of
    means, spreads and what is linear in them; for any others there is `energy_test`.

    Parameters
    ----------
    reference, current : array_like of float, [rows, columns]
        Without missing values, at least `folds` rows each.
    folds : int
        Parts of the cross-validation, at least 2.
    seed : int
        Of the parts.

    Returns
    -------
    RowComparison
        Statistic: the area under the curve, .5 for samples that can't be told apart. Effect: 2 AUC - 1, at least 0. The
        p-value is Mann and Whitney's within each part, the parts added up.

    References
    ----------
    Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017.
    """
    folds = whole("folds", folds, least=2, most=100)
    a, b = _standardised(reference, current, least=folds)
    x = np.concatenate([a, b])
    x = np.concatenate([np.ones((len(x), 1)), x, x**2 - 1.0], axis=1)
    y = np.arange(len(x)) >= len(a)
    rng = np.random.default_rng(whole("seed", seed, least=0, most=2**63 - 1))
    part = np.empty(len(x), np.int64)
    for side in (~y, y):  # each part has its share of both
        part[side] = rng.permutation(np.arange(int(side.sum())) % folds)
    wins = expected = variance = pairs = 0.0
    for fold in range(folds):
        inside = part == fold
        scores = x[inside] @ _logistic(x[~inside], y[~inside].astype(np.float64))
        n, m = int((~y[inside]).sum()), int(y[inside].sum())
        ranks = _ranks(scores)
        wins += float(ranks[y[inside]].sum()) - m * (m + 1) / 2
        pairs += n * m
        expected += n * m / 2
        variance += n * m * (n + m + 1) / 12
    auc = wins / pairs
    z = (wins - expected) / math.sqrt(variance)
    return RowComparison(auc, float(special.ndtr(-z)), max(0.0, 2 * auc - 1), len(a), len(b))


class ProjectionDrift:
    """Drift of embeddings: a reference seen along random directions, and rows compared with it along the same ones.

    Parameters
    ----------
    reference : array_like of float, [rows, columns]
        Without missing values, at least 2 rows.
    projections : int
        Directions, 1 to 1,000. A change of the mean along none of them stays unseen: in d dimensions one of k random
        directions shows a share of about sqrt(2 log k / d) of it.
    seed : int
        Of the directions.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    def __init__(self, reference: npt.ArrayLike, projections: int = 32, seed: int = 0) -> None:
        rows = _rows("reference", reference, 2)
        self.projections = whole("projections", projections, least=1, most=1000)
        self.seed = whole("seed", seed, least=0, most=2**63 - 1)
        rng = np.random.default_rng(self.seed)
        directions = rng.normal(size=(rows.shape[1], self.projections))
        self._directions = directions / np.linalg.norm(directions, axis=0)
        self._reference = np.sort(rows @ self._directions, axis=0)

    def compare(self, current: npt.ArrayLike) -> RowComparison:
        """Compare rows with the reference.

        Returns
        -------
        RowComparison
            Statistic and effect: the largest Kolmogorov-Smirnov distance of all directions, 0..1. The p-value is that
            of Holm and Bonferroni, which holds however the directions depend on one another.
        """
        rows = _rows("current", current, 2)
        if rows.shape[1] != len(self._directions):
            raise ValueError(f"current must have {len(self._directions)} columns, not {rows.shape[1]}")
        seen = np.sort(rows @ self._directions, axis=0)
        n, m = len(self._reference), len(seen)
        farthest = max(_distance(self._reference[:, k], seen[:, k]) for k in range(self.projections))
        one = float(special.kolmogorov(math.sqrt(n * m / (n + m)) * farthest))
        return RowComparison(farthest, min(1.0, self.projections * one), farthest, n, m)


def projection_test(
    reference: npt.ArrayLike, current: npt.ArrayLike, *, projections: int = 32, seed: int = 0
) -> RowComparison:
    """Compare two samples of embeddings once; `ProjectionDrift` keeps the reference for many times."""
    return ProjectionDrift(reference, projections, seed).compare(current)


def _rows(name: str, given: npt.ArrayLike, least: int) -> _Matrix:
    rows = np.asarray(given, np.float64)
    if rows.ndim != 2 or len(rows) < least or not rows.shape[1]:
        raise ValueError(f"{name} must have the shape [at least {least} rows, columns], not {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} has values that are missing or not finite: leave such rows out, as Reservoir does")
    return rows


def _standardised(reference: npt.ArrayLike, current: npt.ArrayLike, least: int = 2) -> tuple[_Matrix, _Matrix]:
    a, b = _rows("reference", reference, least), _rows("current", current, least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"reference has {a.shape[1]} columns and current {b.shape[1]}")
    centre, spread = a.mean(axis=0), a.std(axis=0)
    spread = np.where(spread > 1e-12 * np.maximum(np.abs(centre), 1e-100), spread, np.maximum(np.abs(centre), 1.0))
    return np.clip((a - centre) / spread, -1e6, 1e6), np.clip((b - centre) / spread, -1e6, 1e6)


def _logistic(x: _Matrix, y: _Matrix) -> _Matrix:
    """Coefficients of a ridge-penalised logistic regression, by Newton's method; the sides weigh the same."""
    weight = np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    penalty = np.eye(x.shape[1])
    penalty[0, 0] = 1e-6
    scale = np.maximum(np.abs(x).max(axis=0), 1.0)
    x = x / scale
    beta = np.zeros(x.shape[1])
    for _ in range(25):
        p = special.expit(x @ beta)
        slope = x.T @ (weight * (y - p)) - penalty @ beta
        bend = (x * (weight * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ x + penalty
        step = np.linalg.solve(bend, slope)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    coefficients: _Matrix = beta / scale
    return coefficients


def _ranks(values: _Matrix) -> _Matrix:
    """Ranks from 1; equal values share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: _Matrix = (ends - (counts - 1) / 2)[inverse]
    return ranks


def _distance(one: _Matrix, other: _Matrix) -> float:
    """Kolmogorov-Smirnov distance of two sorted samples."""
    both = np.concatenate([one, other])
    f = np.searchsorted(one, both, side="right") / len(one)
    g = np.searchsorted(other, both, side="right") / len(other)
    return float(np.abs(f - g).max())


@kernel
def _priorities(ordinals: npt.NDArray[np.uint64], seed: np.uint64, priorities: npt.NDArray[np.uint64]) -> None:
    """SplitMix64's finaliser of each ordinal: a bijection, so no two are equal. Steele, Lea and Flood, OOPSLA 2014."""
    for k in range(len(ordinals)):
        z = ordinals[k] + (seed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        priorities[k] = z ^ (z >> np.uint64(31))
