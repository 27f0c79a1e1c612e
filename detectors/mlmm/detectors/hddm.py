"""HDDM: means of errors against a bound that holds for any distribution."""

import math
from types import MappingProxyType

from . import _rows
from ._row import OWN
from ._rows import Flag, Number, RowBank, RowDetector

__all__ = ["HDDMA", "HDDMW", "HDDMABank", "HDDMWBank"]


class HDDMABank(RowBank):
    """HDDMA for many series with equal parameters; `HDDMA` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    drift_confidence, warning_confidence, two_sided_test
        As in `HDDMA`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "hddm_a_bank"
    KIND = _rows.HDDM_A
    FIELDS = MappingProxyType(
        {
            "drift_confidence": Number({"above": 0.0, "below": 1.0}),
            "warning_confidence": Number({"above": 0.0, "below": 1.0}),
            "two_sided_test": Flag(),
        }
    )

    drift_confidence: float
    warning_confidence: float
    two_sided_test: bool

    def __init__(
        self,
        series: int = 1,
        *,
        drift_confidence: float = 0.001,
        warning_confidence: float = 0.005,
        two_sided_test: bool = False,
    ) -> None:
        super().__init__(
            series,
            drift_confidence=drift_confidence,
            warning_confidence=warning_confidence,
            two_sided_test=two_sided_test,
        )

    def _wanted(self) -> tuple[list[float], int]:
        both = (self.drift_confidence, self.warning_confidence)
        logs = [math.log(1.0 / self.drift_confidence), *(math.log(2.0 / each) for each in both)]
        return [*logs, self.two_sided_test], OWN + 4


class HDDMA(RowDetector):
    """HDDM-A: the mean of all errors against that of the best beginning, by Hoeffding's bound.

    Takes errors: 0 where a prediction was right, 1 where it was wrong (or what lies between). A value outside
    0..1 is missing to it. Alarms where the mean rose by more than the bound allows; it begins anew after that. Needs
    no assumption on the distribution; finds abrupt changes soon and small ones late.

    Equal to ``river.drift.binary.HDDMA`` 0.26.1 in alarms, warnings and state, to the last bit.

    Parameters
    ----------
    drift_confidence : float
        Chance of a false alarm that the bound allows in one comparison, in (0, 1).
    warning_confidence : float
        The same for a warning.
    two_sided_test : bool
        Alarm at a fall too.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> HDDMA().update_many(np.concatenate([rng.binomial(1, 0.2, 500), rng.binomial(1, 0.6, 100)]))
    array([515])

    References
    ----------
    Frías-Blanco, del Campo-Ávila, Ramos-Jiménez, Morales-Bueno, Ortiz-Díaz and Caballero-Mota, "Online and
    non-parametric drift detection methods based on Hoeffding's bounds", IEEE TKDE 27, 2015.
    """

    _BANK = HDDMABank
    drift_confidence: float
    warning_confidence: float
    two_sided_test: bool

    def __init__(
        self,
        drift_confidence: float = 0.001,
        warning_confidence: float = 0.005,
        two_sided_test: bool = False,
    ) -> None:
        super().__init__(
            drift_confidence=drift_confidence,
            warning_confidence=warning_confidence,
            two_sided_test=two_sided_test,
        )


class HDDMWBank(RowBank):
    """HDDMW for many series with equal parameters; `HDDMW` explains the method.

    Parameters
    ----------
    series : int
        Number of series; more come with `add`.
    drift_confidence, warning_confidence, lambda_val, two_sided_test
        As in `HDDMW`.

    Raises
    ------
    ValueError
        For a parameter out of its range.
    """

    _KIND = "hddm_w_bank"
    KIND = _rows.HDDM_W
    FIELDS = MappingProxyType(
        {
            "drift_confidence": Number({"above": 0.0, "below": 1.0}),
            "warning_confidence": Number({"above": 0.0, "below": 1.0}),
            "lambda_val": Number({"above": 0.0, "most": 1.0}),
            "two_sided_test": Flag(),
        }
    )

    drift_confidence: float
    warning_confidence: float
    lambda_val: float
    two_sided_test: bool

    def __init__(
        self,
        series: int = 1,
        *,
        drift_confidence: float = 0.001,
        warning_confidence: float = 0.005,
        lambda_val: float = 0.05,
        two_sided_test: bool = False,
    ) -> None:
        super().__init__(
            series,
            drift_confidence=drift_confidence,
            warning_confidence=warning_confidence,
            lambda_val=lambda_val,
            two_sided_test=two_sided_test,
        )

    def _wanted(self) -> tuple[list[float], int]:
        logs = [math.log(1.0 / c) for c in (self.drift_confidence, self.warning_confidence)]
        return [*logs, self.lambda_val, self.two_sided_test], OWN + 17


class HDDMW(RowDetector):
    """HDDM-W: weighted means of errors before and after the best cut, by McDiarmid's bound.

    Takes errors: 0 where a prediction was right, 1 where it was wrong (or what lies between). A value outside
    0..1 is missing to it. The newest errors weigh most, so it finds gradual changes sooner than `HDDMA`, and alarms
    falsely more often; it begins anew after an alarm.

    Equal to ``river.drift.binary.HDDMW`` 0.26.1 in alarms, warnings and state, to the last bit.

    Parameters
    ----------
    drift_confidence : float
        Chance of a false alarm that the bound allows in one comparison, in (0, 1).
    warning_confidence : float
        The same for a warning.
    lambda_val : float
        Weight of the newest value, in (0, 1].
    two_sided_test : bool
        Alarm at a fall too.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(42)
    >>> HDDMW().update_many(np.concatenate([rng.binomial(1, 0.2, 500), rng.binomial(1, 0.6, 100)]))
    array([524])

    References
    ----------
    As of `HDDMA`.
    """

    _BANK = HDDMWBank
    drift_confidence: float
    warning_confidence: float
    lambda_val: float
    two_sided_test: bool

    def __init__(
        self,
        drift_confidence: float = 0.001,
        warning_confidence: float = 0.005,
        lambda_val: float = 0.05,
        two_sided_test: bool = False,
    ) -> None:
        super().__init__(
            drift_confidence=drift_confidence,
            warning_confidence=warning_confidence,
            lambda_val=lambda_val,
            two_sided_test=two_sided_test,
        )
