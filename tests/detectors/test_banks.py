"""A bank is as many detectors, each on its own, whatever matrices their values come in."""

import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlmm.detectors
from mlmm.detectors import ADWIN, ADWINBank, Calibrated, CalibratedBank, PageHinkley, PageHinkleyBank
from tests.detectors.streams import STREAMS, stream

KINDS = {
    "adwin": (ADWINBank, ADWIN, {"clock": 8, "delta": 0.05}),
    "calibrated": (CalibratedBank, Calibrated, {"mean_time_between_false_alarms": 1e4, "min_effect": 0.5}),
    "calibrated normal": (CalibratedBank, Calibrated, {"distribution": "normal", "mode": "up", "baseline": 20}),
    "calibrated season": (CalibratedBank, Calibrated, {"period": 50, "mean_time_between_false_alarms": 1e3}),
    "page_hinkley": (PageHinkleyBank, PageHinkley, {"threshold": 8.0, "mode": "up", "alpha": 1.0}),
} | {
    name: (getattr(mlmm.detectors, f"{name}Bank"), getattr(mlmm.detectors, name), parameters)
    for name, parameters in {
        "CUSUM": {"h": 8.0},
        "EWMA": {"lambda_": 0.2, "limit": 4.0, "mode": "down"},
        "Shewhart": {"limit": 4.0, "western_electric": True, "baseline": 30},
        "DDM": {},
        "EDDM": {"warm_start": 10},
        "HDDMA": {"two_sided_test": True},
        "HDDMW": {"lambda_val": 0.1},
        "FHDDM": {"sliding_window_size": 40, "short_window_size": 10, "confidence_level": 0.01},
        "STEPD": {},
    }.items()
}  # fmt: skip

pytestmark = pytest.mark.parametrize("kind", KINDS)


def make(kind, series):
    bank, _, parameters = KINDS[kind]
    return bank(series=series, **parameters)


def single(kind):
    _, detector, parameters = KINDS[kind]
    return detector(**parameters)


@pytest.fixture
def matrix(kind):
    values = np.column_stack([stream(name, 6) for name in STREAMS])
    if getattr(KINDS[kind][1], "errors_only", False):
        values = (values > np.quantile(values, 0.6, axis=0)).astype(float)
    rng = np.random.default_rng(0)
    values[rng.random(values.shape) < 0.05] = math.nan
    values[rng.random(values.shape) < 0.01] = math.inf
    return values


def expected(kind, matrix):
    pairs = [(k, i) for i in range(matrix.shape[1]) for k in single(kind).update_many(matrix[:, i]).tolist()]
    return [list(pair) for pair in sorted(pairs)]


def test_it_equals_one_detector_a_series(kind, matrix):
    bank = make(kind, matrix.shape[1])
    alarms = bank.update_many(matrix)
    assert alarms.dtype == np.int64
    assert alarms.tolist() == expected(kind, matrix)
    assert len(alarms) > 10
    for i in range(matrix.shape[1]):
        one = single(kind)
        one.update_many(matrix[:, i])
        assert bank.estimation[i] == one.estimation
        assert bank.width[i] == one.width
        assert bank.drift_detected[i] == one.drift_detected
        assert bank.missing[i] == one.missing == np.count_nonzero(~(np.abs(matrix[:, i]) <= 1e100))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_state_and_alarms_do_not_depend_on_the_cut(kind, matrix, data):
    rows = matrix[1400:1700]
    whole, cut = make(kind, rows.shape[1]), make(kind, rows.shape[1])
    alarms = whole.update_many(rows).tolist()
    borders = sorted({0, len(rows), *data.draw(st.lists(st.integers(0, len(rows)), max_size=8))})
    found = []
    for start, stop in zip(borders, borders[1:], strict=False):  # noqa: RUF007 - pairs of borders
        part = cut.update_many(rows[start:stop])
        part[:, 0] += start
        found += part.tolist()
        cut = type(cut).from_bytes(cut.to_bytes())
    assert found == alarms
    assert cut.to_bytes() == whole.to_bytes()


def test_alarms_are_in_order_of_event_then_series(kind, matrix):
    alarms = make(kind, matrix.shape[1]).update_many(matrix).tolist()
    assert alarms == sorted(alarms)


def test_a_large_matrix_is_taken_in_slabs(kind, matrix, monkeypatch):
    monkeypatch.setattr("mlmm.detectors._bank._SLAB", 1000)
    assert make(kind, matrix.shape[1]).update_many(matrix).tolist() == expected(kind, matrix)


def test_any_memory_order_and_number_type_is_taken(kind):
    values = np.random.default_rng(2).integers(0, 9, (300, 3))
    bank = make(kind, 3)
    bank.update_many(values.astype(np.float64))
    for other in (np.asfortranarray(values), values.astype(np.float32), values.tolist()):
        again = make(kind, 3)
        again.update_many(other)
        assert again.to_bytes() == bank.to_bytes()


def test_added_series_start_empty_and_change_nothing(kind, matrix):
    bank = make(kind, 3)
    bank.update_many(matrix[:1000, :3])
    assert bank.add() == 3
    assert bank.add(5) == 4
    assert bank.series == len(bank) == 9
    assert bank.width[3:].tolist() == [0] * 6
    late = np.concatenate([matrix[:1000, :3], np.full((1000, 6), math.nan)], axis=1)
    late = np.concatenate([late, matrix[1000:, :9]])
    alarms = bank.update_many(matrix[1000:, :9])
    assert [[k + 1000, i] for k, i in alarms.tolist()] == [pair for pair in expected(kind, late) if pair[0] >= 1000]


def test_evicted_series_go_and_the_others_move_down_unchanged(kind, matrix):
    bank, kept = make(kind, 6), make(kind, 3)
    bank.update_many(matrix[:1600, :6])
    kept.update_many(matrix[:1600, [0, 2, 5]])
    bank.evict([1, 4])
    bank.evict(2)
    assert bank.series == 3
    assert bank.to_bytes() == kept.to_bytes()
    columns = matrix[1600:, [0, 2, 5]]
    assert bank.update_many(columns).tolist() == kept.update_many(columns).tolist()


def test_all_series_can_go_and_new_ones_come(kind):
    bank = make(kind, 2)
    bank.update_many([[1.0, 0.5]])
    bank.evict({0, 1})
    assert bank.update_many(np.empty((4, 0))).tolist() == []
    assert type(bank).from_bytes(bank.to_bytes()).series == 0
    assert bank.add(2) == 0
    bank.update_many([[0.0, 1.0]])
    assert bank.estimation.tolist() == [0.0, 1.0]
    assert bank.missing.tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [2, -1, [0, 7]])
def test_evicting_what_is_not_there_changes_nothing(kind, wrong):
    bank = make(kind, 2)
    with pytest.raises(IndexError, match="no series"):
        bank.evict(wrong)
    assert bank.series == 2


@pytest.mark.parametrize("wrong", [np.zeros((4, 3)), np.zeros(2), np.zeros((1, 2, 1)), []])
def test_a_matrix_of_another_shape_is_refused(kind, wrong):
    with pytest.raises(ValueError, match="shape"):
        make(kind, 2).update_many(wrong)


@pytest.mark.parametrize("wrong", [-1, 1.5, "3", 2**31])
def test_a_wrong_number_of_series_is_refused(kind, wrong):
    with pytest.raises(ValueError, match="series"):
        make(kind, wrong)


def test_alarms_of_one_call_do_not_hold_its_buffer(kind, matrix):
    alarms = make(kind, matrix.shape[1]).update_many(matrix)
    assert alarms.base is None or alarms.base.nbytes <= 2 * alarms.nbytes


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_bytes_with_a_right_checksum_and_wrong_content_are_refused_or_harmless(kind, data):
    """Whoever can write to the store can make a checksum: nothing may crash, read beyond the bytes, or loop."""
    bank = make(kind, 2)
    bank.update_many(np.column_stack([stream("integers", 0), stream("ramp", 0)])[:900])
    body = bytearray(bank.to_bytes()[:-4])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.sampled_from([0, 1, 127, 128, 240, 255]) | st.integers(0, 255))
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    try:
        again = type(bank).from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))
    except ValueError:
        return
    again.update_many(np.column_stack([stream("gaussian step", 1)] * again.series) if again.series else [[]])
