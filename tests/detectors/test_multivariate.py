"""Samples of rows, and tests of two of them: they see what no column shows, and nothing where nothing is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.detectors import ProjectionDrift, Reservoir, domain_classifier, energy_test, projection_test

TESTS = {"energy": energy_test, "classifier": domain_classifier, "projections": projection_test}


@given(st.lists(st.integers(0, 400), max_size=5), st.integers(0, 3))
def test_a_sample_does_not_depend_on_the_cut(cuts, seed):
    rows = np.random.default_rng(1).normal(size=(400, 2))
    rows[::13, 1] = math.nan
    whole, pieces = Reservoir(50, 2, seed), Reservoir(50, 2, seed)
    whole.add(rows)
    borders = [0, *sorted(cuts), 400]
    for start, stop in zip(borders, borders[1:], strict=False):  # noqa: RUF007 - pairs of borders
        pieces.add(rows[start:stop])
    assert np.array_equal(whole.rows, pieces.rows)
    assert whole.seen == pieces.seen == 400
    assert np.isfinite(whole.rows).all()


def test_samples_of_two_parts_merge_into_that_of_the_whole():
    rows = np.random.default_rng(2).normal(size=(1000, 3))
    whole, one, other = (Reservoir(64, 3) for _ in range(3))
    whole.add(rows)
    one.add(rows[:300])
    other.add(rows[300:], first=300)
    one.merge(other)
    assert np.array_equal(one.rows, whole.rows)


def test_every_row_has_the_same_chance():
    chosen = np.zeros(200)
    for seed in range(300):
        sample = Reservoir(20, 1, seed)
        sample.add(np.arange(200.0)[:, None])
        chosen[sample.rows[:, 0].astype(int)] += 1
    assert chosen.sum() == 300 * 20
    assert chosen.min() >= 8  # 30 are expected, 5.2 is a standard deviation
    assert chosen.max() <= 56


@pytest.mark.parametrize("name", TESTS)
def test_without_a_change_small_p_values_are_rare(name):
    """60 comparisons: three below .05 are expected; ten or more have a chance below 1 in 1,000."""
    rng = np.random.default_rng(3)
    keywords = {"permutations": 99} if name == "energy" else {}
    p_values = [TESTS[name](rng.normal(size=(80, 4)), rng.normal(size=(80, 4)), **keywords).p_value for _ in range(60)]
    assert sum(p < 0.05 for p in p_values) < 10


@pytest.mark.parametrize("name", TESTS)
def test_a_shift_of_all_columns_is_found(name):
    rng = np.random.default_rng(4)
    found = TESTS[name](rng.normal(size=(300, 5)) * 7 + 3, rng.normal(0.6, 1, (250, 5)) * 7 + 3)
    assert found.p_value <= 0.005
    assert found.effect > 0.05
    assert (found.reference, found.current) == (300, 250)


def test_a_correlation_that_no_column_shows_is_found():
    rng = np.random.default_rng(5)
    one = rng.normal(size=(400, 2))
    other = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 400)
    assert energy_test(one, other).p_value <= 0.005
    assert projection_test(one, other).p_value < 0.01


def test_a_change_of_spread_is_found_by_the_squares():
    rng = np.random.default_rng(6)
    found = domain_classifier(rng.normal(size=(400, 3)), rng.normal(0, 2, (400, 3)))
    assert found.statistic > 0.75
    assert found.p_value < 1e-6


def test_a_reference_along_directions_is_kept_and_the_same_for_the_same_seed():
    rng = np.random.default_rng(7)
    reference, current = rng.normal(size=(500, 64)), rng.normal(0.2, 1, (500, 64))
    assert ProjectionDrift(reference, seed=9).compare(current) == ProjectionDrift(reference, seed=9).compare(current)
    assert ProjectionDrift(reference).compare(current).p_value < 0.05
    with pytest.raises(ValueError, match="64 columns"):
        ProjectionDrift(reference).compare(np.zeros((5, 3)))


@pytest.mark.parametrize("test", TESTS.values())
def test_constant_columns_are_survived_and_missing_values_refused(test):
    same = np.column_stack([np.full(40, 5.0), np.zeros(40)])
    assert test(same, same).p_value > 0.3
    with pytest.raises(ValueError, match="missing or not finite"):
        test(same, np.where(same == 0, np.nan, same))
    with pytest.raises(ValueError, match=r"shape|columns"):
        test(same, same[:, :0])
