"""The doors for kernels of other rooms: rows of arrays, and what they tell at an alarm."""

import numpy as np
import pytest

from mlmm.detectors import (
    adwin_arrays,
    adwin_estimation,
    adwin_grow,
    adwin_pack,
    adwin_packed_size,
    adwin_push,
    adwin_reset,
    adwin_run,
    adwin_unpack,
    get_f64,
    get_u32,
    kernel,
    page_hinkley_arrays,
    page_hinkley_direction,
    page_hinkley_grow,
    page_hinkley_pack,
    page_hinkley_packed_size,
    page_hinkley_push,
    page_hinkley_run,
    page_hinkley_since,
    page_hinkley_unpack,
    put_f64,
    put_u32,
    usable,
)
from tests.detectors.streams import STREAMS, stream

ADWIN = (0.002, 32, 5, 10, 5)


@kernel
def _feed(arrays, i, values):
    alarms = 0
    for k in range(len(values)):
        alarms += adwin_push(arrays, i, values[k], 0.002, 32, 5, 10, 5)
    return alarms


@kernel
def _run(adwin, hinkley, values, alarms):
    """Both detectors by runs over a strided column; positions of alarms, ADWIN's from 0 and Page-Hinkley's from 500."""
    found = 0
    k = adwin_run(adwin, 0, values, 0, 0.05, 7, 5, 10, 5)
    while k < len(values):
        alarms[found] = k
        found += 1
        k = adwin_run(adwin, 0, values, k + 1, 0.05, 7, 5, 10, 5)
    found = 500
    k = page_hinkley_run(hinkley, 0, values, 0, 0.5, 9.0, 1.0, 30, 3)
    while k < len(values):
        alarms[found] = k
        found += 1
        k = page_hinkley_run(hinkley, 0, values, k + 1, 0.5, 9.0, 1.0, 30, 3)


@pytest.mark.parametrize("name", STREAMS)
def test_runs_do_what_pushes_do(name):
    values = np.repeat(stream(name, 2), 2)[::2]
    values[5::90] = np.nan
    adwin, hinkley, alarms = adwin_arrays(1), page_hinkley_arrays(1), np.full(1000, -1)
    _run(adwin, hinkley, values, alarms)
    one, other = adwin_arrays(1), page_hinkley_arrays(1)
    kept = [(k, x) for k, x in enumerate(values.tolist()) if usable(x)]
    by_adwin = [k for k, x in kept if adwin_push(one, 0, x, 0.05, 7, 5, 10, 5)]
    by_hinkley = [k for k, x in kept if page_hinkley_push(other, 0, x, 0.5, 9.0, 1.0, 30, 3)]
    assert alarms[:500][alarms[:500] >= 0].tolist() == by_adwin
    assert alarms[500:][alarms[500:] >= 0].tolist() == by_hinkley
    for ours, theirs in ((adwin, one), (hinkley, other)):
        for mine, its in zip(ours[2:] if len(ours) > 2 else ours, theirs[2:] if len(ours) > 2 else theirs, strict=True):
            np.testing.assert_array_equal(mine, its)


def test_adwin_packs_into_a_golden_layout():
    arrays = adwin_arrays(2)
    for value in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        adwin_push(arrays, 1, value, *ADWIN)
    buffer = np.zeros(adwin_packed_size(arrays, 1) + 3, np.uint8)
    assert adwin_pack(arrays, 1, buffer, 3) == len(buffer)
    floats = np.array([127.0, arrays.variance[1]], "<f8").tobytes()
    levels = np.array([4.0, 8.0, 16.0, 32.0, 64.0, 3.0, 0.5], "<f8").tobytes()
    assert buffer[3:].tobytes() == floats + b"\x07\0\0\0" + b"\0" + b"\x02" + b"\x05\x01" + levels


def test_page_hinkley_packs_into_a_golden_layout():
    arrays = page_hinkley_arrays(1)
    page_hinkley_push(arrays, 0, 3.0, 0.5, 50.0, 1.0, 30, 3)
    buffer = np.zeros(page_hinkley_packed_size(arrays, 0), np.uint8)
    assert page_hinkley_pack(arrays, 0, buffer, 0) == len(buffer)
    floats = np.array([1.0, 3.0, -0.5, 0.5, -0.5, 0.5, 1.0, 1.0], "<f8").tobytes()
    assert buffer.tobytes() == floats + b"\0"


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 100, 2900])
def test_a_row_is_unpacked_as_it_was_packed(count):
    arrays, other = adwin_arrays(3), adwin_arrays(2)
    _feed(arrays, 2, stream("ramp", 0)[:count])
    _feed(other, 1, stream("season", 0))  # what lay in the row before must not shine through
    buffer = np.empty(adwin_packed_size(arrays, 2), np.uint8)
    adwin_pack(arrays, 2, buffer, 0)
    assert adwin_unpack(other, 1, buffer, 0) == len(buffer)
    again = np.empty_like(buffer)
    assert adwin_packed_size(other, 1) == len(buffer)
    adwin_pack(other, 1, again, 0)
    assert again.tobytes() == buffer.tobytes()
    assert other.width[1] == arrays.width[2]
    more = stream("falling", 0)
    assert _feed(arrays, 2, more) == _feed(other, 1, more)
    assert adwin_estimation(arrays, 2) == adwin_estimation(other, 1)


def test_every_truncation_is_told():
    arrays = adwin_arrays(1)
    _feed(arrays, 0, stream("ramp", 0)[:200])
    buffer = np.empty(adwin_packed_size(arrays, 0), np.uint8)
    adwin_pack(arrays, 0, buffer, 0)
    for length in range(len(buffer)):
        assert adwin_unpack(arrays, 0, buffer[:length].copy(), 0) == -1
    hinkley = page_hinkley_arrays(1)
    packed = np.empty(page_hinkley_packed_size(hinkley, 0), np.uint8)
    page_hinkley_pack(hinkley, 0, packed, 0)
    for length in range(len(packed)):
        assert page_hinkley_unpack(hinkley, 0, packed[:length].copy(), 0) == -1
    assert page_hinkley_unpack(hinkley, 0, packed, 0) == len(packed)


def test_growing_keeps_rows_and_adds_empty_ones():
    arrays, hinkley = adwin_arrays(2), page_hinkley_arrays(2)
    _feed(arrays, 1, stream("ramp", 1)[:1000])
    page_hinkley_push(hinkley, 1, 2.0, 0.5, 50.0, 1.0, 30, 3)
    grown, wider = adwin_grow(arrays, 5), page_hinkley_grow(hinkley, 5)
    for row in (0, 1):
        before, after = (np.empty(adwin_packed_size(a, row), np.uint8) for a in (arrays, grown))
        adwin_pack(arrays, row, before, 0)
        adwin_pack(grown, row, after, 0)
        assert before.tobytes() == after.tobytes()
    assert grown.width.tolist() == [0.0, arrays.width[1], 0.0, 0.0, 0.0]
    np.testing.assert_array_equal(wider.values[:2], hinkley.values)
    np.testing.assert_array_equal(wider.values[2:], page_hinkley_arrays(3).values)


def test_rows_do_not_touch_one_another():
    arrays = adwin_arrays(3)
    _feed(arrays, 0, stream("ramp", 1))
    before = [array.copy() for array in arrays]
    _feed(arrays, 1, stream("falling", 1))
    adwin_reset(arrays, 1)
    assert arrays.width[1] == 0.0
    np.testing.assert_array_equal(arrays.totals[:, 0], before[0][:, 0])
    np.testing.assert_array_equal(arrays.counts[[0, 2]], before[2][[0, 2]])


@pytest.mark.parametrize(("step", "direction"), [(3.0, 1), (-3.0, -1)])
def test_page_hinkley_tells_how_long_ago_the_mean_changed(step, direction):
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 1, 400), rng.normal(step, 1, 100)])
    arrays = page_hinkley_arrays(1)
    assert page_hinkley_since(arrays, 0) == page_hinkley_direction(arrays, 0) == 0
    alarm = next(k for k, x in enumerate(values) if page_hinkley_push(arrays, 0, x, 0.5, 20.0, 1.0, 30, 3))
    assert alarm >= 400
    assert page_hinkley_direction(arrays, 0) == direction
    assert abs((alarm + 1 - page_hinkley_since(arrays, 0)) - 400) <= 3
    page_hinkley_push(arrays, 0, 0.0, 0.5, 20.0, 1.0, 30, 3)
    assert page_hinkley_since(arrays, 0) == 0


def test_numbers_go_to_bytes_and_back():
    buffer = np.zeros(16, np.uint8)
    for value in (0.0, -0.0, 1.5, -1e100, 5e-324, np.inf):
        assert put_f64(buffer, 3, value) == 11
        assert buffer[3:11].tobytes() == np.array(value, "<f8").tobytes()
        assert np.array(get_f64(buffer, 3)).tobytes() == np.array(value).tobytes()
    for number in (0, 1, 2**31, 2**32 - 1):
        assert put_u32(buffer, 5, number) == 9
        assert buffer[5:9].tobytes() == number.to_bytes(4, "little")
        assert get_u32(buffer, 5) == number


def test_usable_is_finite_and_not_beyond_the_largest():
    assert all(usable(x) for x in (0.0, -1e100, 1e100, 5e-324))
    assert not any(usable(x) for x in (np.nan, np.inf, -np.inf, 1.1e100, -1e308))
