"""Series: baselines, standardising, alarms of ADWIN and Page-Hinkley, and what a drift says."""

import json
import math
from random import Random

import numpy as np
import pytest
from river import drift as river_drift

from mlmm.runtime.settings.sections import DetectorSettings

from .makers import label, prediction, run, settings


def drifts(outputs):
    return [json.loads(each.value) for each in outputs if each.type == "mlmm.drift.v1"]


def of_feature(values, **detectors):
    events = [prediction(f"{i}", i / 1000, 1, features={"x": x}) for i, x in enumerate(values)]
    state, outputs = run(events, settings(detectors=DetectorSettings(**detectors)))
    return state, drifts(outputs)


def of_error(errors, **detectors):
    events = []
    for i, wrong in enumerate(errors):
        events += [prediction(f"{i}", i / 1000, 1), label(f"{i}", i / 1000, 0 if wrong else 1)]
    _, outputs = run(events, settings(last=100_000, detectors=DetectorSettings(**detectors)))
    return drifts(outputs)


def step(seed, before, after, at=1500, n=3000):
    random = Random(seed)
    return [random.gauss(before if i < at else after, 1) for i in range(n)]


def test_a_stationary_stream_raises_no_alarm():
    random = Random(1)
    _, found = of_feature([random.gauss(5, 2) for _ in range(20_000)])
    assert not found
    assert not of_error([random.random() < 0.1 for _ in range(5_000)])


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_a_shift_of_one_sd_is_found_soon_on_every_scale(scale):
    _, found = of_feature([scale * (1e3 + x) for x in step(2, 0, 1)])
    first = found[0]
    assert first["series"] == "feature:x"
    assert first["subject"] == {"model": "m"}
    assert 1500 < first["observed"] < 1650
    assert first["before"] == pytest.approx(scale * 1e3, rel=1e-3)
    assert first["after"] == pytest.approx(scale * (1e3 + 1), abs=0.5 * scale)
    assert first["began"] == pytest.approx(first["observed"] - 1500, abs=40)


def test_alarms_equal_those_of_river_on_the_standardised_values():
    values = step(3, 0, 1.5)
    baseline = 500
    mean = float(np.mean(values[:baseline]))
    sd = float(np.std(values[:baseline], ddof=1))
    z = [min(max((x - mean) / sd, -4.0), 4.0) for x in values[baseline:]]

    adwin = river_drift.ADWIN(delta=0.0001)
    expected = next(i for i, x in enumerate(z, 1) if adwin.update(x) or adwin.drift_detected)
    _, found = of_feature(values, page_hinkley=False)
    assert found[0]["detector"] == "adwin"
    assert found[0]["observed"] == baseline + expected
    assert found[0]["began"] == pytest.approx(found[0]["observed"] - 1500, abs=5)
    assert found[0]["after"] == pytest.approx(1.5, abs=0.4)

    page_hinkley = river_drift.PageHinkley(min_instances=30, delta=0.5, threshold=50.0, alpha=1.0, mode="both")
    expected = next(i for i, x in enumerate(z, 1) if page_hinkley.update(x) or page_hinkley.drift_detected)
    _, found = of_feature(values, adwin=False)
    assert found[0]["detector"] == "page_hinkley"
    assert found[0]["observed"] == baseline + expected
    assert found[0]["after"] == pytest.approx(1.5, abs=0.4)


def test_adwin_wins_when_both_alarm_and_the_series_starts_anew():
    values = [0.0, 1.0] * 132 + [9.0] * 36  # ADWIN looks at each 32nd value: at 64 and 96 after the baseline
    given = {"baseline": 200, "page_hinkley_threshold": 104.5, "page_hinkley_delta": 0.0}
    _, alone = of_feature(values, adwin=False, **given)
    _, both = of_feature(values, **given)
    assert (alone[0]["detector"], alone[0]["observed"]) == ("page_hinkley", 296)
    assert (both[0]["detector"], both[0]["observed"]) == ("adwin", 296)
    assert len(both) == 1


def test_the_error_rate_rising_is_a_drift_of_the_error():
    random = Random(6)
    (first, *_) = of_error([random.random() < (0.05 if i < 1000 else 0.4) for i in range(1500)])
    assert first["series"] == "error"
    assert first["before"] == pytest.approx(0.05, abs=0.03)
    assert first["after"] == pytest.approx(0.4, abs=0.15)
    assert 1000 < first["observed"] < 1100


def test_a_model_that_never_erred_has_a_spread_all_the_same():
    (first, *_) = of_error([False] * 800 + [True] * 30)
    assert 800 < first["observed"] <= 830


def test_a_constant_feature_that_changes_by_a_hair_is_found():
    _, found = of_feature([7.0] * 600 + [7.0001] * 100)
    assert 600 < found[0]["observed"] <= 640
    assert found[0]["before"] == 7.0


def test_missing_values_are_counted_and_deafen_nothing():
    values = step(7, 0, 2)
    holes = [x if i % 3 else (math.nan, math.inf, None)[i // 3 % 3] for i, x in enumerate(values)]
    events = [prediction(f"{i}", i / 1000, 1, features={"x": x}) for i, x in enumerate(holes)]
    state, outputs = run(
        [each for each in events if each.event.features["x"] != math.inf], settings(detectors=DetectorSettings())
    )
    assert state.counters()["values_missing"] > 300
    assert drifts(outputs)


def test_one_outlier_is_no_drift():
    random = Random(8)
    values = [random.gauss(0, 1) for _ in range(2000)]
    values[1500] = 1e30
    _, found = of_feature(values)
    assert not found


def test_history_is_of_means_of_equal_blocks():
    values = step(9, 0, 4, at=1000, n=1100)
    _, found = of_feature(values)
    first = found[0]
    size = first["history_block"]
    assert len(first["history"]) * size <= first["observed"] < (len(first["history"]) + 1) * size
    means = [np.mean(values[k * size : (k + 1) * size]) for k in range(len(first["history"]))]
    assert first["history"] == pytest.approx(means)
    assert len(first["history"]) <= 31


def test_features_beyond_the_bound_are_left_out_and_counted():
    events = [prediction(f"{i}", i, 1, features={"a": 1.0, "b": 2.0, "c": 3.0}) for i in range(5)]
    state, _ = run(events, settings(max_features=2, detectors=DetectorSettings()))
    assert state.counters()["values_left_out"] == 5


def test_duplicates_and_corrections_reach_no_detector():
    series = [prediction("a", 0, 1, features={"x": 1.0})] * 700 + [label("a", 1, 1)]
    corrected = [label("a", 2, i % 2) for i in range(700)]
    state, outputs = run([*series, *corrected], settings(detectors=DetectorSettings(baseline=10)))
    assert not drifts(outputs)
    assert state.counters()["pairs"] == 1


@pytest.mark.parametrize("watched", [("error",), ("features",), ()])
def test_only_what_is_asked_for_is_watched(watched):
    events = []
    for i in range(300):
        events += [
            prediction(f"{i}", i / 100, 1, features={"x": float(i > 150) * 5 + i % 2}),
            label(f"{i}", i / 100, int(i < 150)),
        ]
    _, outputs = run(events, settings(last=1000, detectors=DetectorSettings(series=watched, baseline=50)))
    assert {each["series"].split(":")[0] + "s" * ("feature" in each["series"]) for each in drifts(outputs)} == set(
        watched
    )
