"""Alarms, window and sums equal river's to the last bit, through a save and restore mid-stream."""

import random

import numpy as np
import pytest
from river import drift

from mlmm.detectors import ADWIN, PageHinkley
from tests.detectors.streams import STREAMS, stream

SEEDS = (0, 1, 2)
ADWIN_PARAMETERS = (
    {},
    {"delta": 0.05},
    {"delta": 0.9, "clock": 1},
    {"delta": 1e-6},
    {"clock": 1},
    {"clock": 7, "grace_period": 0},
    {"max_buckets": 3, "clock": 3},
    {"max_buckets": 2},
    {"max_buckets": 20, "delta": 0.1},
    {"min_window_length": 1, "grace_period": 0, "clock": 1, "delta": 0.3},
    {"min_window_length": 60, "grace_period": 200},
)
PAGE_HINKLEY_PARAMETERS = (
    {},
    {"alpha": 1.0},
    {"alpha": 0.5, "threshold": 2.0},
    {"delta": 0.5, "threshold": 10.0, "alpha": 1.0},
    {"mode": "up", "threshold": 5.0},
    {"mode": "down", "threshold": 5.0},
    {"min_instances": 1, "threshold": 1.0},
    {"min_instances": 500},
    {"delta": 0.0, "threshold": 1e-9},
)


def _river(detector, values):
    alarms = []
    for k, value in enumerate(values.tolist()):
        detector.update(value)
        if detector.drift_detected:
            alarms.append(k)
    return alarms


def _ours(detector, values, cut):
    first = detector.update_many(values[:cut])
    again = type(detector).from_bytes(detector.to_bytes())
    assert again.to_bytes() == detector.to_bytes()
    return again, [*first.tolist(), *(again.update_many(values[cut:]) + cut).tolist()]


@pytest.mark.parametrize("parameters", ADWIN_PARAMETERS, ids=str)
@pytest.mark.parametrize("name", STREAMS)
def test_adwin_equals_river(name, parameters):
    for seed in SEEDS:
        values = stream(name, seed)
        theirs = drift.ADWIN(**parameters)
        expected = _river(theirs, values)
        ours, alarms = _ours(ADWIN(**parameters), values, 1000 + 317 * seed)
        assert alarms == expected
        assert ours.width == theirs.width
        assert ours.total == theirs.total
        assert ours.variance == theirs.variance
        assert ours.estimation == theirs.estimation


@pytest.mark.parametrize("parameters", PAGE_HINKLEY_PARAMETERS, ids=str)
@pytest.mark.parametrize("name", STREAMS)
def test_page_hinkley_equals_river(name, parameters):
    for seed in SEEDS:
        values = stream(name, seed)
        theirs = drift.PageHinkley(**parameters)
        expected = _river(theirs, values)
        ours, alarms = _ours(PageHinkley(**parameters), values, 1000 + 317 * seed)
        assert alarms == expected
        n, mean, increase, decrease, lowest, highest = ours._bank.arrays.values[0, :6].tolist()
        assert (n, mean) == (theirs._x_mean.n, theirs._x_mean.get())
        assert (increase, decrease) == (theirs._sum_increase, theirs._sum_decrease)
        assert (lowest, highest) == (theirs._min_increase, theirs._max_decrease)


def test_the_matrix_has_alarms_to_compare():
    """A parity of silent detectors would prove nothing."""
    assert sum(len(ADWIN().update_many(stream(name, 0))) for name in STREAMS) >= 10
    assert sum(len(PageHinkley().update_many(stream(name, 0))) for name in STREAMS) >= 10


def test_golden_alarms_of_integers():
    state = np.random.RandomState(12345)
    values = np.concatenate([state.randint(2, size=1000), state.randint(8, size=1000)])
    assert ADWIN().update_many(values).tolist() == [1023]
    assert PageHinkley().update_many(values).tolist() == [1020, 1397, 1548, 1988]


def test_golden_alarms_of_alternating_choices():
    rng = random.Random(42)
    values = [x for k in range(4) for x in rng.choices([0, 1] if k % 2 == 0 else [4, 5, 6, 7], k=1000)]
    assert ADWIN().update_many(values).tolist() == [1023, 2015, 3007]


def test_one_bucket_a_size_works_where_river_panics():
    """With one bucket a size river removes from an empty row after some cuts and panics."""
    values = stream("integers", 0)
    detector = ADWIN(max_buckets=1, clock=3)
    alarms = detector.update_many(values)
    assert len(values) // 2 < alarms[0] < len(values) // 2 + 30
    assert detector.estimation == pytest.approx(values[1600:].mean(), abs=0.3)
