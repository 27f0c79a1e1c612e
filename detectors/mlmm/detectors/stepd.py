"""STEPD: the newest errors against all older ones."""

from types import MappingProxyType

from . import _rows
from ._row import OWN
from ._rows import Number, RowBank, RowDetector, Whole

__all__ = ["STEPD", "STEPDBank"]


class STEPDBank(RowBank):
    """STEPD for many series with equal parameters; `STEPD` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    window_size, alpha_drift, alpha_warning
        As in `STEPD`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "stepd_bank"
    KIND = _rows.STEPD
    FIELDS = MappingProxyType(
        {
            "window_size": Whole(1, 100_000),
            "alpha_drift": Number({"above": 0.0, "below": 1.0}),
            "alpha_warning": Number({"above": 0.0, "below": 1.0}),
        }
    )

    window_size: int
    alpha_drift: float
    alpha_warning: float

    def __init__(
        self,
        series: int = 1,
        *,
        window_size: int = 30,
        alpha_drift: float = 0.003,
        alpha_warning: float = 0.05,
    ) -> None:
        super().__init__(
            series,
            window_size=window_size,
            alpha_drift=alpha_drift,
            alpha_warning=alpha_warning,
        )

    def _wanted(self) -> tuple[list[float], int]:
        return [self.window_size, self.alpha_drift, self.alpha_warning], OWN + 2 + self.window_size


class STEPD(RowDetector):
    """STEPD: the error rate of a recent window against that of all older values, by a test of equal proportions.

    Takes errors: 0 where a prediction was right, 1 where it was wrong. A value outside
    0..1 is missing to it. Alarms where the recent rate is higher and the test, with the correction for continuity,
    says so; it begins anew after that. Quick, and asked at every value: with its defaults it alarms every few hundred
    values on a stream that did not change.

    Parameters
    ----------
    window_size : int
        Values in the recent window; no alarm before there are as many older ones.
    alpha_drift : float
        Two-sided p-value below which it alarms.
    alpha_warning : float
        Two-sided p-value below which it warns.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> detector = STEPD(alpha_drift=0.0001)
    >>> detector.update_many(np.concatenate([rng.binomial(1, 0.2, 500), rng.binomial(1, 0.7, 100)]))
    array([524])

    References
    ----------
    Nishida and Yamauchi, "Detecting concept drift using statistical testing", Discovery Science 2007.
    """

    _BANK = STEPDBank
    window_size: int
    alpha_drift: float
    alpha_warning: float

    def __init__(
        self,
        window_size: int = 30,
        alpha_drift: float = 0.003,
        alpha_warning: float = 0.05,
    ) -> None:
        super().__init__(
            window_size=window_size,
            alpha_drift=alpha_drift,
            alpha_warning=alpha_warning,
        )
