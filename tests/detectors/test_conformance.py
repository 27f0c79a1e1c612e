"""The contract of `Detector`, held by every detector that is registered, ours or installed."""

import inspect
import itertools
import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmm.detectors import Detector, detector_names, find_detector
from tests.detectors.streams import STREAMS, stream

NASTY = [math.nan, math.inf, -math.inf, 1e308, -1e308, 1.7e308]
# What came before must not deafen a detector to a shift of the mean from `level` by 20 units.
PASTS = {
    "missing": (np.array(NASTY * 50), 0.0),
    "constant": (np.full(2000, 3.0), 3.0),
    "zeros": (np.zeros(2000), 0.0),
    "offset": (1e12 + np.random.default_rng(5).normal(size=2000), 1e12),
    "denormals": (np.full(2000, 5e-324), 0.0),
    "mixed": (np.random.default_rng(5).choice([0.5, math.nan, 5e-324, -0.0, math.inf], 2000), 0.2),
}

pytestmark = pytest.mark.parametrize("name", detector_names())


def errors_only(name):
    return getattr(find_detector(name), "errors_only", False)


def fed(name, values):
    """Values that a detector takes: for one of errors whether each is above the middle of the usable ones."""
    if not errors_only(name):
        return values
    values = np.asarray(values, np.float64)
    usable = np.abs(values) <= 1e100
    above = values > (np.median(values[usable]) if usable.any() else 0.0)
    return np.where(usable, above != (name == "fhddm"), values)  # FHDDM looks for a fall


def one_by_one(detector, values):
    return [k for k, value in enumerate(values) if detector.update(value)]


def test_it_offers_the_contract(name):
    made = find_detector(name)()
    assert isinstance(made, Detector)
    assert made.drift_detected is False
    assert made.warning_detected is False
    assert made.estimation == 0.0
    assert made.missing == 0


def test_parameters_have_defaults_and_are_stored_under_their_names(name):
    cls = find_detector(name)
    parameters = inspect.signature(cls).parameters
    assert parameters
    for key, parameter in parameters.items():
        assert getattr(cls(), key) == parameter.default
        assert getattr(cls(**{key: parameter.default}), key) == parameter.default


def test_a_wrong_parameter_is_a_value_error_that_names_it(name):
    cls = find_detector(name)
    for key in inspect.signature(cls).parameters:
        for wrong in (math.nan, -1, math.inf, None, "many"):
            with pytest.raises(ValueError, match=key):
                cls(**{key: wrong})


@pytest.mark.parametrize("kind", STREAMS)
def test_one_by_one_equals_many_at_once(name, kind):
    values = fed(name, stream(kind, 3))
    single, many = find_detector(name)(), find_detector(name)()
    alarms = many.update_many(values)
    assert alarms.dtype == np.int64
    assert one_by_one(single, values.tolist()) == alarms.tolist()
    assert single.to_bytes() == many.to_bytes()
    assert single.estimation == many.estimation
    assert single.drift_detected == many.drift_detected


def test_update_returns_what_drift_detected_says(name):
    detector = find_detector(name)()
    alarms = 0
    for value in fed(name, stream("integers", 1)).tolist():
        alarm = detector.update(value)
        assert alarm is detector.drift_detected
        alarms += alarm
    assert alarms > 0


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_state_is_a_function_of_the_values_however_they_are_cut(name, data):
    values = fed(name, stream(data.draw(st.sampled_from(STREAMS)), data.draw(st.integers(0, 3))))[1300:1800].copy()
    gaps = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))
    values[gaps] = math.nan
    whole, cut = find_detector(name)(), find_detector(name)()
    expected = whole.update_many(values).tolist()
    borders = sorted({0, len(values), *data.draw(st.lists(st.integers(0, len(values)), max_size=6))})
    alarms = []
    for start, stop in itertools.pairwise(borders):
        if stop - start < 40 and data.draw(st.booleans()):
            alarms += [start + k for k in one_by_one(cut, values[start:stop].tolist())]
        else:
            alarms += (cut.update_many(values[start:stop]) + start).tolist()
        if data.draw(st.booleans()):
            cut = type(cut).from_bytes(cut.to_bytes())
    assert alarms == expected
    assert cut.to_bytes() == whole.to_bytes()


def test_a_round_trip_goes_on_exactly_where_it_was(name):
    values = fed(name, stream("falling", 2))
    detector = find_detector(name)()
    for cut in (0, 1, 31, 32, 700, 1500, 1512):
        detector.update_many(values[:cut])
        again = type(detector).from_bytes(detector.to_bytes())
        assert again.to_bytes() == detector.to_bytes()
        assert again.drift_detected == detector.drift_detected
        assert again.update_many(values[cut:]).tolist() == detector.update_many(values[cut:]).tolist()
        assert again.to_bytes() == detector.to_bytes()


def test_a_round_trip_right_after_an_alarm_keeps_the_alarm(name):
    values = fed(name, stream("integers", 1))
    detector = find_detector(name)()
    first = int(find_detector(name)().update_many(values)[0])
    detector.update_many(values[: first + 1])
    again = type(detector).from_bytes(detector.to_bytes())
    assert detector.drift_detected
    assert again.drift_detected
    assert again.update_many(values[first + 1 :]).tolist() == detector.update_many(values[first + 1 :]).tolist()


def test_missing_values_are_counted_and_change_nothing_else(name):
    values = fed(name, stream("integers", 4))
    rng = np.random.default_rng(8)
    places = np.sort(rng.integers(0, len(values) + 1, 400))
    holed = np.insert(values, places, rng.choice(NASTY, len(places)))
    kept = np.flatnonzero(np.abs(holed) <= 1e100)
    plain, through = find_detector(name)(), find_detector(name)()
    expected = plain.update_many(values)
    assert through.update_many(holed).tolist() == kept[expected].tolist()
    assert through.missing == len(places)
    assert through.estimation == plain.estimation
    single = find_detector(name)()
    assert one_by_one(single, holed.tolist()) == kept[expected].tolist()
    assert single.to_bytes() == through.to_bytes()


def test_a_missing_value_is_never_an_alarm(name):
    values = fed(name, stream("integers", 1))
    detector = find_detector(name)()
    first = int(find_detector(name)().update_many(values)[0])
    detector.update_many(values[: first + 1])
    assert detector.update(math.nan) is False
    assert detector.drift_detected is False


@pytest.mark.parametrize("past", PASTS)
def test_nothing_that_came_before_deafens_it(name, past):
    values, level = PASTS[past]
    detector = find_detector(name)()
    detector.update_many(fed(name, values))
    rng = np.random.default_rng(1)
    before, after = rng.normal(level, 1, 500), rng.normal(level + 20, 1, 500)
    if errors_only(name):
        before, after = (rng.binomial(1, rate, 500) != (name == "fhddm") for rate in (0.2, 0.9))
    detector.update_many(before)
    assert len(detector.update_many(after)) >= 1
    assert math.isfinite(detector.estimation)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.1, 1e12, 5e-324, -7e-310])
def test_a_constant_raises_no_alarm(name, value):
    detector = find_detector(name)()
    assert detector.update_many(np.full(3000, value)).tolist() == []
    left_out = errors_only(name) and not 0 <= value <= 1
    assert detector.estimation == pytest.approx(0.0 if left_out else value, rel=1e-12, abs=1e-320)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats() | st.sampled_from([1e100, -1e100, 5e-324, 0.0]), max_size=300))
def test_any_floats_are_survived(name, values):
    detector = find_detector(name)()
    alarms = detector.update_many(np.array(values, np.float64)).tolist()
    single = find_detector(name)()
    assert one_by_one(single, values) == alarms
    assert single.to_bytes() == detector.to_bytes()
    assert math.isfinite(detector.estimation)
    assert type(detector).from_bytes(detector.to_bytes()).to_bytes() == detector.to_bytes()


@pytest.mark.parametrize("wrong", [[[1.0]], 1.0, np.zeros((2, 2))])
def test_values_of_another_shape_are_refused(name, wrong):
    with pytest.raises(ValueError, match="one-dimensional"):
        find_detector(name)().update_many(wrong)


def test_integers_bools_and_lists_are_values(name):
    a, b = find_detector(name)(), find_detector(name)()
    a.update_many([True, False, 3, 2.5])
    b.update_many(np.array([1.0, 0.0, 3.0, 2.5]))
    assert a.to_bytes() == b.to_bytes()
    assert find_detector(name)().update_many([]).tolist() == []


def test_foreign_bytes_are_refused(name):
    cls = find_detector(name)
    for wrong in (b"", b"x", b"\x80\x04K\x01.", bytes(200), b"mlmD", b"not a detector, but long enough to be one"):
        with pytest.raises(ValueError, match="detector"):
            cls.from_bytes(wrong)
    for other in detector_names():
        if other != name:
            with pytest.raises(ValueError, match=r"state|detector"):
                cls.from_bytes(find_detector(other)().to_bytes())


def test_damaged_bytes_are_refused(name):
    """Every truncation, an added byte, and a flip of every bit."""
    detector = find_detector(name)()
    detector.update_many(fed(name, stream("gaussian step", 0))[:200])
    good = detector.to_bytes()
    for length in range(len(good)):
        with pytest.raises(ValueError, match=r"state|detector"):
            type(detector).from_bytes(good[:length])
    with pytest.raises(ValueError, match=r"state|detector"):
        type(detector).from_bytes(good + b"\0")
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"state|detector"):
            type(detector).from_bytes(bytes(bad))


def test_an_unknown_layout_is_named(name):
    good = bytearray(find_detector(name)().to_bytes())
    good[4] = 77
    good[-4:] = zlib.crc32(good[:-4]).to_bytes(4, "little")
    with pytest.raises(ValueError, match="layout 77"):
        find_detector(name).from_bytes(bytes(good))
