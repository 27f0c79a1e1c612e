"""Windows on event time: when they close, what is late, and what their figures are."""

import math
from random import Random

import numpy as np
import pytest
from sklearn import metrics

from .makers import T0, S, failure, label, prediction, reports, run, settings, tick


def test_a_window_closes_when_the_watermark_reaches_its_end():
    _, outputs = run([prediction("a", 3), prediction("b", 11.999999)])
    assert not reports(outputs)
    _, outputs = run([prediction("a", 3), prediction("b", 12)])
    (report,) = reports(outputs, "service")
    assert (report["start"], report["end"], report["window"]) == (T0, T0 + 10 * S, "10s")
    assert report["log_time"] == T0 + 12 * S
    assert report.get("final", True)


def test_out_of_order_within_the_allowed_lateness_is_not_late():
    state, outputs = run([prediction("a", 11), prediction("b", 9, log=11), tick(60)])
    assert [report["figures"]["predictions"] for report in reports(outputs, "service")] == [1.0, 1.0]
    assert state.counters()["late"] == 0


def test_a_late_event_is_in_no_window_but_counted_and_joined():
    events = [prediction("a", 12), prediction("b", 3, 1, log=13), label("b", 14, 1)]
    state, outputs = run([*events, tick(60)])
    (service,) = reports(outputs, "service")
    assert service["figures"]["predictions"] == 1.0
    assert service["figures"]["late"] == 1.0
    assert len(reports(outputs, "performance", "10s")) == 1
    assert state.counters()["late"] == 1


def test_a_silent_key_closes_its_windows_at_the_deadline_whenever_the_tick_comes():
    for at in (23.0, 24.5, 80.0):
        _, outputs = run([prediction("a", 3), tick(22.9), tick(at)])
        (report,) = reports(outputs, "service")
        assert report["log_time"] == T0 + 23 * S
        assert outputs[0].time == T0 + 23 * S


def test_a_window_that_ends_far_ahead_closes_when_time_has_reached_its_end():
    """After silence the watermark moves on by what elapsed: end - watermark after the last event."""
    _, outputs = run([prediction("a", 3), tick(60)], settings(idle_after=1.0))
    (report,) = reports(outputs, "service")
    assert report["log_time"] == T0 + 12 * S  # the watermark was 1 s at 3 s; it takes 9 s to 10 s


def test_deadlines_fire_before_the_next_record_of_the_key_too():
    _, outputs = run([prediction("a", 3), prediction("b", 50)])
    (report,) = reports(outputs, "service")
    assert report["log_time"] == T0 + 23 * S


def test_after_silence_the_watermark_stays_moved_on():
    state, outputs = run([prediction("a", 3), prediction("b", 50), prediction("c", 35, log=50.5), tick(120)])
    assert state.counters()["late"] == 1
    assert [report["start"] - T0 for report in reports(outputs, "service")] == [0, 50 * S]


def test_labels_move_no_service_watermark():
    events = [prediction("a", 1), label("a", 50, log=2), prediction("b", 2), tick(60)]
    state, outputs = run(events)
    (report,) = reports(outputs, "service")
    assert report["figures"]["predictions"] == 2.0
    assert state.counters()["late"] == 0


def test_empty_windows_make_no_reports():
    _, outputs = run([prediction("a", 1), prediction("b", 95), tick(200)])
    assert [report["start"] - T0 for report in reports(outputs, "service")] == [0, 90 * S]


def test_timers_of_many_keys_fire_at_a_tick_by_deadline_then_key():
    events = [prediction("a", 3, model="z"), prediction("a", 3, model="b"), prediction("a", 2.5, model="m", log=3.5)]
    _, outputs = run([*events, tick(90)])
    assert [each.key for each in outputs] == [b"b", b"z", b"m"]


def test_several_sizes_close_by_end_then_size():
    _, outputs = run([prediction("a", 3), prediction("b", 25)], settings(windows=(10.0, 5.0, 20.0)))
    found = [(report["window"], (report["start"] - T0) // S) for report in reports(outputs, "service")]
    assert found == [("5s", 0), ("10s", 0), ("20s", 0)]


def test_service_figures():
    events = [prediction(f"{i}", i / 100, i % 4 == 0, latency=0.001 * (i + 1)) for i in range(900)]
    _, outputs = run([*events, failure(9.0, latency=5.0), tick(90)])
    (report,) = reports(outputs, "service")
    figures = report["figures"]
    assert report["events"] == 901
    assert figures["predictions"] == 900.0
    assert figures["failures"] == 1.0
    assert figures["throughput"] == pytest.approx(90.1)
    assert figures["error_rate"] == pytest.approx(1 / 901)
    assert figures["positive_rate"] == 0.25
    latencies = [0.001 * (i + 1) for i in range(900)] + [5.0]
    assert figures["latency_mean"] == pytest.approx(sum(latencies) / 901)
    for name, q in (("latency_p50", 0.5), ("latency_p95", 0.95), ("latency_p99", 0.99)):
        assert figures[name] == pytest.approx(np.quantile(latencies, q, method="lower"), rel=0.008)


def test_a_quantile_of_one_latency_is_that_latency():
    _, outputs = run([prediction("a", 1, latency=0.0123), tick(90)])
    (report,) = reports(outputs, "service")
    assert report["figures"]["latency_p50"] == report["figures"]["latency_p99"] == 0.0123


def test_without_latencies_their_figures_are_undefined_with_the_reason():
    _, outputs = run([prediction("a", 1), tick(90)])
    (report,) = reports(outputs, "service")
    assert report["undefined"]["latency_p95"] == "no latency was given"
    assert "latency_p95" not in report["figures"]


def pairs_of(task, outputs, labels, **fields):
    events = []
    for i, (output, value) in enumerate(zip(outputs, labels, strict=True)):
        events += [prediction(f"{i}", i / 1000, output, task=task, **fields), label(f"{i}", i / 1000, value)]
    _, found = run([*events, tick(90)], settings(last=max(10, len(outputs) // 10 * 10)))
    (report,) = reports(found, "performance", "10s")
    return report, reports(found, "performance", f"last {max(10, len(outputs) // 10 * 10)}")[-1]


def test_binary_figures_equal_those_of_scikit_learn():
    random = Random(3)
    outputs = ["fraud" if random.random() < 0.4 else "fine" for _ in range(500)]
    labels = [each if random.random() < 0.8 else "fraud" for each in outputs]
    for report in pairs_of("binary", outputs, labels, positive="fraud"):
        figures = report["figures"]
        assert report["events"] == 500
        assert figures["accuracy"] == metrics.accuracy_score(labels, outputs)
        assert figures["precision"] == metrics.precision_score(labels, outputs, pos_label="fraud")
        assert figures["recall"] == metrics.recall_score(labels, outputs, pos_label="fraud")
        assert figures["f1"] == metrics.f1_score(labels, outputs, pos_label="fraud")


def test_multiclass_accuracy_equals_that_of_scikit_learn():
    random = Random(4)
    outputs = [random.choice("abc") for _ in range(300)]
    labels = [each if random.random() < 0.7 else random.choice("abc") for each in outputs]
    report, _ = pairs_of("multiclass", outputs, labels)
    assert report["figures"]["accuracy"] == metrics.accuracy_score(labels, outputs)
    assert report["undefined"]["f1"] == "only for binary tasks"


def test_regression_figures_equal_those_of_scikit_learn():
    random = Random(5)
    outputs = [random.gauss(3, 2) for _ in range(300)]
    labels = [each + random.gauss(0.5, 1) for each in outputs]
    for report in pairs_of("regression", outputs, labels):
        figures = report["figures"]
        assert figures["mae"] == pytest.approx(metrics.mean_absolute_error(labels, outputs), rel=1e-12)
        assert figures["rmse"] == pytest.approx(math.sqrt(metrics.mean_squared_error(labels, outputs)), rel=1e-12)
        assert figures["bias"] == pytest.approx(np.mean(np.subtract(outputs, labels)), rel=1e-12)
        assert "accuracy" not in figures


@pytest.mark.parametrize(
    ("output", "value", "undefined"),
    [
        (0, 0, {"precision", "recall", "f1"}),
        (1, 0, {"recall"}),
        (0, 1, {"precision"}),
        (1, 1, set()),
    ],
)
def test_what_scikit_learn_warns_of_is_undefined_with_a_reason(output, value, undefined):
    _, outputs = run([prediction("a", 1, output), label("a", 1, value), tick(90)])
    (report,) = reports(outputs, "performance")
    assert set(report.get("undefined", {})) == undefined
    assert undefined.isdisjoint(report["figures"])


def test_coverage_is_the_share_of_held_predictions_that_have_a_label():
    _, outputs = run([prediction("a", 1), prediction("b", 1), prediction("c", 1), label("b", 1), tick(90)])
    (report,) = reports(outputs, "performance")
    assert report["coverage"] == pytest.approx(1 / 3)


def test_the_last_pairs_are_reported_each_time_a_tenth_of_them_is_new():
    events = [event for i in range(35) for event in (prediction(f"{i}", i, i >= 20), label(f"{i}", i, 0))]
    _, outputs = run(events, settings(last=20))
    found = reports(outputs, window="last 20")
    assert [report["events"] for report in found] == [2, 4, 6, 8, 10, 12, 14, 16, 18] + [20] * 8
    assert found[-1]["figures"]["accuracy"] == 6 / 20  # pairs 14 to 33, wrong from 20 on
    assert (found[-1]["start"], found[-1]["end"]) == (T0 + 14 * S, T0 + 33 * S)


def test_a_figure_that_is_too_large_for_a_number_is_undefined_with_the_reason():
    """JSON has no infinity: written as null, it would make alerting refuse the whole report."""
    _, outputs = run([prediction("a", 0, latency=1.7e308), prediction("b", 0, latency=1.7e308), tick(60)])
    report = reports(outputs)[0]
    assert report["undefined"]["latency_mean"] == "not finite: values are too large"
    assert "latency_mean" not in report["figures"]
    assert report["figures"]["latency_p50"] == 1.7e308
