"""Run lengths are those of the literature, and limits give the run lengths that were asked for."""

import math

import numpy as np
import pytest

from mlmm.detectors import (
    bernoulli_cusum_run_length,
    bernoulli_cusum_threshold,
    cusum_run_length,
    cusum_threshold,
    ewma_limit,
    ewma_run_length,
    samples_in,
)
from mlmm.detectors._run_length_tables import CUSUM, CUSUM_LOG10, EWMA, EWMA_LOG10
from mlmm.detectors.run_length import solve_cusum, solve_ewma


@pytest.mark.parametrize(
    ("h", "shift", "expected"), [(4.0, 0.0, 167.7), (4.0, 1.0, 8.38), (5.0, 0.0, 465.4), (5.0, 1.0, 10.38)]
)
def test_cusum_equals_the_published_run_lengths(h, shift, expected):
    assert cusum_run_length(0.5, h, shift=shift) == pytest.approx(expected, rel=5e-4)
    assert cusum_run_length(0.5, h, shift=-shift) == pytest.approx(expected, rel=5e-4)


@pytest.mark.parametrize(
    ("weight", "limit", "shift", "expected"),
    [(0.1, 2.814, 0.0, 499.6), (0.1, 2.814, 1.0, 10.33), (0.2, 2.962, 0.0, 499.7), (0.2, 2.962, 1.0, 10.54)],
)
def test_ewma_equals_the_published_run_lengths(weight, limit, shift, expected):
    assert ewma_run_length(weight, limit, shift=shift) == pytest.approx(expected, rel=1e-3)


def test_an_ewma_of_the_last_value_alone_is_a_shewhart_chart():
    assert ewma_run_length(1.0, 3.0) == pytest.approx(1.0 / math.erfc(3.0 / math.sqrt(2.0)), rel=1e-9)


def test_a_one_sided_cusum_alarms_half_as_often():
    assert cusum_run_length(0.5, 4.0, two_sided=False) == pytest.approx(2.0 * cusum_run_length(0.5, 4.0), rel=1e-12)


def test_a_simulated_cusum_has_the_run_length():
    """The mean of 4,000 runs is within 4 of its standard errors, 2.6 each: fails for one seed in 16,000."""
    rng = np.random.default_rng(3)
    up, down = np.zeros(4000), np.zeros(4000)
    length = np.zeros(4000)
    running = np.ones(4000, bool)
    while running.any():
        x = rng.normal(size=4000)
        up, down = np.maximum(0.0, up + x - 0.5), np.maximum(0.0, down - x - 0.5)
        length += running
        running &= (up <= 4.0) & (down <= 4.0)
    assert length.mean() == pytest.approx(167.7, abs=10.5)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("k", [0.25, 0.37, 0.5, 1.0])
def test_the_threshold_of_a_cusum_gives_the_run_length(k, two_sided):
    for wanted in (100.0, 370.0, 1e4, 3.3e5, 1e8):
        h = cusum_threshold(k, wanted, two_sided=two_sided)
        assert cusum_run_length(k, h, two_sided=two_sided) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("weight", [0.05, 0.13, 0.2, 1.0])
def test_the_limit_of_an_ewma_gives_the_run_length(weight):
    for wanted in (100.0, 370.0, 1e4, 1e8):
        assert ewma_run_length(weight, ewma_limit(weight, wanted)) == pytest.approx(wanted, rel=0.01)


def test_beyond_the_table_limits_are_solved_for():
    assert cusum_run_length(0.5, cusum_threshold(0.5, 20.0)) == pytest.approx(20.0, rel=1e-6)
    assert cusum_run_length(0.5, cusum_threshold(0.5, 1e10)) == pytest.approx(1e10, rel=1e-3)
    assert ewma_run_length(0.2, ewma_limit(0.2, 5.0)) == pytest.approx(5.0, rel=1e-6)
    assert cusum_threshold(0.5, 2.0, two_sided=False) < 1.0


def test_the_tables_are_what_their_script_makes():
    for k in (0.5, 1.0, 1.5):
        for at in (0, 9, len(CUSUM_LOG10) - 1):
            assert CUSUM[k][at] == pytest.approx(solve_cusum(k, 10.0 ** CUSUM_LOG10[at]), rel=1e-6)
    for weight in (0.2, 1.0):
        for at in (0, 9, len(EWMA_LOG10) - 1):
            assert EWMA[weight][at] == pytest.approx(solve_ewma(weight, 10.0 ** EWMA_LOG10[at]), rel=1e-6)
    assert all(np.all(np.diff(limits) > 0) for limits in (*CUSUM.values(), *EWMA.values()))


def test_a_bernoulli_cusum_is_exact():
    assert bernoulli_cusum_run_length(0.25, 1, 1) == pytest.approx(4.0, rel=1e-12)
    # Two states: E0 = 1 + E0/2 + E1/2 and E1 = 1 + E0/2.
    assert bernoulli_cusum_run_length(0.5, 1, 2) == pytest.approx(6.0, rel=1e-12)
    assert bernoulli_cusum_run_length(0.5, 1, 2, start=1) == pytest.approx(4.0, rel=1e-12)
    assert bernoulli_cusum_run_length(0.5, 7, 3) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize(("chance", "rise"), [(0.2, 3), (0.2, 2), (0.05, 13)])
def test_the_threshold_of_a_bernoulli_cusum_is_the_least(chance, rise):
    h = bernoulli_cusum_threshold(chance, rise, 1e4)
    assert bernoulli_cusum_run_length(chance, rise, h) >= 1e4 > bernoulli_cusum_run_length(chance, rise, h - 1)


def test_what_no_run_length_can_be_told_of_is_never():
    assert cusum_run_length(0.5, 5.0, shift=-50.0, two_sided=False) == math.inf


def test_a_duration_becomes_samples():
    assert samples_in(3600.0, per_second=0.5) == 1800.0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: cusum_run_length(-1.0, 4.0), "k"),
        (lambda: cusum_run_length(0.5, 0.0), "h"),
        (lambda: cusum_threshold(0.5, 1.0), "run_length"),
        (lambda: ewma_run_length(0.0, 3.0), "weight"),
        (lambda: ewma_limit(0.1, math.nan), "run_length"),
        (lambda: bernoulli_cusum_run_length(1.0, 1, 4), "chance"),
        (lambda: bernoulli_cusum_run_length(0.5, 0, 4), "rise"),
        (lambda: bernoulli_cusum_run_length(0.5, 1, 4, start=4), "start"),
        (lambda: bernoulli_cusum_threshold(0.5, 100_000, 1e9), "rise"),
        (lambda: samples_in(0.0, per_second=1.0), "seconds"),
    ],
)
def test_a_wrong_argument_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
