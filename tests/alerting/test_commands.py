"""Commands that rules give, the answers to them, and runs."""

import pytest

from mlmm.runtime.settings import Order
from tests.alerting.stories import (
    SECOND,
    STOP,
    Story,
    accuracy_rule,
    at,
    decoded,
    drift,
    falling_rule,
    report,
    rule,
    run_state,
    said,
    settings,
    states,
    tick_at,
    trigger,
)


def fired(**alerting) -> tuple[Story, str]:
    """A run that was told to stop at second 60."""
    story = Story(settings(falling_rule(), **alerting))
    story.tell(run_state(0), trigger(60))
    return story, story.commands[0].command_id


def test_a_trigger_orders_the_stop_of_this_attempt_and_the_order_is_signed():
    story, _ = fired(command_lifetime="2h")
    order = next(output for output in story.outputs if output.topic == "commands")
    assert order.signed
    assert order.key == b"churn-1"
    assert order.time == at(60)
    assert dict(order.headers)["ce_expirytime"] == b"2027-01-15T10:01:00.000000Z"
    command = decoded(order)
    assert (command.kind, command.run_id, command.attempt, command.model) == ("stop", "churn-1", "a1", None)
    assert (command.issued_at, command.expires_at) == (at(60), at(60 + 7200))
    assert command.reason == "hopeless run: falling on val/accuracy: 0.71 is 0.09 under its best 0.80"
    assert command.evidence["figures"]["metric"] == "val/accuracy"
    assert not any(output.signed for output in story.outputs if output.topic != "commands")


def test_the_same_cause_gives_the_same_command_id_and_another_attempt_another():
    first, second = fired()[1], fired()[1]
    assert first == second
    story, _ = fired()
    story.tell(run_state(100, attempt="a2"), trigger(160, attempt="a2"))
    assert [command.attempt for command in story.commands] == ["a1", "a2"]
    assert len({command.command_id for command in story.commands}) == 2


def test_a_trigger_that_fires_again_orders_nothing_twice():
    story, _ = fired()
    story.tell(trigger(61), trigger(62))
    assert len(story.commands) == 1
    assert story.mails == ["firing"]


def test_two_rules_that_would_give_the_same_order_give_one_and_both_follow_it():
    story = Story(settings(falling_rule(), falling_rule(name="second")))
    story.tell(trigger(60))
    (command,) = story.commands
    made = story.tell(said(61, command.command_id, "accepted"))
    assert [(i.rule, i.evidence["command"]["state"]) for i in story.of("incidents", made)] == [
        ("hopeless run", "accepted"),
        ("second", "accepted"),
    ]


def test_answers_are_followed_into_the_incident_to_the_last_word():
    story, command_id = fired()
    story.tell(said(61, command_id, "accepted"))
    story.tell(said(62, command_id, "completed", checkpoint="file:///c/320", reason="saved"))
    shown = story.incidents[-1].evidence["command"]
    assert shown["state"] == "completed"
    assert shown["answers"] == [
        {"by": "churn-1", "state": "completed", "at": at(62), "reason": "saved", "checkpoint": "file:///c/320"}
    ]
    story.tell(run_state(63, status="stopped", resumable_from=320))
    assert story.mails == ["firing", "resolved"]
    assert story.incidents[-1].reason == "the run was stopped at step 300; resumable from step 320"
    assert story.state.cells() == {}
    assert story.state.deadline() is None


def test_an_answer_that_comes_twice_is_followed_once():
    story, command_id = fired()
    story.tell(said(61, command_id, "accepted"))
    assert story.tell(said(62, command_id, "accepted")) == []
    story.tell(said(63, command_id, "completed"))
    assert story.tell(said(63, command_id, "completed")) == []


def test_a_completion_after_the_end_still_reaches_the_resolved_incident():
    story, command_id = fired()
    story.tell(said(61, command_id, "accepted"), run_state(62, status="stopped"))
    assert states(story.incidents)[-1] == "resolved"
    story.tell(said(63, command_id, "completed"))
    assert states(story.incidents)[-1] == "resolved"
    assert story.incidents[-1].evidence["command"]["state"] == "completed"
    assert story.mails == ["firing", "resolved"]
    assert story.state.cells() == {}


def test_an_unanswered_command_is_an_incident_of_its_own_until_it_is_answered():
    story, command_id = fired(ack_timeout="60s")
    story.tell(tick_at(60 + 60 + 14))
    assert story.mails == ["firing"]
    story.tell(tick_at(60 + 60 + 15))
    assert story.mails == ["firing", "firing"]
    alarm = story.incidents[-1]
    assert alarm.rule == "hopeless run: command not obeyed"
    assert alarm.reason == "the command to stop churn-1: the trainer did not answer within 60s"
    assert alarm.started == at(120)
    assert alarm.subject.attempt == "a1"
    story.tell(said(200, command_id, "accepted"))
    assert story.mails == ["firing", "firing", "resolved"]
    assert story.incidents[-1].reason == "the command to stop churn-1 was answered after 2m 20s: accepted by churn-1"


def test_an_answer_past_the_deadline_is_late_whatever_the_tick_had_seen():
    """The wait ends in cause time: with or without a tick between, the same is put out."""
    ticked, plain = fired()[0], fired()[0]
    command_id = plain.commands[0].command_id
    ticked.tell(tick_at(160))
    for story in (ticked, plain):
        story.tell(said(125, command_id, "accepted"))
    assert [o.value for o in ticked.outputs] == [o.value for o in plain.outputs]
    assert plain.mails == ["firing", "firing", "resolved"]


def test_an_answer_in_time_is_in_time_even_when_it_arrives_behind_a_later_finding():
    story, command_id = fired()
    story.tell(trigger(121), said(100, command_id, "accepted"))
    assert story.mails == ["firing"]


@pytest.mark.parametrize(("state", "verb"), [("rejected", "rejected"), ("expired", "received too late")])
def test_a_command_that_is_refused_is_an_incident(state, verb):
    story, command_id = fired()
    story.tell(said(61, command_id, state, reason="bad signature"))
    assert story.incidents[-1].rule == "hopeless run: command not obeyed"
    assert story.incidents[-1].reason == f"the command to stop churn-1 was {verb} by churn-1: bad signature"
    story.tell(run_state(100, status="completed"))
    assert story.mails == ["firing", "firing", "resolved", "resolved"]
    assert story.state.cells() == {}


def test_a_command_that_nobody_answered_expires():
    story, _ = fired(command_lifetime="10m")
    story.tell(tick_at(5000))
    assert story.mails == ["firing", "firing", "resolved"]
    closed = story.incidents[-1]
    assert closed.ended == at(660)
    assert closed.evidence["command"]["state"] == "expired"
    assert story.state.deadline() is None


def test_a_new_attempt_resolves_and_closes_what_the_old_one_was_told():
    story, command_id = fired()
    story.tell(run_state(100, attempt="a2"))
    assert story.mails == ["firing", "resolved"]
    assert story.incidents[-1].reason == "a new attempt of the run began"
    assert story.incidents[-1].evidence["command"]["state"] == "superseded"
    assert story.tell(said(101, command_id, "accepted")) == []


def test_a_run_that_ended_unasked_closes_its_command_without_an_alarm():
    story, _ = fired()
    story.tell(run_state(70, status="completed"), tick_at(10_000))
    assert story.mails == ["firing", "resolved"]
    assert story.incidents[-1].evidence["command"]["state"] == "superseded"


def test_a_trigger_at_the_very_end_orders_nothing():
    story = Story(settings(falling_rule()))
    story.tell(trigger(60, status="failed", error="CUDA out of memory"))
    assert story.commands == []
    assert story.incidents[0].evidence["command"] == {"kind": "stop", "state": "not given", "reason": "the run is over"}
    assert story.incidents[-1].reason == "the run failed at step 300: CUDA out of memory"


@pytest.mark.parametrize(
    ("pattern", "finding", "fires"),
    [
        ({"run": "churn-*"}, trigger(0), True),
        ({"run": "churn"}, trigger(0), True),
        ({"run": "fraud"}, trigger(0), False),
        ({"trigger": "not_finite"}, trigger(0), False),
        ({"trigger": "*"}, trigger(0, trigger="plateau"), True),
        ({}, run_state(0), False),
    ],
    ids=["run id", "experiment", "another run", "another trigger", "any trigger", "no trigger"],
)
def test_run_rules_choose_by_run_or_experiment_and_trigger(pattern, finding, fires):
    assert bool(Story(settings(falling_rule(**pattern))).tell(finding)) is fires


def test_a_lost_run_fires_a_no_data_rule_until_it_is_heard_of_again():
    story = Story(settings(rule(name="lost", run="*", no_data="1m")))
    story.tell(run_state(0), run_state(60, status="lost", reason="3 heartbeats missed"))
    assert story.incidents[-1].reason == "the run is lost: 3 heartbeats missed"
    story.tell(run_state(90))
    assert story.mails == ["firing", "resolved"]
    assert story.incidents[-1].reason == "the run is heard of again"


def test_a_new_attempt_of_a_lost_run_resolves_that_it_was_lost():
    story = Story(settings(rule(name="lost", run="*", no_data="1m")))
    story.tell(run_state(0), run_state(60, status="lost"), run_state(90, attempt="a2"))
    assert states(story.incidents) == ["firing", "resolved"]
    assert story.incidents[-1].reason == "a new attempt of the run began"
    assert story.mails == ["firing", "resolved"]


def test_an_incident_that_came_back_under_a_standing_order_hears_its_answer_once():
    story = Story(settings(accuracy_rule(command=STOP)))
    story.tell(report(0, 0.8), report(1, 0.95), report(2, 0.8))
    (order,) = story.commands
    outputs = story.tell(said(2000, order.command_id, "accepted", target="fraud"))
    ids = [output.id for output in outputs]
    assert len(ids) == len(set(ids))


def test_a_run_that_stays_lost_is_not_waited_for_for_ever():
    story = Story(settings(rule(name="lost", run="*", no_data="1m"), resolve_after="1h"))
    story.tell(run_state(60, status="lost"), tick_at(4000))
    assert story.mails == ["firing", "resolved"]
    assert story.state.cells() == {}


def test_a_model_rule_orders_every_run_of_the_model_and_follows_all_their_answers():
    story = Story(settings(rule(name="drift", model="fraud", drift="error", command=STOP)))
    story.tell(drift(0))
    (command,) = story.commands
    assert (command.model, command.run_id, command.attempt) == ("fraud", None, None)
    assert story.outputs[0].key == b"fraud"
    for second, run, state in ((1, "r1", "accepted"), (2, "r2", "accepted"), (3, "r1", "completed")):
        story.tell(said(second, command.command_id, state, run=run, target="fraud"))
    assert story.incidents[-1].evidence["command"]["state"] == "accepted"
    story.tell(said(4, command.command_id, "completed", run="r2", target="fraud"))
    assert story.incidents[-1].evidence["command"]["state"] == "completed"
    assert [answer["by"] for answer in story.incidents[-1].evidence["command"]["answers"]] == ["r1", "r2"]


def test_a_model_command_that_no_run_answers_is_an_incident():
    story = Story(settings(rule(name="drift", model="fraud", drift="error", command=STOP)))
    story.tell(drift(0), tick_at(75))
    assert story.incidents[-1].reason == (
        "the command to stop fraud: no run that declared the model answered within 60s"
    )


def test_a_metric_rule_orders_when_it_fires_not_while_it_is_pending():
    story = Story(settings(accuracy_rule(hold="2 of 2", command=Order(kind="retrain"))))
    story.tell(report(0))
    assert story.commands == []
    story.tell(report(1), report(2))
    assert [command.kind for command in story.commands] == ["retrain"]
    assert story.commands[0].issued_at == report(1).log_time


def test_an_answer_to_a_command_of_someone_else_is_ignored():
    story, _ = fired()
    assert story.tell(said(61, "another", "accepted")) == []
    assert story.state.counters()["answers_ignored"] == 1


def test_figures_that_are_not_finite_stay_out_of_the_evidence():
    story = Story(settings(falling_rule(trigger="not_finite")))
    state = trigger(0, trigger="not_finite", figures={"loss": float("nan")}, history=(1.0, 2.0))
    story.tell(state)
    assert story.incidents[0].evidence["figures"]["loss"] in ("NaN", None)


def test_runs_that_are_over_leave_nothing_behind():
    story = Story(settings(falling_rule()))
    for i in range(50):
        story.tell(run_state(i, run=f"churn-{i}"), run_state(i + 0.5, run=f"churn-{i}", status="completed"))
    assert story.state.cells() == {}
    assert story.tell(at(0) + 40 * 86_400 * SECOND) == []
