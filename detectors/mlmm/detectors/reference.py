"""References: what a feature looked like in training, and counts of what it looks like now, in the same classes."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._parameters import whole
from .values import LARGEST

__all__ = ["CategoryReference", "Counts", "NumericReference"]


class Counts(NamedTuple):
    """How often each class of a reference came; two of one reference add up with `+`."""

    counts: npt.NDArray[np.int64]
    """int64 [classes]."""
    missing: int = 0
    """Values that were missing; in no class."""

    @property
    def n(self) -> int:
        """Values that were counted."""
        return int(self.counts.sum())

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        if len(self.counts) != len(other.counts):
            raise ValueError(f"counts of {len(self.counts)} and of {len(other.counts)} classes are of two references")
        return Counts(self.counts + other.counts, self.missing + other.missing)


class NumericReference:
    """Bins between the quantiles of a reference, with as nearly as can be the same share in each.

    A value that comes often (zero in a sparse feature) can fill several bins; these are one then.

    Parameters
    ----------
    values : array_like of float
        The reference, at least two that are not missing (NaN, infinite or beyond 1e100).
    bins : int
        How many are wanted, 2 to 1,000.

    Attributes
    ----------
    edges : float64 [bins - 1]
        Inner bounds; a value equal to one lies below it.
    counts : Counts
        Of the reference itself.
    mean, sd : float
        Of the reference.

    Raises
    ------
    ValueError
        For too few values or a wrong number of bins.
    """

    def __init__(self, values: npt.ArrayLike, bins: int = 20) -> None:
        bins = whole("bins", bins, least=2, most=1000)
        flat = np.asarray(values, np.float64).reshape(-1)
        kept = flat[np.abs(flat) <= LARGEST]
        if len(kept) < 2:
            raise ValueError(f"a reference needs at least 2 values that are not missing, not {len(kept)}")
        inner = np.quantile(kept, np.arange(1, bins) / bins, method="inverted_cdf")
        self.edges: npt.NDArray[np.float64] = np.unique(inner)
        if self.edges[-1] == kept.max():  # nothing would ever lie above
            self.edges = self.edges[:-1]
        self.mean = float(kept.mean())
        self.sd = float(kept.std(ddof=1))
        self.counts = self.count(flat)

    def count(self, values: npt.ArrayLike) -> Counts:
        """Count an array of values in the bins."""
        flat = np.asarray(values, np.float64).reshape(-1)
        kept = flat[np.abs(flat) <= LARGEST]
        places = np.searchsorted(self.edges, kept, side="left")
        return Counts(np.bincount(places, minlength=len(self.edges) + 1).astype(np.int64), len(flat) - len(kept))


class CategoryReference:
    """The most frequent categories of a reference, all its others as one class, and one for what it never saw.

    Parameters
    ----------
    values : iterable of hashable
        The reference; None and NaN are missing.
    top : int
        Categories with a class of their own, 1 to 10,000.
    known : int
        Categories that are remembered; of a reference with more, the rarest count as never seen.

    Attributes
    ----------
    categories : tuple
        Those with a class of their own, most frequent first, equal ones by their text.
    counts : Counts
        Of the reference: its categories, others, never seen (none).

    Raises
    ------
    ValueError
        If there is no value or a parameter is out of its range.
    """

    def __init__(self, values: Iterable[Hashable], top: int = 50, known: int = 100_000) -> None:
        top = whole("top", top, least=1, most=10_000)
        given = list(values)
        tally = Counter(value for value in given if not _missing(value))
        if not tally:
            raise ValueError("a reference needs at least one value that is not missing")
        ranked = sorted(tally, key=lambda value: (-tally[value], str(value), type(value).__name__))
        self.categories = tuple(ranked[:top])
        self._class = {value: k for k, value in enumerate(self.categories)}
        self._others = frozenset(ranked[top : whole("known", known, least=top, most=10_000_000)])
        self.counts = self.count(given)

    def count(self, values: Sequence[Hashable] | Iterable[Hashable]) -> Counts:
        """Count values in the classes: the categories, others, never seen."""
        counts = np.zeros(len(self.categories) + 2, np.int64)
        missing = 0
        for value, times in Counter(None if _missing(value) else value for value in values).items():
            if value is None:
                missing = times
            else:
                other = len(self.categories) + (value not in self._others)
                counts[self._class.get(value, other)] += times
        return Counts(counts, missing)


def _missing(value: Hashable) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
