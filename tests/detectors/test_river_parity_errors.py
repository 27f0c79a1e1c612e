"""Detectors of errors and KSWIN: alarms, warnings and state equal river's, through a save and restore mid-stream."""

import numpy as np
import pytest
from river import drift

from mlmm.detectors import DDM, EDDM, FHDDM, HDDMA, HDDMW, KSWIN
from tests.detectors.streams import STREAMS, stream

SEEDS = (0, 1, 2)
RATES = ("bernoulli step", "gaussian step", "falling", "season", "autocorrelated", "ramp")
CASES = [
    *((DDM, drift.binary.DDM, p) for p in (
        {}, {"warm_start": 0}, {"warm_start": 500}, {"drift_threshold": 2.0, "warning_threshold": 1.0},
        {"drift_threshold": 1.0, "warning_threshold": 1.5},
    )),
    *((EDDM, drift.binary.EDDM, p) for p in (
        {}, {"warm_start": 5}, {"alpha": 0.99, "beta": 0.98}, {"alpha": 0.5, "beta": 0.5},
    )),
    *((HDDMA, drift.binary.HDDMA, p) for p in (
        {}, {"two_sided_test": True}, {"drift_confidence": 0.2, "warning_confidence": 0.4}, {"drift_confidence": 1e-9},
        {"drift_confidence": 0.1, "warning_confidence": 0.3, "two_sided_test": True},
    )),
    *((HDDMW, drift.binary.HDDMW, p) for p in (
        {}, {"two_sided_test": True}, {"lambda_val": 0.5}, {"lambda_val": 0.01, "drift_confidence": 0.05},
        {"drift_confidence": 0.2, "warning_confidence": 0.4, "two_sided_test": True}, {"lambda_val": 1.0},
    )),
    *((FHDDM, drift.binary.FHDDM, p) for p in (
        {}, {"sliding_window_size": 30, "confidence_level": 0.01}, {"short_window_size": 20},
        {"sliding_window_size": 25, "short_window_size": 25, "confidence_level": 0.05}, {"sliding_window_size": 1},
    )),
]  # fmt: skip
KSWIN_CASES = (
    {},
    {"alpha": 0.05},
    {"window_size": 60, "stat_size": 30, "alpha": 1e-3},
    {"stat_size": 7, "alpha": 0.02},
)


def errors(name, seed):
    """A stream of zeros and ones: whether the values of another lie above a level of it."""
    values = stream(name, seed)
    level = np.quantile(values, [0.5, 0.8, 0.95][seed])
    return values if name == "bernoulli step" else (values > level).astype(float)


def followed(detector, values, restore_at=-1):
    """Positions of alarms and of warnings, one value at a time."""
    alarms, warnings = [], []
    for k, value in enumerate(values.tolist()):
        if k == restore_at:
            detector = type(detector).from_bytes(detector.to_bytes())
        detector.update(value)
        if detector.drift_detected:
            alarms.append(k)
        if getattr(detector, "warning_detected", False):
            warnings.append(k)
    return alarms, warnings, detector


@pytest.mark.parametrize(("ours", "theirs", "given"), CASES, ids=lambda p: getattr(p, "__name__", str(p)))
@pytest.mark.parametrize("name", RATES)
def test_errors_equal_river(name, ours, theirs, given):
    for seed in SEEDS:
        values = errors(name, seed)
        expected = followed(theirs(**given), values)
        found = followed(ours(**given), values, restore_at=1000 + 317 * seed)
        assert found[:2] == expected[:2]
        assert own(found[2]) == pytest.approx(rivers(expected[2]), rel=0, abs=0)
        many = ours(**given)
        assert many.update_many(values).tolist() == expected[0]
        assert many.to_bytes() == found[2].to_bytes()


def own(detector):
    """What of our state river has too."""
    row = detector._bank.rows[0].tolist()
    if detector.drift_detected:
        return []  # river begins anew at the next value, as we do
    match detector:
        case DDM():
            return [row[1], row[2], *(row[6:8] if row[8] else [])]
        case EDDM():
            return [row[1], *row[6:10]]
        case HDDMA():
            return [row[1], row[2], *row[6:10]]
        case HDDMW():
            return [value for at in range(6, 21, 3) if row[at + 2] for value in row[at : at + 2]]
        case FHDDM():
            return [row[7]]


def rivers(detector):
    if detector.drift_detected:
        return []
    match detector:
        case drift.binary.DDM():
            lowest = [] if detector._p_min is None else [detector._p_min, detector._s_min]
            return [detector._p.n, detector._p.get(), *lowest]
        case drift.binary.EDDM():
            gaps = detector._error_distances
            return [detector._n, detector._n_errors, detector._last_error, gaps.mean.get(), gaps._S]
        case drift.binary.HDDMA():
            low, high = detector._x_min, detector._x_max
            return [detector._z.n, detector._z.get(), low.n, low.get(), high.n, high.get()]
        case drift.binary.HDDMW():
            d = detector
            samples = (d._total, d._s1_incr, d._s2_incr, d._s1_decr, d._s2_decr)
            return [value for sample in samples if sample.is_init for value in (sample.ewma, sample.ibc)]
        case drift.binary.FHDDM():
            return [detector._u_max]


@pytest.mark.parametrize("given", KSWIN_CASES, ids=str)
@pytest.mark.parametrize("name", ["gaussian step", "integers", "season", "heavy tails"])
def test_kswin_equals_river(name, given):
    for seed in SEEDS[:2]:
        values = stream(name, seed)[1200:1900]
        alarms, _, theirs = followed(drift.KSWIN(**given, seed=seed), values)
        found, _, ours = followed(KSWIN(**given, seed=seed), values, restore_at=333)
        assert found == alarms
        if not ours.drift_detected:
            assert list(ours._window) == list(theirs.window)
            if len(theirs.window) == theirs.window_size:  # river's is 0 until then
                assert ours.p_value == pytest.approx(theirs.p_value, rel=1e-9)


def test_the_matrix_has_alarms_to_compare():
    """A parity of silent detectors would prove nothing."""
    for cls in (DDM, EDDM, HDDMA, HDDMW, FHDDM):
        assert sum(len(cls().update_many(errors(name, 0))) for name in RATES) >= 3
    assert sum(len(KSWIN().update_many(stream(name, 0)[1200:1900])) for name in STREAMS) >= 5


def test_golden_alarms_of_error_rates():
    state = np.random.RandomState(12345)
    values = np.concatenate([state.binomial(1, 0.2, 1000), state.binomial(1, 0.8, 1000)])
    assert DDM().update_many(values).tolist() == [1049]
    assert EDDM().update_many(values).tolist() == [663, 828, 1007, 1078]
    assert HDDMA().update_many(values).tolist() == [1047]
    assert HDDMW().update_many(values).tolist() == [1018]


def test_golden_alarm_of_kswin():
    state = np.random.RandomState(12345)
    values = np.concatenate([state.randint(2, size=1000), state.randint(8, size=1000)])
    assert KSWIN(alpha=1e-4, window_size=200, stat_size=100, seed=42).update_many(values).tolist() == [1042]
