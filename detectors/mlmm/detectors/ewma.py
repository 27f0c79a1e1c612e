"""EWMA chart: an exponentially weighted mean against a baseline."""

import math
from types import MappingProxyType

from . import _rows
from ._row import MODES, OWN
from ._rows import Choice, Number, RowBank, RowDetector, Whole
from .values import LARGEST

__all__ = ["EWMA", "EWMABank"]


class EWMABank(RowBank):
    """EWMA for many series with equal parameters; `EWMA` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    lambda_, limit, baseline, mode
        As in `EWMA`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "ewma_bank"
    KIND = _rows.EWMA
    FIELDS = MappingProxyType(
        {
            "lambda_": Number({"above": 0.0, "most": 1.0}),
            "limit": Number({"above": 0.0, "most": LARGEST}),
            "baseline": Whole(0),
            "mode": Choice(("up", "down", "both")),
        }
    )

    lambda_: float
    limit: float
    baseline: int
    mode: str

    def __init__(
        self,
        series: int = 1,
        *,
        lambda_: float = 0.1,
        limit: float = 2.814,
        baseline: int = 100,
        mode: str = "both",
    ) -> None:
        super().__init__(
            series,
            lambda_=lambda_,
            limit=limit,
            baseline=baseline,
            mode=mode,
        )

    def _wanted(self) -> tuple[list[float], int]:
        if self.baseline == 1:
            raise ValueError("baseline must be 0 or at least 2, not 1")
        spread = math.sqrt(self.lambda_ / (2.0 - self.lambda_))
        return [self.lambda_, self.limit * spread, self.baseline, MODES[self.mode]], OWN + 1


class EWMA(RowDetector):
    """EWMA chart for a small change of the mean.

    Learns location and scale from its first values, then alarms where the exponentially weighted mean leaves its
    limits; it begins anew after that. The limits are those of the long run, the same from the first value on. Much like
    `CUSUM` in what it finds; easier to draw. ``lambda_=0.1, limit=2.814`` and ``lambda_=0.2, limit=2.962`` have a mean
    time of 500 values between false alarms where location and scale are known exactly.

    Parameters
    ----------
    lambda_ : float
        Weight of the newest value, in (0, 1].
    limit : float
        Limit, in standard deviations of the weighted mean.
    baseline : int
        Values that location and scale are learnt from, at least 2; 0 for values that are standardised already.
    mode : {"up", "down", "both"}
        Which changes raise an alarm.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> detector = EWMA(limit=4.0)
    >>> detector.update_many(np.concatenate([rng.normal(3, 2, 500), rng.normal(6, 2, 20)]))
    array([507])

    References
    ----------
    Roberts, "Control chart tests based on geometric moving averages", Technometrics 1, 1959. Lucas and Saccucci,
    "Exponentially weighted moving average control schemes", Technometrics 32, 1990.
    """

    _BANK = EWMABank
    lambda_: float
    limit: float
    baseline: int
    mode: str

    def __init__(
        self,
        lambda_: float = 0.1,
        limit: float = 2.814,
        baseline: int = 100,
        mode: str = "both",
    ) -> None:
        super().__init__(
            lambda_=lambda_,
            limit=limit,
            baseline=baseline,
            mode=mode,
        )
