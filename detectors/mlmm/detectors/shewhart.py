"""Shewhart chart: single values against a baseline."""

from types import MappingProxyType

from . import _rows
from ._row import MODES, OWN
from ._rows import Choice, Flag, Number, RowBank, RowDetector, Whole
from .values import LARGEST

__all__ = ["Shewhart", "ShewhartBank"]


class ShewhartBank(RowBank):
    """Shewhart for many series with equal parameters; `Shewhart` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    limit, western_electric, baseline, mode
        As in `Shewhart`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "shewhart_bank"
    KIND = _rows.SHEWHART
    FIELDS = MappingProxyType(
        {
            "limit": Number({"above": 0.0, "most": LARGEST}),
            "western_electric": Flag(),
            "baseline": Whole(0),
            "mode": Choice(("up", "down", "both")),
        }
    )

    limit: float
    western_electric: bool
    baseline: int
    mode: str

    def __init__(
        self,
        series: int = 1,
        *,
        limit: float = 5.0,
        western_electric: bool = False,
        baseline: int = 100,
        mode: str = "both",
    ) -> None:
        super().__init__(
            series,
            limit=limit,
            western_electric=western_electric,
            baseline=baseline,
            mode=mode,
        )

    def _wanted(self) -> tuple[list[float], int]:
        if self.baseline == 1:
            raise ValueError("baseline must be 0 or at least 2, not 1")
        return [self.limit, self.western_electric, self.baseline, MODES[self.mode]], OWN + 2


class Shewhart(RowDetector):
    """Shewhart chart for a large change, seen in a single value.

    Learns location and scale from its first values, then alarms where one lies beyond the limit; it begins anew after
    that. For outliers and broken sensors. A shift of one standard deviation takes it long: use `CUSUM` or `EWMA`. Of
    normal values one in 370 lies beyond 3 standard deviations, one in 1.7 million beyond 5; with heavy tails many
    more do.

    Parameters
    ----------
    limit : float
        In standard deviations.
    western_electric : bool
        Alarm also where 2 of 3 values lie beyond 2, 4 of 5 beyond 1 standard deviation or 8 in a row on one side:
        sooner, and some 90 values between false alarms.
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
    >>> values = np.random.default_rng(42).normal(3, 2, 500)
    >>> values[400] = 30.0
    >>> Shewhart().update_many(values)
    array([400])

    References
    ----------
    Shewhart, "Economic control of quality of manufactured product", 1931. Western Electric, "Statistical quality
    control handbook", 1956.
    """

    _BANK = ShewhartBank
    limit: float
    western_electric: bool
    baseline: int
    mode: str

    def __init__(
        self,
        limit: float = 5.0,
        western_electric: bool = False,
        baseline: int = 100,
        mode: str = "both",
    ) -> None:
        super().__init__(
            limit=limit,
            western_electric=western_electric,
            baseline=baseline,
            mode=mode,
        )
