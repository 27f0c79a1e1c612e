"""Triggers: their meaning on small curves, and their false stops on a thousand noisy ones."""

from math import inf, nan

import numpy as np
import pytest

from mlmm.events import Falling, FallingStrict, MalformedEvent, NotFinite, Plateau
from mlmm.stream_processors.training import first_firing
from mlmm.stream_processors.training.triggers import check, label_of, minds

DOWN3 = FallingStrict(metric="m", count=3)
FLAT3 = Plateau(metric="m", evaluations=3)


@pytest.mark.parametrize(
    ("trigger", "values", "index"),
    [
        (DOWN3, [5, 4, 3, 2], 3),
        (DOWN3, [5, 4, 3, 3, 2, 1, 0], 6),  # an equal value ends the row
        (DOWN3, [5, 4, nan, 3, inf, 2], 5),  # what is not finite neither counts nor breaks the row
        (DOWN3, [1, 2, 3, 4], None),
        (FallingStrict(metric="m", count=3, mode="min"), [1, 2, 3, 4], 3),
        (FLAT3, [1, 1, 1, 1], 3),
        (FLAT3, [1, 1, 1, 1.1, 1, 1, 1], 6),
        (Plateau(metric="m", evaluations=3, min_delta=0.5), [1, 1.2, 1.4, 1.5, 1.6, 1.7, 1.8], 6),
        (Plateau(metric="m", evaluations=3, mode="min"), [1, 0.9, 0.8, 0.8, 0.8, 0.8], 5),
        (NotFinite(), [1, 2, nan, 3], 2),
        (NotFinite(), [1, -inf], 1),
        (NotFinite(), [1, 2], None),
        (Falling(metric="m", alpha=1.0, drop=0.25, patience=2), [1, 0.875, 0.75, 0.75], 3),
        (Falling(metric="m", alpha=1.0, drop=0.25, patience=2), [1, 0.75, 0.875, 0.75, 0.5], 4),
        (Falling(metric="m", alpha=1.0, drop=0.25, patience=2, mode="min"), [1, 1.5, 1.25], 2),
        (DOWN3, [], None),
        (DOWN3, [nan], None),
    ],
)
def test_a_trigger_fires_at(trigger, values, index):
    assert first_firing(trigger, values) == index


def _ema_rule(values, alpha, drop, patience):
    """The default rule in plain Python."""
    level = best = values[0]
    row = 0
    for index, value in enumerate(values):
        if index:
            level = (1 - alpha) * level + alpha * value
            best = max(best, level)
        row = row + 1 if best - level >= drop else 0
        if row >= patience:
            return index
    return None


def test_falling_is_the_plain_rule_on_random_walks():
    rng = np.random.default_rng(5)
    fired = 0
    for _ in range(200):
        curve = np.cumsum(rng.normal(0, 0.02, 300))
        expected = _ema_rule(curve.tolist(), 0.05, 0.05, 10)
        assert first_firing(Falling(metric="m"), curve) == expected
        fired += expected is not None
    assert 50 < fired < 200  # both outcomes were compared


def _noise(rng, curves, steps, phi):
    """AR(1) noise with shocks of standard deviation .02."""
    noise = rng.normal(0, 0.02, (curves, steps))
    for step in range(1, steps):
        noise[:, step] += phi * noise[:, step - 1]
    return noise


def _false_stops(trigger, phi, curves=1000, steps=1000):
    rng = np.random.default_rng(20261121)
    improving = 0.9 - 0.4 * np.exp(-np.arange(steps) / 200)
    return np.mean([first_firing(trigger, improving + noise) is not None for noise in _noise(rng, curves, steps, phi)])


@pytest.mark.parametrize(
    ("trigger", "phi", "least", "most"),
    [
        (Falling(metric="m"), 0.0, 0.0, 0.0),
        (Falling(metric="m"), 0.7, 0.0, 0.015),
        (Falling(metric="m"), 0.9, 0.9, 1.0),  # noise of so long a memory looks like a fall: documented, not wished for
        (FallingStrict(metric="m"), 0.0, 0.0, 0.001),
        (FallingStrict(metric="m"), 0.7, 0.005, 0.03),
    ],
)
def test_false_stops_of_a_thousand_improving_curves(trigger, phi, least, most):
    """Within 1,000 noisy steps of an improving curve such a share is stopped for nothing."""
    assert least <= _false_stops(trigger, phi) <= most


def test_no_new_best_for_ten_values_stops_every_noisy_curve():
    """Why `plateau` counts evaluations: on raw steps it is a rule that always fires."""
    assert _false_stops(Plateau(metric="m", evaluations=10), 0.0, curves=100) == 1.0


def test_falling_finds_every_slow_fall_and_the_literal_rule_none():
    """A fall of .002 a step in iid noise: found in each of 300 curves, in the median within 60 steps."""
    rng = np.random.default_rng(7)
    fall = 0.9 - 0.002 * np.maximum(0, np.arange(400) - 200)
    curves = fall + rng.normal(0, 0.02, (300, 400))
    found = [first_firing(Falling(metric="m"), curve) for curve in curves]
    assert None not in found
    assert np.mean([index < 200 for index in found]) <= 0.01  # a lucky first value, from which anything is a fall
    assert np.median(found) - 200 < 60
    assert all(first_firing(FallingStrict(metric="m"), curve) is None for curve in curves)


@pytest.mark.parametrize(
    ("trigger", "phase", "name", "watched"),
    [
        (Falling(metric="acc"), "train", "acc", True),
        (Falling(metric="acc"), "validation", "acc", True),
        (Falling(metric="validation/acc"), "validation", "acc", True),
        (Falling(metric="validation/acc"), "train", "acc", False),
        (Falling(metric="val/acc"), "train", "val/acc", True),
        (Falling(metric="a*"), "train", "acc", False),
        (NotFinite(), "validation", "acc", True),
        (NotFinite(metric="loss*"), "validation", "loss_a", True),
        (NotFinite(metric="loss*"), "train", "acc", False),
    ],
)
def test_a_trigger_minds_its_metric(trigger, phase, name, watched):
    assert minds(trigger, phase, name) is watched
    assert label_of(phase, name) == (name if phase == "train" else f"{phase}/{name}")


@pytest.mark.parametrize(
    ("trigger", "field"),
    [
        (FallingStrict(metric="m", count=0), "count"),
        (Falling(metric="m", alpha=0.0), "alpha"),
        (Falling(metric="m", drop=0.0), "drop"),
        (Falling(metric="m", drop=nan), "drop"),
        (Falling(metric="m", patience=0), "patience"),
        (Plateau(metric="m", evaluations=0), "evaluations"),
        (Plateau(metric="m", min_delta=-1.0), "min_delta"),
    ],
)
def test_a_trigger_that_always_or_never_fires_is_refused(trigger, field):
    with pytest.raises(MalformedEvent) as caught:
        check([NotFinite(), trigger], limit=8)
    assert caught.value.field == f"triggers[1].{field}"


def test_more_triggers_than_are_judged_are_refused():
    with pytest.raises(MalformedEvent, match="3 triggers, at most 2"):
        check([NotFinite()] * 3, limit=2)
