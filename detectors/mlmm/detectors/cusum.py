"""CUSUM: cumulated deviations from a baseline."""

from types import MappingProxyType

from . import _rows
from ._row import MODES, OWN
from ._rows import Choice, Number, RowBank, RowDetector, Whole
from .values import LARGEST

__all__ = ["CUSUM", "CUSUMBank"]


class CUSUMBank(RowBank):
    """CUSUM for many series with equal parameters; `CUSUM` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    k, h, baseline, mode
        As in `CUSUM`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "cusum_bank"
    KIND = _rows.CUSUM
    FIELDS = MappingProxyType(
        {
            "k": Number({"least": 0.0, "most": LARGEST}),
            "h": Number({"above": 0.0, "most": LARGEST}),
            "baseline": Whole(0),
            "mode": Choice(("up", "down", "both")),
        }
    )

    k: float
    h: float
    baseline: int
    mode: str

    def __init__(
        self,
        series: int = 1,
        *,
        k: float = 0.5,
        h: float = 5.0,
        baseline: int = 100,
        mode: str = "both",
    ) -> None:
        super().__init__(
            series,
            k=k,
            h=h,
            baseline=baseline,
            mode=mode,
        )

    def _wanted(self) -> tuple[list[float], int]:
        if self.baseline == 1:
            raise ValueError("baseline must be 0 or at least 2, not 1")
        return [self.k, self.h, self.baseline, MODES[self.mode]], OWN + 2


class CUSUM(RowDetector):
    """CUSUM chart for a change of the mean.

    Learns location and scale from its first values, then sums what exceeds an allowance, upward and downward, and
    alarms where a sum is above a limit; it begins anew after that. With ``k`` half the shift that matters it is the
    fastest test there is for that shift. A limit says nothing by itself: two-sided with ``k=0.5`` the mean time
    between false alarms is 168 values for ``h=4`` and 465 for ``h=5`` where location and scale are known exactly, and
    less where they are estimated from few values. For a wanted time between false alarms prefer the calibrated
    detector.

    Parameters
    ----------
    k : float
        Allowance, in standard deviations.
    h : float
        Limit of the sums, in standard deviations.
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
    >>> detector = CUSUM(h=8.0)
    >>> detector.update_many(np.concatenate([rng.normal(3, 2, 500), rng.normal(6, 2, 20)]))
    array([506])

    References
    ----------
    Page, "Continuous inspection schemes", Biometrika 41, 1954.
    """

    _BANK = CUSUMBank
    k: float
    h: float
    baseline: int
    mode: str

    def __init__(
        self,
        k: float = 0.5,
        h: float = 5.0,
        baseline: int = 100,
        mode: str = "both",
    ) -> None:
        super().__init__(
            k=k,
            h=h,
            baseline=baseline,
            mode=mode,
        )
