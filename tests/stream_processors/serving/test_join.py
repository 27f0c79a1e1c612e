"""The join: a prediction meets its label, whichever comes first, once."""

import pytest

from .makers import T0, failure, label, prediction, reports, run, settings, tick


def counted(state, *names):
    counts = state.counters()
    return [counts[name] for name in names]


def test_a_label_finds_its_prediction():
    state, outputs = run([prediction("a", 0, 1), label("a", 5, 1), tick(60)])
    (report,) = reports(outputs, "performance", "10s")
    assert report["events"] == 1
    assert report["figures"]["accuracy"] == 1.0
    assert report["figures"]["label_lag_mean"] == 5.0
    assert report["coverage"] == 1.0
    assert counted(state, "predictions", "labels", "pairs") == [1, 1, 1]


def test_label_first_waits_for_its_prediction_and_counts_in_the_window_of_its_own_time():
    _, outputs = run([label("a", 3, 1), prediction("a", 12, 0), tick(60)])
    (report,) = reports(outputs, "performance", "10s")
    assert report["start"] == T0
    assert report["figures"]["accuracy"] == 0.0
    assert report["figures"]["label_lag_mean"] == -9.0


def test_a_duplicate_prediction_keeps_the_first_and_is_counted():
    events = [prediction("a", 0, 1, latency=0.1), prediction("a", 1, 0, latency=9.0), label("a", 2, 1), tick(60)]
    state, outputs = run(events)
    (service,) = reports(outputs, "service")
    assert service["figures"]["predictions"] == 1.0
    assert service["figures"]["duplicates"] == 1.0
    assert service["figures"]["latency_mean"] == 0.1
    (performance,) = reports(outputs, "performance", "10s")
    assert performance["figures"]["accuracy"] == 1.0
    assert counted(state, "predictions", "duplicates", "pairs") == [2, 1, 1]


def test_a_duplicate_after_the_label_is_still_a_duplicate():
    state, _ = run([prediction("a", 0, 1), label("a", 1, 1), prediction("a", 2, 1)])
    assert counted(state, "duplicates", "pairs") == [1, 1]


def test_a_correction_counts_in_a_window_that_is_open():
    state, outputs = run([prediction("a", 0, 1), label("a", 1, 0), label("a", 5, 1), tick(60)])
    (report,) = reports(outputs, "performance", "10s")
    assert report["events"] == 1
    assert report["figures"]["accuracy"] == 1.0
    assert report["figures"]["corrections"] == 1.0
    assert counted(state, "corrections", "pairs") == [1, 1]


def test_a_correction_leaves_a_closed_window_as_it_was():
    events = [prediction("a", 0, 1), prediction("b", 20, 1), label("a", 1, 0, log=21), label("b", 20, 1, log=22)]
    _, outputs = run([*events, label("a", 25, 1), tick(90)])
    first, second = reports(outputs, "performance", "10s")
    assert (first["events"], first["figures"]["accuracy"]) == (1, 0.0)
    assert (second["events"], second["figures"]["accuracy"], second["figures"]["corrections"]) == (1, 1.0, 1.0)


def test_a_correction_counts_among_the_last_pairs():
    events = [event for i in range(9) for event in (prediction(f"{i}", i, 1), label(f"{i}", i, 0))]
    _, outputs = run([*events, label("3", 9, 1), prediction("z", 9, 1), label("z", 9, 0)], settings(last=10))
    last = reports(outputs, window="last 10")[-1]
    assert last["events"] == 10
    assert last["figures"]["accuracy"] == 0.1
    assert last["figures"]["corrections"] == 1.0


def test_the_same_label_again_is_no_correction():
    state, _ = run([prediction("a", 0, 1), label("a", 1, 1), label("a", 2, True), label("a", 3, 1.0)])
    assert counted(state, "corrections", "labels_repeated") == [0, 2]


def test_an_unlabelled_prediction_expires_at_its_deadline():
    state, _ = run([prediction("a", 0), tick(99.999999)])
    assert counted(state, "predictions_expired") == [0]
    state, _ = run([prediction("a", 0), tick(100)])
    assert counted(state, "predictions_expired") == [1]


def test_expiry_comes_before_the_next_record_of_its_key():
    state, _ = run([prediction("a", 0), label("a", 100, 1)])
    assert counted(state, "predictions_expired", "pairs") == [1, 0]
    state, _ = run([prediction("a", 0), label("a", 99, 1)])
    assert counted(state, "predictions_expired", "pairs") == [0, 1]


def test_a_label_without_prediction_is_an_orphan_when_it_expires():
    state, _ = run([label("a", 0), prediction("b", 1), label("b", 2), tick(200)])
    assert counted(state, "labels_orphaned", "predictions_expired") == [1, 0]


def test_beyond_the_bound_the_oldest_row_leaves_early():
    events = [prediction("a", 0), prediction("b", 1), prediction("c", 2), label("a", 3), label("c", 3)]
    state, _ = run(events, settings(max_pending=2))
    assert counted(state, "rows_evicted", "pairs") == [2, 1]  # a leaves for c, b for the label of a


def test_models_and_shards_are_islands():
    events = [prediction("a", 0, model="m"), prediction("a", 0, model="n"), prediction("a", 0, model="m#1")]
    state, outputs = run([*events, label("a", 1, model="n"), tick(60)])
    assert counted(state, "duplicates", "pairs") == [0, 1]
    assert [each.key for each in outputs] == [b"m", b"m#1", b"n", b"n"]
    assert {each["subject"]["model"] for each in reports(outputs)} == {"m", "n"}


@pytest.mark.parametrize(
    ("task", "output", "value"),
    [("regression", "high", 1.0), ("regression", 1.0, "high"), ("regression", 1.0, True)],
)
def test_a_pair_that_can_not_be_judged_is_counted_as_unusable(task, output, value):
    state, outputs = run([prediction("a", 0, output, task=task), label("a", 1, value), tick(60)])
    judged = not isinstance(output, str) and not isinstance(value, str)
    assert counted(state, "pairs", "pairs_unusable") == [int(judged), int(not judged)]
    assert len(reports(outputs, "performance")) == int(judged)


@pytest.mark.parametrize("label_first", [False, True])
def test_a_label_that_can_not_be_judged_is_corrected_by_one_that_can(label_first):
    said = [prediction("a", 0, 1.0, task="regression"), label("a", 1, "high")]
    state, outputs = run([*(reversed(said) if label_first else said), label("a", 2, 3.0), label("a", 3, 2.0), tick(60)])
    assert counted(state, "pairs", "pairs_unusable", "corrections") == [1, 1, 2]
    (report,) = reports(outputs, "performance")
    assert report["figures"]["mae"] == 1.0
    assert report["coverage"] == 1.0


def test_failures_need_no_prediction():
    state, outputs = run([failure(0), failure(1), prediction("a", 2), tick(60)])
    (report,) = reports(outputs, "service")
    assert report["figures"]["error_rate"] == pytest.approx(2 / 3)
    assert counted(state, "failures") == [2]
