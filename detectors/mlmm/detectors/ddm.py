"""DDM: the error rate against its lowest."""

from types import MappingProxyType

from . import _rows
from ._row import OWN
from ._rows import Number, RowBank, RowDetector, Whole
from .values import LARGEST

__all__ = ["DDM", "DDMBank"]


class DDMBank(RowBank):
    """DDM for many series with equal parameters; `DDM` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    warm_start, warning_threshold, drift_threshold
        As in `DDM`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "ddm_bank"
    KIND = _rows.DDM
    FIELDS = MappingProxyType(
        {
            "warm_start": Whole(0),
            "warning_threshold": Number({"least": 0.0, "most": LARGEST}),
            "drift_threshold": Number({"least": 0.0, "most": LARGEST}),
        }
    )

    warm_start: int
    warning_threshold: float
    drift_threshold: float

    def __init__(
        self,
        series: int = 1,
        *,
        warm_start: int = 30,
        warning_threshold: float = 2.0,
        drift_threshold: float = 3.0,
    ) -> None:
        super().__init__(
            series,
            warm_start=warm_start,
            warning_threshold=warning_threshold,
            drift_threshold=drift_threshold,
        )

    def _wanted(self) -> tuple[list[float], int]:
        return [self.warm_start, self.warning_threshold, self.drift_threshold], OWN + 3


class DDM(RowDetector):
    """Drift detection method: the error rate against the lowest that it ever was.

    Takes errors: 0 where a prediction was right, 1 where it was wrong. A value outside
    0..1 is missing to it. Alarms where rate and deviation exceed the lowest rate by three deviations of then; it
    begins anew after that. Finds abrupt changes of a high error rate. Its rate is over all values since the last
    alarm, so the longer all went well, the slower it is: prefer `HDDMA`, `HDDMW` or the calibrated detector.

    Equal to ``river.drift.binary.DDM`` 0.26.1 in alarms, warnings and state, to the last bit.

    Parameters
    ----------
    warm_start : int
        No alarm before this many values.
    warning_threshold : float
        Deviations above the lowest rate for a warning.
    drift_threshold : float
        Deviations above the lowest rate for an alarm.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> DDM().update_many(np.concatenate([rng.binomial(1, 0.2, 500), rng.binomial(1, 0.6, 100)]))
    array([541])

    References
    ----------
    Gama, Medas, Castillo and Rodrigues, "Learning with drift detection", SBIA 2004.
    """

    _BANK = DDMBank
    warm_start: int
    warning_threshold: float
    drift_threshold: float

    def __init__(
        self,
        warm_start: int = 30,
        warning_threshold: float = 2.0,
        drift_threshold: float = 3.0,
    ) -> None:
        super().__init__(
            warm_start=warm_start,
            warning_threshold=warning_threshold,
            drift_threshold=drift_threshold,
        )
