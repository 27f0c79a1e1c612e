"""EDDM: the distance between errors."""

from types import MappingProxyType

from . import _rows
from ._row import OWN
from ._rows import Number, RowBank, RowDetector, Whole

__all__ = ["EDDM", "EDDMBank"]


class EDDMBank(RowBank):
    """EDDM for many series with equal parameters; `EDDM` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    warm_start, alpha, beta
        As in `EDDM`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "eddm_bank"
    KIND = _rows.EDDM
    FIELDS = MappingProxyType(
        {
            "warm_start": Whole(0),
            "alpha": Number({"least": 0.0, "most": 1.0}),
            "beta": Number({"least": 0.0, "most": 1.0}),
        }
    )

    warm_start: int
    alpha: float
    beta: float

    def __init__(
        self,
        series: int = 1,
        *,
        warm_start: int = 30,
        alpha: float = 0.95,
        beta: float = 0.9,
    ) -> None:
        super().__init__(
            series,
            warm_start=warm_start,
            alpha=alpha,
            beta=beta,
        )

    def _wanted(self) -> tuple[list[float], int]:
        if self.alpha < self.beta:
            raise ValueError(f"alpha must be at least beta, {self.beta}, not {self.alpha}")
        return [self.warm_start, self.alpha, self.beta], OWN + 5


class EDDM(RowDetector):
    """Early drift detection method: the distance between two errors against the longest that it ever was.

    Takes errors: 0 where a prediction was right, 1 where it was wrong (what lies between is no error). A value
    outside 0..1 is missing to it. Alarms where the mean distance and two deviations of it fall below a share of their
    highest; it begins anew after that. Made for slow changes of a low error rate; alarms often on streams that did
    not change.

    Equal to ``river.drift.binary.EDDM`` 0.26.1 in alarms, warnings and state, to the last bit.

    Parameters
    ----------
    warm_start : int
        No alarm before this many values and as many errors.
    alpha : float
        Share of the highest below which it warns, at least `beta`.
    beta : float
        Share of the highest below which it alarms.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> EDDM().update_many(np.concatenate([rng.binomial(1, 0.2, 500), rng.binomial(1, 0.6, 100)]))
    array([180, 341, 514, 561])

    References
    ----------
    Baena-García, del Campo-Ávila, Fidalgo, Bifet, Gavaldà and Morales-Bueno, "Early drift detection method", 2006.
    """

    _BANK = EDDMBank
    warm_start: int
    alpha: float
    beta: float

    def __init__(
        self,
        warm_start: int = 30,
        alpha: float = 0.95,
        beta: float = 0.9,
    ) -> None:
        super().__init__(
            warm_start=warm_start,
            alpha=alpha,
            beta=beta,
        )
