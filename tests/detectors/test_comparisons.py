"""References, sketches and comparisons: equal to SciPy's where it has them, honest where there is no change."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlmm.detectors import (
    CategoryReference,
    Counts,
    NumericReference,
    QuantileSketch,
    chi_squared,
    g_test,
    hellinger,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    wasserstein,
)

COUNTED = {"psi": psi, "jensen_shannon": jensen_shannon, "hellinger": hellinger, "chi": chi_squared, "g": g_test}
anything = st.floats() | st.sampled_from([0.0, -0.0, 1e100, -1e100, 1e-101, 5e-324, 1e99])


def sketch(values, **given):
    made = QuantileSketch(**given)
    made.update_many(values)
    return made


# --- sketch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_quantiles_have_the_relative_error_that_is_promised(scale):
    values = np.random.default_rng(1).standard_t(2, 20_000) * scale
    made = sketch(values)
    for q in (0.0, 0.001, 0.1, 0.5, 0.77, 0.99, 1.0):
        exact = np.quantile(values, q, method="inverted_cdf")
        assert made.quantile(q) == pytest.approx(exact, rel=0.0100001)


@given(st.lists(anything, max_size=60), st.randoms())
def test_order_and_pieces_of_the_values_make_no_difference(values, random):
    whole, pieces, other = (
        sketch(values, max_buckets=32),
        QuantileSketch(max_buckets=32),
        QuantileSketch(max_buckets=32),
    )
    shuffled = random.sample(values, len(values))
    cut = random.randint(0, len(values))
    pieces.update_many(shuffled[:cut])
    other.update_many(shuffled[cut:])
    pieces.merge(other)
    assert pieces.to_bytes() == whole.to_bytes()
    assert whole.count + whole.missing == len(values)
    again = QuantileSketch.from_bytes(whole.to_bytes())
    assert again.to_bytes() == whole.to_bytes()
    again.update_many([1.0])


def test_it_stays_within_its_buckets_and_gives_up_those_near_zero():
    values = np.concatenate([10.0 ** np.arange(-90, 91), -(10.0 ** np.arange(-90, 91))])
    made = sketch(values, max_buckets=100)
    bounds, counts = made.buckets()
    assert len(counts) <= 200
    assert counts.sum() == len(values)
    assert made.quantile(1.0) == pytest.approx(1e90, rel=0.01)
    assert (np.diff(bounds[:, 1]) > 0).all()


def test_what_is_missing_is_counted():
    made = sketch([1.0, math.nan, math.inf, -math.inf, 1e101, 0.0, -2.0])
    assert (made.count, made.missing) == (3, 4)
    assert math.isnan(QuantileSketch().quantile(0.5))


def test_damaged_and_foreign_bytes_are_refused():
    good = sketch([1.0, 2.0]).to_bytes()
    for bad in (b"", good[:-1], good + b"x", bytes([*good[:20], good[20] ^ 1, *good[21:]])):
        with pytest.raises(ValueError, match=r"state|detector"):
            QuantileSketch.from_bytes(bad)
    with pytest.raises(ValueError, match="can't take in"):
        sketch([1.0]).merge(QuantileSketch(0.02))


# --- references -------------------------------------------------------------------------------------------------------


def test_bins_have_equal_shares():
    values = np.random.default_rng(2).gamma(2, size=10_000)
    reference = NumericReference(values, bins=10)
    assert reference.counts.counts.tolist() == [1000] * 10
    assert (reference.mean, reference.sd) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))


@pytest.mark.parametrize("values", [[0.0] * 90 + [1.0] * 10, [5.0] * 10, [1.0, 2.0], [0.0, 0.0, 1e100]])
def test_a_value_that_comes_often_makes_fewer_bins_and_loses_nothing(values):
    reference = NumericReference(values, bins=20)
    assert reference.counts.n == len(values)
    assert (np.diff(reference.edges) > 0).all()
    assert len(reference.counts.counts) == len(set(values))


def test_counts_of_pieces_add_up():
    reference = NumericReference(np.arange(100.0))
    values = np.random.default_rng(3).normal(50, 40, 999)
    values[::7] = math.nan
    whole, pieces = reference.count(values), reference.count(values[:123]) + reference.count(values[123:])
    assert whole.counts.tolist() == pieces.counts.tolist()
    assert whole.missing == pieces.missing == np.isnan(values).sum()
    with pytest.raises(ValueError, match="two references"):
        _ = whole + NumericReference(np.arange(9.0), bins=3).counts


def test_categories_are_those_on_top_the_others_and_the_never_seen():
    reference = CategoryReference([*"aaabbbccd", None, math.nan], top=2)
    assert reference.categories == ("a", "b")
    assert reference.counts.counts.tolist() == [3, 3, 3, 0]
    assert reference.counts.missing == 2
    now = reference.count(["a", "d", "c", "zebra", 7, None])
    assert now.counts.tolist() == [1, 0, 2, 2]
    assert now.missing == 1


@pytest.mark.parametrize("make", [lambda: NumericReference([1.0, math.nan]), lambda: CategoryReference([None])])
def test_an_empty_reference_is_refused(make):
    with pytest.raises(ValueError, match="needs at least"):
        make()


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_tests_of_counts_equal_scipys():
    one, other = Counts(np.array([30, 50, 5, 0, 15])), Counts(np.array([10, 40, 30, 0, 25]))
    table = np.stack([one.counts, other.counts])[:, [0, 1, 2, 4]]
    for test, name in ((chi_squared, "pearson"), (g_test, "log-likelihood")):
        found = test(one, other)
        expected = stats.chi2_contingency(table, correction=False, lambda_=name)
        assert found.statistic == pytest.approx(expected.statistic)
        assert found.p_value == pytest.approx(expected.pvalue)
    assert chi_squared(one, other).effect == pytest.approx(stats.contingency.association(table, method="cramer"))


def test_distances_of_shares_by_hand():
    one, other = Counts(np.array([50, 50])), Counts(np.array([90, 10]))
    assert psi(one, other).statistic == pytest.approx(0.4 * math.log(0.9 / 0.5) - 0.4 * math.log(0.1 / 0.5))
    assert psi(one, other).effect == pytest.approx(psi(one, other).statistic - 0.02)
    assert hellinger(one, other).statistic == pytest.approx(math.sqrt(1 - math.sqrt(0.45) - math.sqrt(0.05)))
    m = np.array([0.7, 0.3])
    expected = (stats.entropy([0.5, 0.5], m) + stats.entropy([0.9, 0.1], m)) / 2
    assert jensen_shannon(one, other).statistic == pytest.approx(expected)
    assert jensen_shannon(one, other).effect == pytest.approx(math.sqrt(expected / math.log(2)))


@pytest.mark.parametrize("name", COUNTED)
def test_without_a_change_p_values_are_what_they_say(name):
    """Of 600 comparisons some 5 % have a p-value below .05: between 2 % and 8.5 %, seven standard errors and more."""
    rng = np.random.default_rng(4)
    below = 0
    for _ in range(600):
        reference = NumericReference(rng.normal(size=2000), bins=10)
        p_value = COUNTED[name](reference.counts, reference.count(rng.normal(size=1000))).p_value
        below += p_value < 0.05
    assert 12 <= below <= 51


def test_a_small_sample_is_no_drift_of_the_index():
    """10 bins, 100 values: the plain index is often above .1, the one without bias almost never."""
    rng = np.random.default_rng(5)
    honest = [
        psi(NumericReference(rng.normal(size=5000), 10).counts, Counts(rng.multinomial(100, [0.1] * 10)))
        for _ in range(400)
    ]
    assert np.mean([each.statistic > 0.1 for each in honest]) > 0.2
    assert np.mean([each.effect > 0.1 for each in honest]) < 0.06


def test_a_thousand_categories_are_no_drift_of_the_index():
    rng = np.random.default_rng(6)
    shares = np.full(1000, 0.001)
    one, other = Counts(rng.multinomial(20_000, shares)), Counts(rng.multinomial(10_000, shares))
    assert psi(one, other).statistic > 0.1
    assert psi(one, other).effect < 0.03


def test_a_change_is_found_by_all_and_a_tiny_one_is_small_however_sure():
    rng = np.random.default_rng(7)
    reference = NumericReference(rng.normal(size=100_000), bins=20)
    far, near = reference.count(rng.normal(0.5, 1, 20_000)), reference.count(rng.normal(0.02, 1, 2_000_000))
    for test in COUNTED.values():
        assert test(reference.counts, far).p_value < 1e-12
        assert test(reference.counts, near).p_value < 1e-4
        assert test(reference.counts, near).effect < test(reference.counts, far).effect / 10


def test_kolmogorov_and_smirnov_as_in_scipy_within_the_error_that_is_stated():
    rng = np.random.default_rng(8)
    for shift in (0.0, 0.1, 1.0):
        a, b = rng.normal(size=4000), rng.normal(shift, 1, 3000)
        found = kolmogorov_smirnov(sketch(a), sketch(b))
        exact = stats.ks_2samp(a, b, method="asymp")
        assert found.statistic <= exact.statistic + 1e-12 <= found.statistic + found.error + 2e-12
        assert found.error < 0.02
        assert found.p_value >= stats.kstwobign.sf(exact.statistic * math.sqrt(4000 * 3000 / 7000)) - 1e-12


def test_wasserstein_as_in_scipy_within_the_error_that_is_stated():
    rng = np.random.default_rng(9)
    for shift, scale in ((0.0, 1.0), (0.3, 1.0), (0.0, 3.0)):
        a, b = rng.normal(size=4000), rng.normal(shift, scale, 3000)
        found = wasserstein(sketch(a), sketch(b))
        assert found.statistic == pytest.approx(stats.wasserstein_distance(a, b), abs=found.error)
        assert found.effect == pytest.approx(found.statistic / a.std(), rel=0.05)


def test_an_empty_side_says_nothing():
    empty, some = Counts(np.zeros(3, np.int64)), Counts(np.array([1, 2, 3]))
    for test in COUNTED.values():
        assert math.isnan(test(some, empty).statistic)
        assert test(some, empty).p_value is None
    for test in (kolmogorov_smirnov, wasserstein):
        assert math.isnan(test(sketch([1.0]), sketch([])).statistic)


@pytest.mark.parametrize("test", COUNTED.values())
def test_one_class_alone_is_no_difference(test):
    found = test(Counts(np.array([5, 0])), Counts(np.array([9, 0])))
    assert (found.statistic, found.p_value, found.effect) == (0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="two references"):
        test(Counts(np.array([5, 0])), Counts(np.array([9])))
