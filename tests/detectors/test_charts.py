"""Control charts have the run lengths that the books give, and learn their baseline honestly."""

import numpy as np
import pytest

from mlmm.detectors import CUSUM, EWMA, STEPD, CUSUMBank, EWMABank, Shewhart

SERIES = 4000
"""So many runs that three standard errors of a mean run length are below 5 % of it."""


def mean_run_length(bank, shift, seed=3):
    """Mean number of values to the first alarm of each series."""
    rng = np.random.default_rng(seed)
    first, alive, seen = np.zeros(SERIES), np.ones(SERIES, bool), 0
    while alive.any():
        alarms = bank.update_many(rng.normal(shift, 1, (200, SERIES)))
        for event, series in alarms.tolist():
            if alive[series]:
                alive[series], first[series] = False, seen + event + 1
        seen += 200
        assert seen < 20_000
    return first.mean()


@pytest.mark.parametrize(
    ("bank", "shift", "expected"),
    [
        (CUSUMBank(SERIES, k=0.5, h=4.0, baseline=0), 0.0, 167.7),
        (CUSUMBank(SERIES, k=0.5, h=4.0, baseline=0), 1.0, 8.38),
        (CUSUMBank(SERIES, k=0.5, h=5.0, baseline=0), 0.0, 465.4),
        (CUSUMBank(SERIES, k=0.5, h=5.0, baseline=0), 1.0, 10.38),
        (EWMABank(SERIES, lambda_=0.1, limit=2.814, baseline=0), 0.0, 499.0),
        (EWMABank(SERIES, lambda_=0.1, limit=2.814, baseline=0), 1.0, 10.3),
        (EWMABank(SERIES, lambda_=0.2, limit=2.962, baseline=0), 1.0, 10.5),
    ],
)
def test_run_lengths_of_the_books(bank, shift, expected):
    """Exact values by Brook and Evans, and Lucas and Saccucci."""
    assert mean_run_length(bank, shift) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
@pytest.mark.parametrize("cls", [CUSUM, EWMA, Shewhart])
def test_a_learnt_baseline_makes_scale_and_level_no_matter(cls, scale):
    values = np.random.default_rng(5).normal(0, 1, 600)
    values[400:] += 6
    plain, moved = cls(), cls()
    assert plain.update_many(values).tolist() == moved.update_many(scale * (values + 50)).tolist() != []


def test_each_mode_sees_its_own_direction():
    values = np.concatenate([np.random.default_rng(1).normal(0, 1, 300), np.full(40, -3.0)])
    assert CUSUM(mode="down").update_many(values)[0] > 299
    assert CUSUM(mode="up", h=12).update_many(values).tolist() == []
    detector = CUSUM(mode="both", h=12)
    first = int(detector.update_many(values)[0])
    again = CUSUM(mode="both", h=12)
    again.update_many(values[: first + 1])
    assert again.direction == -1


def test_western_electric_rules_find_what_the_limit_does_not():
    base = np.tile([1.0, -1.0], 100)  # standard deviation 1
    assert Shewhart(baseline=200).update_many(np.concatenate([base, np.full(8, 0.5)])).tolist() == []
    for values, at in (([0.5] * 8, 7), ([1.3] * 5, 3), ([2.2, 0.0, 2.2], 2)):
        found = Shewhart(baseline=200, western_electric=True).update_many(np.concatenate([base, values]))
        assert found.tolist() == [200 + at]


def test_a_baseline_of_one_value_is_refused():
    with pytest.raises(ValueError, match="baseline must be 0 or at least 2"):
        CUSUM(baseline=1)


def test_stepd_needs_the_recent_errors_to_be_more_and_says_how_sure_it_is():
    """20 % then 60 %: the statistic by hand, with the correction for continuity."""
    older, recent = np.tile([1, 0, 0, 0, 0], 20), np.tile([1, 1, 1, 0, 0], 6)
    pooled, spread = 38 / 130, 1 / 100 + 1 / 30
    statistic = (0.6 - 0.2 - 0.5 * spread) / np.sqrt(pooled * (1 - pooled) * spread)
    assert statistic == pytest.approx(3.996, abs=0.001)  # a two-sided p-value of 6.4e-5
    values = np.concatenate([older, recent])
    for alpha, alarm in ((7e-5, True), (6e-5, False)):
        detector = STEPD(alpha_drift=alpha)
        detector.update_many(values[:-1])
        last = detector.update(values[-1])
        assert last is alarm
    assert STEPD().update_many(np.concatenate([recent, recent, older])).tolist() == []
