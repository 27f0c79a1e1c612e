"""Online false-discovery control keeps what it says, on streams with and without anything to find."""

import math

import numpy as np
import pytest

from mlmm.detectors import LOND, LORD, SAFFRON, AlarmBudget
from mlmm.detectors.discoveries import _gamma, _harmonic

ALL = {"lord": LORD, "saffron": SAFFRON, "lond": LOND}
TESTS, RUNS = 300, 200


def normal_tail(z):
    return 0.5 * math.erfc(z / math.sqrt(2))


def run(control, z, effects):
    """False discoveries, discoveries."""
    found = [control.test(normal_tail(value)) for value in z]
    false = sum(hit and effect == 0 for hit, effect in zip(found, effects, strict=True))
    return false, sum(found)


def rate(cls, share, correlation=0.0):
    """Mean share of false among discoveries, and mean share of effects that were found."""
    rng = np.random.default_rng(1)
    wrong, power = [], []
    for _ in range(RUNS):
        effects = np.where(rng.random(TESTS) < share, 4.0, 0.0)
        noise = math.sqrt(correlation) * rng.normal() + math.sqrt(1 - correlation) * rng.normal(size=TESTS)
        false, found = run(cls(0.1), effects + noise, effects)
        wrong.append(false / max(found, 1))
        power.append((found - false) / max((effects > 0).sum(), 1))
    return np.mean(wrong), np.mean(power)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_the_rate_is_kept_for_independent_values(name, share):
    """Of 200 runs: the mean is below .1 by design, .145 is more than two standard errors beyond it."""
    assert rate(ALL[name], share)[0] < 0.145


def test_the_rate_is_kept_by_lond_for_values_that_depend_on_one_another():
    assert rate(LOND, 0.1, correlation=0.8)[0] < 0.145


def test_procedures_find_more_the_more_they_assume():
    powers = [rate(cls, 0.4)[1] for cls in (LOND, LORD, SAFFRON)]
    assert powers[0] < powers[1] < powers[2]
    assert powers[1] > 0.5


def test_weights_sum_to_one_at_most():
    """The sum of the first million, and the integral over the rest."""
    v = math.sqrt(math.log(1e6))
    tail = 0.07908 * 2 * math.exp(-v) * (v**3 + 3 * v**2 + 6 * v + 6)
    assert 0.999 < sum(map(_gamma, range(1, 1_000_001))) + tail <= 1.0
    assert _harmonic(20_000) == pytest.approx(sum(1 / i for i in range(1, 20_001)), rel=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_nothing_found_spends_no_more_than_alpha_for_ever(name):
    control = ALL[name](0.05)
    assert not any(control.test(1.0) for _ in range(2000))
    assert control.discoveries == 0
    bound = 0.05 if name != "saffron" else 0.05 * 2000  # which pays for candidates alone, and there were none
    assert 0 < control.spent <= bound


@pytest.mark.parametrize("name", ALL)
def test_it_goes_on_from_its_bytes(name):
    rng = np.random.default_rng(2)
    p_values = np.where(rng.random(400) < 0.2, rng.random(400) * 1e-5, rng.random(400))
    whole, half = ALL[name](), ALL[name]()
    decided = [whole.test(p) for p in p_values]
    first = [half.test(p) for p in p_values[:150]]
    again = ALL[name].from_bytes(half.to_bytes())
    assert first + [again.test(p) for p in p_values[150:]] == decided
    assert again.to_bytes() == whole.to_bytes()
    assert sum(decided) > 20
    good = whole.to_bytes()
    for bad in (b"", good[:-1], good + b"\0", bytes([*good[:30], good[30] ^ 4, *good[31:]])):
        with pytest.raises(ValueError, match=r"state|detector"):
            ALL[name].from_bytes(bad)


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.1, math.inf, "p", None])
def test_what_is_no_probability_is_refused_and_spends_nothing(wrong):
    control = LOND()
    with pytest.raises(ValueError, match="p_value"):
        control.test(wrong)
    assert (control.tests, control.spent) == (0, 0.0)


def test_many_discoveries_are_kept_within_a_bound_and_only_lower_levels(monkeypatch):
    monkeypatch.setattr("mlmm.detectors.discoveries._MOST_DISCOVERIES", 50)
    bounded, free = LORD(), LORD()
    for _ in range(300):
        bounded.test(0.0)
    assert len(bounded._found) == 50
    assert LORD.from_bytes(bounded.to_bytes()).discoveries == 300
    monkeypatch.setattr("mlmm.detectors.discoveries._MOST_DISCOVERIES", 10_000)
    for _ in range(300):
        free.test(0.0)
    assert 0 < bounded.level() <= free.level()


# --- the budget of false alarms ---------------------------------------------------------------------------------------


def test_shares_add_up_to_the_budget_whoever_comes_and_goes():
    budget = AlarmBudget(1000)
    budget.enrol(["error"], weight=5)
    budget.enrol([f"f{i}" for i in range(100)])
    rates = [1 / budget.mean_time(line.name) for line in budget.report()]
    assert sum(rates) == pytest.approx(1 / 1000)
    budget.withdraw(["f3", "f4", "nobody"])
    budget.enrol(["error"], weight=1)
    assert sum(1 / budget.mean_time(line.name) for line in budget.report()) == pytest.approx(1 / 1000)
    assert budget.mean_time("error") == budget.mean_time("f5") == pytest.approx(99_000)


def test_what_was_spent_is_reported_and_stays():
    budget = AlarmBudget(1000)
    budget.enrol(["a", "b"])
    budget.observe("a", 4000, alarms=6)
    budget.observe("b", 2000)
    assert budget.expected == pytest.approx(3.0)
    assert budget.alarms == 6
    assert budget.false_share == pytest.approx(0.5)
    assert [line.name for line in budget.report()] == ["a", "b"]
    budget.withdraw(["a"])
    assert budget.expected == pytest.approx(3.0)
    assert budget.report()[-1] == ("(withdrawn)", 0.0, math.inf, 4000, pytest.approx(2.0), 6)
    assert AlarmBudget(10).false_share == 0.0


@pytest.mark.parametrize("wrong", [1.0, 0, -5, math.nan, math.inf, "1d"])
def test_a_wrong_budget_is_refused(wrong):
    with pytest.raises(ValueError, match="mean_time_between_false_alarms"):
        AlarmBudget(wrong)
    with pytest.raises(ValueError, match="weight"):
        AlarmBudget(100).enrol(["a"], weight=0)
    with pytest.raises(KeyError):
        AlarmBudget(100).mean_time("a")
