"""The life of a run: attempts, triggers, silence, commands, the end."""

from math import inf, nan

import msgspec
import pytest

from mlmm.events import Falling, FallingStrict, Heartbeat, MetricsBlock, NotFinite, Plateau, Prediction
from mlmm.runtime.processor import Record
from mlmm.stream_processors.training import Bounds
from tests.stream_processors.training.making import (
    DAY,
    SECOND,
    T0,
    acked,
    beat,
    checkpoint,
    columns,
    ended,
    log,
    metrics,
    record,
    said,
    started,
    state,
    statuses,
    tick,
)

DOWN = FallingStrict(metric="acc", count=2)


def test_a_trigger_fires_once_with_reason_figures_and_history():
    values = [0.5, 0.8, 0.7, 0.6, 0.5, 0.4]
    runs = state()
    outputs = runs.process(
        log(
            (0, started(triggers=(DOWN,), model="m")),
            *((i + 1, metrics(i, acc=v, loss=1.0)) for i, v in enumerate(values)),
        )
    )
    assert statuses(outputs) == ["running", "falling_strict"]
    fired = said(outputs)[1]
    assert (fired.metric, fired.step, fired.status, fired.model, fired.experiment) == (
        "acc",
        3,
        "running",
        "m",
        "churn",
    )
    assert fired.reason == "acc fell 2 times in a row, to 0.6 at step 3"
    assert fired.figures == {"acc": 0.6, "loss": 1.0}
    assert fired.history == (0.5, 0.8, 0.7, 0.6)
    assert (fired.log_time, fired.event_time, fired.started) == (T0 + 4 * SECOND, T0 + 3, T0)
    assert (outputs[1].offset, outputs[1].key, outputs[1].topic) == (4, b"r", "findings")


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        (Falling(metric="m", alpha=1.0, drop=0.5, patience=1), "m, smoothed, was at least 0.5 below its best 3"),
        (
            Falling(metric="m", alpha=1.0, drop=0.5, patience=1, mode="min"),
            "m, smoothed, was at least 0.5 above its best 1",
        ),
        (FallingStrict(metric="m", count=1, mode="min"), "m rose 1 times in a row, to 3 at step 1"),
        (Plateau(metric="m", evaluations=1, min_delta=5.0), "m has not improved on 1 by 5 for 1 evaluations; it is 3"),
        (NotFinite(), "m is NaN at step 3"),
    ],
)
def test_a_reason_speaks_in_words_and_figures(trigger, reason):
    values = [1.0, 3.0, 2.0, nan]
    entries = [(i + 1, metrics(i, m=v)) for i, v in enumerate(values)]
    outputs = state().process(log((0, started(triggers=(trigger,))), *entries))
    assert said(outputs)[1].reason.startswith(reason)


@pytest.mark.parametrize(("value", "spelled"), [(nan, "NaN"), (inf, "Infinity"), (-inf, "-Infinity")])
def test_a_figure_that_is_not_finite_is_spelled_and_left_out_of_the_history(value, spelled):
    block = columns(metrics(0, loss=1.0), metrics(1, loss=value))
    outputs = state().process(log((0, started(triggers=(NotFinite(),))), (1, block)))
    fired = said(outputs)[1]
    assert (fired.trigger, fired.figures, fired.history) == ("not_finite", {"loss": spelled}, (1.0,))


def test_all_metrics_of_an_event_count_before_its_triggers_speak():
    outputs = state().process(log((0, started(triggers=(NotFinite(),))), (1, columns(metrics(0, a=nan, b=2.0)))))
    assert said(outputs)[1].figures == {"a": "NaN", "b": 2.0}


def test_a_metric_of_another_phase_is_a_series_of_its_own():
    entries = [
        (i, metrics(i, phase=phase, acc=1.0 - 0.1 * i)) for i, phase in enumerate(["train", "validation"] * 2, 1)
    ]
    outputs = state().process(log((0, started(triggers=(FallingStrict(metric="acc", count=1),))), *entries))
    assert [each.metric for each in said(outputs)[1:]] == ["acc", "validation/acc"]


def test_the_history_of_a_long_curve_is_bounded_means_of_equal_blocks():
    block = columns(*(metrics(i, m=float(i)) for i in range(1000)))
    outputs = state().process(log((0, started(triggers=(NotFinite(),))), (1, block), (2, metrics(1000, m=nan))))
    history = said(outputs)[1].history
    assert 32 <= len(history) <= 65
    assert history[:3] == (7.5, 23.5, 39.5)  # blocks of 16


def test_a_run_is_lost_at_its_deadline_however_late_the_tick():
    runs = state()
    outputs = runs.process(log((0, started(heartbeat_every=10)), (5, beat())))
    assert runs.deadline() == T0 + 35 * SECOND
    assert runs.process([tick(2, 34.9)]) == []
    (lost,) = outputs = runs.process([tick(3, 500)])
    assert (said(outputs)[0].status, said(outputs)[0].log_time, lost.offset) == ("lost", T0 + 35 * SECOND, 3)
    assert "30 s" in said(outputs)[0].reason
    assert runs.deadline() is None


def test_a_backlog_is_read_before_anyone_is_called_lost():
    """After an outage the heartbeats that waited come before the tick: nobody is lost."""
    runs = state()
    entries = [(seconds, beat()) for seconds in range(10, 400, 10)]
    assert statuses(runs.process(log((0, started()), *entries, (401, None)))) == ["running"]


def test_a_lost_run_fires_before_its_own_late_record_and_runs_again():
    outputs = state().process(log((0, started()), (30, metrics(1, m=1.0))))
    assert statuses(outputs) == ["running", "lost", "running"]
    assert [each.log_time - T0 for each in said(outputs)] == [0, 30 * SECOND, 30 * SECOND]
    assert said(outputs)[2].reason == "it was heard again"


def test_a_record_just_before_the_deadline_keeps_a_run():
    assert statuses(state().process(log((0, started()), (29.999999, beat())))) == ["running"]


def test_ticks_lose_runs_in_order_of_deadline_then_key():
    entries = [(0, started("b")), (0, started("a")), (0, started("c", heartbeat_every=1)), (100, None)]
    assert [each.run_id for each in said(state().process(log(*entries)))[3:]] == ["c", "a", "b"]


def test_a_newer_attempt_starts_anew_and_older_ones_are_ignored():
    """The last run.started names the current attempt; what an older one still says has no effect but is recorded."""
    runs = state()
    values = [(i, metrics(i, acc=v)) for i, v in enumerate([0.9, 0.8], 1)]
    old = [(4, metrics(9, acc=0.1)), (4, beat()), (4, ended()), (4, checkpoint(1)), (4, acked("c", "accepted"))]
    new = [(5, metrics(0, attempt="a2", acc=0.7)), (6, metrics(1, attempt="a2", acc=0.6))]
    outputs = runs.process(
        log((0, started(triggers=(DOWN,))), *values, (3, started(attempt="a2", triggers=(DOWN,))), *old, *new)
    )
    assert statuses(outputs) == ["running", "running"]
    assert [each.attempt for each in said(outputs)] == ["a1", "a2"]
    assert runs.counters()["ignored"] == 5
    again = runs.process([record(20, 7, metrics(2, attempt="a2", acc=0.5))])
    assert statuses(again) == ["falling_strict"]


def test_a_start_that_comes_twice_or_from_an_older_attempt_changes_nothing():
    runs = state()
    runs.process(log((0, started()), (1, started(attempt="a2")), (2, metrics(5, attempt="a2", m=1.0))))
    before = dict(runs.cells())
    outputs = runs.process([record(3, 2, started(attempt="a2"))])
    assert (outputs, runs.cells()) == ([], before)
    assert runs.process([record(4, 2, started(attempt="a1"))]) == []


def test_a_quicker_heartbeat_of_a_new_attempt_counts_at_once():
    runs = state()
    runs.process(log((0, started(heartbeat_every=1000)), (1, started(attempt="a2", heartbeat_every=1))))
    assert runs.deadline() == T0 + 4 * SECOND
    assert statuses(runs.process([tick(2, 5)])) == ["lost"]


def test_a_run_whose_start_the_log_does_not_tell_is_watched_for_silence():
    runs = state()
    outputs = runs.process(log((0, metrics(7, attempt="a9", m=1.0)), (40, None)))
    assert statuses(outputs) == ["running", "lost"]
    assert said(outputs)[1].step == 7
    late = runs.process([record(5, 41, started(attempt="a9"))])
    assert [(each.status, each.started) for each in said(late)] == [("running", T0 + 41 * SECOND)]


def test_checkpoints_are_told_once():
    outputs = state().process(log((0, started()), (1, checkpoint(10)), (1, checkpoint(10)), (2, checkpoint(20))))
    assert [(each.checkpoint, each.resumable_from) for each in said(outputs)] == [
        (None, None),
        ("file:///10", 10),
        ("file:///20", 20),
    ]


def test_the_end_is_told_with_the_last_figures_and_frees_the_figures_cell():
    runs = state()
    outputs = runs.process(
        log((0, started()), (1, metrics(3, m=2.0)), (2, beat(step=5)), (3, ended(status="failed", error="boom")))
    )
    last = said(outputs)[-1]
    assert (last.status, last.error, last.step, last.figures) == ("failed", "boom", 5, {"m": 2.0})
    assert set(runs.cells()) == {b"ir"}
    assert runs.deadline() is None
    assert runs.process([record(9, 4, metrics(4, m=1.0)), record(10, 4, ended())]) == []
    assert runs.counters()["ignored"] == 2


def test_a_lost_run_that_says_it_ended_ended():
    assert statuses(state().process(log((0, started()), (60, None), (70, ended())))) == ["running", "lost", "completed"]


def test_runs_that_ended_are_forgotten_after_a_week_and_leave_no_cells():
    runs = state()
    runs.process(log((0, started()), (1, ended()), (2, started("s"))))
    runs.changed()
    runs.process([tick(5, DAY * 7 / SECOND + 0.9)])
    assert b"ir" in runs.cells()
    runs.changed()
    runs.process([tick(6, DAY * 7 / SECOND + 1)])
    assert set(runs.cells()) == {b"is", b"ss"}
    assert runs.changed() == {b"ir": None, b"sr": None}


def test_a_forgotten_run_that_speaks_again_is_a_new_one():
    outputs = state().process(log((0, started()), (1, ended()), (DAY * 8 / SECOND, metrics(1, m=1.0))))
    assert statuses(outputs) == ["running", "completed", "running"]


@pytest.mark.parametrize(
    ("close", "reason"),
    [
        ((2, ended(status="stopped")), "the run ended: stopped"),
        ((99, None), "the run was lost: nothing was heard for 30 s"),
        ((2, started(attempt="a2")), "a newer attempt began"),
    ],
)
def test_the_end_loss_or_a_newer_attempt_closes_an_open_command(close, reason):
    outputs = state().process(log((0, started()), (1, acked("c", "accepted")), (1, acked("d", "completed")), close))
    assert [each for each in statuses(outputs) if ":" in each] == ["c:accepted", "d:completed", "c:superseded"]
    (superseded,) = (each for each in said(outputs) if getattr(each, "state", "") == "superseded")
    assert (superseded.reason, superseded.target, superseded.run_id) == (reason, "r", "r")


def test_acknowledgements_come_at_least_once_and_are_told_once():
    entries = [(1, acked("c", what)) for what in ("accepted", "accepted", "completed", "accepted", "completed")]
    assert statuses(state().process(log((0, started()), *entries))) == ["running", "c:accepted", "c:completed"]


def test_a_completion_that_comes_after_the_end_overrules_superseded():
    entries = [
        (1, acked("c", "accepted")),
        (2, ended(status="stopped")),
        (3, acked("c", "completed", checkpoint="file:///9")),
    ]
    outputs = state().process(log((0, started()), *entries))
    assert statuses(outputs)[1:] == ["c:accepted", "stopped", "c:superseded", "c:completed"]
    assert said(outputs)[-1].checkpoint == "file:///9"


def test_what_a_newer_attempt_says_of_an_old_order_is_ignored():
    entries = [(1, acked("c", "accepted")), (2, started(attempt="a2")), (3, acked("c", "rejected", attempt="a2"))]
    assert statuses(state().process(log((0, started()), *entries)))[1:] == ["c:accepted", "c:superseded", "running"]


def test_a_command_is_told_to_the_run_and_to_the_model_that_it_declared():
    """Its target is one of the two: the finding must meet the rule that gave the order."""
    outputs = state().process(log((0, started(model="fraud")), (1, acked("c", "accepted"))))
    assert [(each.key, said([each])[0].target, said([each])[0].run_id) for each in outputs[1:]] == [
        (b"r", "r", "r"),
        (b"fraud", "fraud", "r"),
    ]
    assert len({each.id for each in outputs}) == 3


def test_an_acknowledgement_of_an_unknown_run_is_passed_on():
    runs = state()
    assert statuses(runs.process(log((0, acked("c", "expired"))))) == ["c:expired"]
    assert runs.cells() == {}


def _prediction():
    return Prediction(prediction_id="1", time=T0, model="m", output=1)


def _metrics_from_the_future():
    return msgspec.structs.replace(metrics(0, m=1.0), time=T0 + 302 * SECOND)


@pytest.mark.parametrize(
    ("wrong", "key", "reason"),
    [
        (_prediction(), "m", "does not belong on the training topic"),
        (metrics(0, m=1.0), "other", "key"),
        (beat(), "other", "key"),
        (_metrics_from_the_future(), None, "ahead of the log's time"),
        (columns(metrics(0, m=1.0), _metrics_from_the_future()), None, "ahead of the log's time"),
        (Heartbeat(run_id="r", attempt="a1", time=T0 + 302 * SECOND), None, "ahead of the log's time"),
        (started(triggers=(FallingStrict(metric="m", count=0),)), None, "triggers[0].count"),
        (started(heartbeat_every=0.0), None, "heartbeat_every"),
        (beat(step=2**63), None, "step: does not fit"),
        (checkpoint(2**64), None, "step: does not fit"),
        (ended(last_step=2**70), None, "last_step: does not fit"),
        (ended(status="lost"), None, "status: 'lost' is said of a run"),
        (started(heartbeat_every=1e9), None, "heartbeat_every"),
        (MetricsBlock(head=columns(metrics(0, m=1.0)).head, n=2, step=b"", time=b"", values=b""), None, "time"),
    ],
)
def test_what_is_malformed_is_a_dead_letter_and_has_no_effect(wrong, key, reason):
    runs = state()
    runs.process(log((0, started(attempt="a0"))))
    before = dict(runs.cells())
    (letter,) = runs.process([record(1, 1, wrong, key=key)])
    assert (letter.topic, letter.offset) == ("dead-letters", 1)
    assert reason in dict(letter.headers)["mlmm_error"].decode()
    assert runs.cells() == before
    assert runs.counters()["dead_letters"] == 1


def test_headers_without_a_value_are_malformed():
    runs = state()
    letters = runs.process(
        [
            Record(0, T0, b"r", b"{}", [("ce_type", None)]),
            Record(1, T0, b"r", b"{}", [("ce_type", b"mlmm.run.metrics.v1"), ("content-type", None)]),
            Record(2, T0, b"r", b"{}", [("ce_type", b"mlmm.run.ended.v1"), ("content-type", None)]),
        ]
    )
    assert [dict(letter.headers)["mlmm_error"].split(b":")[0] for letter in letters] == [
        b"ce_type",
        b"content-type",
        b"content-type",
    ]


def test_metrics_beyond_the_bound_are_counted_and_not_kept():
    runs = state(Bounds(max_metrics=2))
    outputs = runs.process(
        log((0, started(triggers=(NotFinite(),))), (1, metrics(0, a=1.0, b=1.0, c=nan)), (2, metrics(1, c=1.0, a=nan)))
    )
    assert [(each.trigger, each.figures) for each in said(outputs)[1:]] == [("not_finite", {"a": "NaN", "b": 1.0})]
    assert runs.counters()["unkept"] == 2


def test_a_run_beyond_the_bound_takes_the_place_of_the_one_that_closed_longest_ago():
    runs = state(Bounds(max_runs=2))
    runs.process(log((0, started("a")), (0, started("b")), (1, ended("b")), (2, ended("a")), (3, started("c"))))
    assert {cell for cell in runs.cells() if cell[:1] == b"i"} == {b"ia", b"ic"}


def test_a_run_beyond_the_bound_is_a_dead_letter_when_all_are_alive():
    runs = state(Bounds(max_runs=2))
    outputs = runs.process(log((0, started("a")), (0, started("b")), (1, started("c")), (1, beat("d"))))
    assert [each.topic for each in outputs] == ["findings", "findings", "dead-letters", "dead-letters"]
    assert {cell for cell in runs.cells() if cell[:1] == b"i"} == {b"ia", b"ib"}
