"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.runtime.durations import window_name
from mlmm.runtime.settings import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("10m", 600), ("1h30m", 5400), ("30d", 2592000), ("1.5h", 5400), ("2 m", 120),
     (90, 90), (0.5, 0.5), ("90", 90), ("1w", 604800), ("5us", 5e-6)],
)  # fmt: skip
def test_durations_are_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "m", "10 parsecs", "1h-3m", -1, "-1s", float("nan"), "inf", True, None, [], "1m1"]
)
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "name"), [(60.0, "60s"), (1.5, "1.5s"), (1209600.0, "1209600s"), (86400.25, "86400.25s")]
)
def test_a_window_has_one_name_however_long_it_is(seconds, name):
    assert window_name(seconds) == name


@given(st.integers(0, 10**15).map(lambda n: n / 1e6) | st.floats(0, 1e9))
def test_a_formatted_duration_reads_back(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "count"), [("64MiB", 67108864), ("512 KiB", 524288), ("1MB", 1000000), (7, 7), ("7", 7)]
)
def test_sizes_are_bytes(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "1.5MiB", "1 TB", -1.0, True, None])
def test_what_is_no_size_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected a size such as"):
        parse_size(text)


@given(st.integers(0, 2**50))
def test_a_formatted_size_reads_back(count):
    assert parse_size(format_size(count)) == count
