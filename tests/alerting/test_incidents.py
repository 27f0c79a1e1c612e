"""Incidents on models: from the first broken window to the last, told once."""

import pytest

from mlmm.events.types import Subject
from tests.alerting.stories import (
    SECOND,
    Story,
    accuracy_rule,
    at,
    drift,
    record,
    report,
    rule,
    settings,
    states,
    tick_at,
)


def test_a_bound_that_breaks_fires_at_once_and_is_resolved_by_the_first_good_window():
    story = Story(settings(accuracy_rule()))
    story.tell(report(0, 0.95), report(1, 0.81), report(2, 0.80), report(3, 0.93))
    assert states(story.incidents) == ["firing", "firing", "resolved"]
    assert story.mails == ["firing", "resolved"]
    first, last = story.incidents[0], story.incidents[-1]
    assert first.incident_id == last.incident_id
    assert first.reason == "accuracy 0.81 below 0.9 (10m)"
    assert first.started == first.updated == report(1).log_time
    assert last.ended == report(3).log_time
    assert last.reason == "accuracy 0.93, within its bound for the last window (10m)"
    assert last.evidence["was"] == "accuracy 0.8 below 0.9 (10m)"


def test_a_window_of_weeks_is_judged():
    story = Story(settings(accuracy_rule(window="14d")))
    story.tell(report(0, 0.8, window="1209600s"))
    assert states(story.incidents) == ["firing"]


def test_hold_keeps_an_incident_pending_until_k_of_n_windows_broke_the_bound():
    story = Story(settings(accuracy_rule(hold="3 of 5")))
    story.tell(report(0, 0.8), report(1, 0.95), report(2, 0.8), report(3, 0.95))
    assert states(story.incidents) == ["pending", "pending"]
    assert story.mails == []
    story.tell(report(4, 0.8))
    assert states(story.incidents)[-1] == "firing"
    assert story.incidents[-1].evidence["figures"]["windows that break it"] == "3 of the last 5"
    assert story.incidents[-1].started == report(0).log_time


def test_an_incident_is_resolved_only_when_all_n_windows_kept_the_bound():
    story = Story(settings(accuracy_rule(hold="2 of 3")))
    story.tell(report(0, 0.8), report(1, 0.8), report(2, 0.95), report(3, 0.95))
    assert states(story.incidents) == ["pending", "firing"]
    story.tell(report(4, 0.95))
    assert story.mails == ["firing", "resolved"]


def test_a_pending_incident_that_fades_is_resolved_without_a_mail():
    story = Story(settings(accuracy_rule(hold="2 of 2")))
    story.tell(report(0, 0.8), report(1, 0.95), report(2, 0.95))
    assert states(story.incidents) == ["pending", "resolved"]
    assert story.mails == []


def test_the_evidence_holds_figures_and_a_bounded_history():
    story = Story(settings(accuracy_rule()))
    story.tell(*(report(i, 0.95) for i in range(60)), report(60, 0.81, coverage=0.4))
    evidence = story.incidents[0].evidence
    assert evidence["figures"] == {
        "accuracy": 0.81,
        "bound": "below 0.9",
        "window": "2027-01-15 18:00:00 to 18:10:00 UTC (10m)",
        "events": 500,
        "coverage": 0.4,
    }
    assert evidence["history"]["values"] == [0.95] * 47 + [0.81]
    assert evidence["history"]["change"] == 47
    assert evidence["history"]["limits"] == [0.9]
    assert len(evidence["history"]["ends"]) == 48


@pytest.mark.parametrize(
    ("bound", "value", "reason"),
    [
        ({"below": 0.9}, 0.89996, "accuracy 0.89996 below 0.9 (10m)"),
        ({"above": 0.5}, 0.75, "accuracy 0.75 above 0.5 (10m)"),
        ({"outside": (0.2, 0.6)}, 0.75, "accuracy 0.75 outside 0.2 to 0.6 (10m)"),
        ({"outside": (0.2, 0.6)}, 0.1, "accuracy 0.1 outside 0.2 to 0.6 (10m)"),
    ],
)
def test_each_bound_says_its_reason_in_figures(bound, value, reason):
    story = Story(settings(rule(model="fraud", metric="accuracy", **bound)))
    story.tell(report(0, value))
    assert story.incidents[0].reason == reason


@pytest.mark.parametrize(
    ("bound", "kept"), [({"below": 0.9}, 0.9), ({"above": 0.5}, 0.5), ({"outside": (0.2, 0.6)}, 0.6)]
)
def test_a_figure_on_its_bound_keeps_it(bound, kept):
    story = Story(settings(rule(model="fraud", metric="accuracy", **bound)))
    assert story.tell(report(0, kept)) == []


def test_a_drop_is_measured_against_the_mean_of_the_windows_that_kept_the_bound():
    story = Story(settings(rule(model="fraud", metric="accuracy", drops_by=0.1)))
    story.tell(report(0, 0.94), report(1, 0.92), report(2, 0.5))  # two windows are too few to compare with
    assert story.incidents == []
    story = Story(settings(rule(model="fraud", metric="accuracy", drops_by=0.1)))
    story.tell(report(0, 0.94), report(1, 0.92), report(2, 0.93), report(3, 0.8), report(4, 0.8))
    assert story.incidents[0].reason == "accuracy 0.8 is 0.13 under its usual 0.93 (10m)"
    assert story.incidents[1].evidence["figures"]["usual"] == pytest.approx(0.93)
    story.tell(report(5, 0.93))
    assert story.mails == ["firing", "resolved"]


def test_a_rise_is_measured_likewise():
    story = Story(settings(rule(model="fraud", metric="latency_p95", rises_by=0.2)))
    for i, value in enumerate([0.1, 0.1, 0.1, 0.4]):
        story.tell(report(i, figures={"latency_p95": value}))
    assert story.incidents[0].reason == "latency_p95 0.4 is 0.3 over its usual 0.1 (10m)"


@pytest.mark.parametrize(
    "unjudged",
    [
        report(0, None),
        report(0, 0.5, events=99),
        report(0, 0.5, window="60s"),
        report(0, 0.5, final=False),
        report(0, 0.5, model="churn"),
        report(0, 0.5, subject=Subject(model="fraud", segment="country=DE")),
    ],
    ids=["undefined", "too few events", "another window", "provisional", "another model", "a segment"],
)
def test_what_a_rule_does_not_judge_changes_nothing(unjudged):
    story = Story(settings(accuracy_rule(min_count=100)))
    assert story.tell(unjudged) == []
    assert story.state.cells() == {}


def test_version_and_segment_are_patterns():
    story = Story(settings(accuracy_rule(version="2026.*", segment="country=*")))
    story.tell(report(0, subject=Subject(model="fraud", version="2026.11", segment="country=DE")))
    story.tell(report(0, subject=Subject(model="fraud", version="2025.11", segment="country=DE")))
    assert [incident.subject.version for incident in story.incidents] == ["2026.11"]


def test_each_subject_has_an_incident_of_its_own():
    story = Story(settings(accuracy_rule()))
    story.tell(report(0), report(0, model="fraud-eu"))
    assert len({incident.incident_id for incident in story.incidents}) == 2


def test_a_revised_window_takes_the_place_of_its_earlier_self():
    story = Story(settings(accuracy_rule(hold="2 of 2")))
    story.tell(report(0, 0.8), report(0, 0.95, revision=1), report(1, 0.8))
    assert "firing" not in states(story.incidents)
    story.tell(report(2, 0.8))
    assert states(story.incidents)[-1] == "firing"


def test_drift_fires_once_and_further_alarms_bring_it_up_to_date_without_a_mail():
    story = Story(settings(rule(name="drift", model="fraud", drift="*")))
    story.tell(drift(0), drift(60, series="feature:amount", before=10.0, after=20.0), drift(120))
    assert states(story.incidents) == ["firing"] * 3
    assert story.mails == ["firing"]
    assert story.incidents[0].reason == "error rose from 0.05 to 0.25 (adwin, about 120 values ago)"
    assert list(story.incidents[-1].evidence["drifted"]) == ["feature:amount", "error"]
    assert story.incidents[-1].evidence["alarms"] == 3
    assert story.incidents[0].evidence["history"]["change"] == 3


def test_a_change_younger_than_a_block_of_the_history_is_seen_in_the_picture():
    """The last block's mean is mostly of before; the value since the change stands behind it."""
    story = Story(settings(rule(name="drift", model="fraud", drift="*")))
    story.tell(drift(0, began=30, history=(0.05, 0.06, 0.11)))
    history = story.incidents[0].evidence["history"]
    assert (history["values"], history["change"]) == ([0.05, 0.06, 0.11, 0.25], 2)


def test_drift_is_resolved_when_no_alarm_was_heard_for_resolve_after():
    story = Story(settings(rule(name="drift", model="fraud", drift="error"), resolve_after="1h"))
    story.tell(drift(0), drift(1800))
    assert story.tell(tick_at(1800 + 3600)) == []  # a grace for what a restarting worker has to say
    story.tell(tick_at(1800 + 3600 + 15))
    assert story.mails == ["firing", "resolved"]
    assert story.incidents[-1].ended == at(1800 + 3600)
    assert story.incidents[-1].reason == "no further alarm for 1h"


def test_a_timer_fires_before_its_own_keys_next_finding_past_the_deadline():
    story = Story(settings(rule(name="drift", model="fraud", drift="error"), resolve_after="1h"))
    story.tell(drift(0))
    made = story.tell(drift(3600))
    assert states(story.of("incidents", made)) == ["resolved", "firing"]
    assert story.incidents[1].ended == at(3600)


@pytest.mark.parametrize(
    ("pattern", "series", "fires"),
    [
        ("error", "error", True),
        ("feature:*", "feature:amount", True),
        ("feature:*", "error", False),
        ("*", "error", True),
    ],
)
def test_drift_rules_choose_series_by_pattern(pattern, series, fires):
    story = Story(settings(rule(name="drift", model="fraud", drift=pattern)))
    assert bool(story.tell(drift(0, series=series))) is fires


def test_a_model_that_errs_less_is_no_incident():
    story = Story(settings(rule(name="drift", model="fraud", drift="*")))
    assert story.tell(drift(0, before=0.25, after=0.05)) == []


def test_an_incident_lists_at_most_twenty_series():
    story = Story(settings(rule(name="drift", model="fraud", drift="*")))
    story.tell(*(drift(i, series=f"feature:{i}") for i in range(50)))
    drifted = story.incidents[-1].evidence["drifted"]
    assert list(drifted) == [f"feature:{i}" for i in range(30, 50)]


def test_a_silent_model_fires_at_its_deadline_and_is_resolved_by_data():
    story = Story(settings(rule(name="silent", model="fraud", no_data="15m")))
    heard = report(0, kind="service")
    story.tell(heard)
    assert story.state.deadline() == heard.log_time + (900 + 15) * SECOND
    story.tell(heard.log_time + 914 * SECOND)
    assert story.incidents == []
    story.tell(heard.log_time + 2000 * SECOND)
    assert states(story.incidents) == ["firing"]
    assert story.incidents[0].started == heard.log_time + 900 * SECOND
    assert story.incidents[0].reason == "no data for 15m"
    assert story.state.deadline() is None
    story.tell(report(6, kind="service"))
    assert story.incidents[-1].reason == "data again, after 1h of silence"
    assert story.mails == ["firing", "resolved"]


def test_what_is_put_out_does_not_tell_when_the_log_took_the_finding():
    """A worker that was down for a while, and one that was not, end in the same bytes."""
    given = settings(accuracy_rule(), rule(name="drift", model="fraud", drift="*"))
    on_time, late = Story(given), Story(given)
    for finding in (report(0), drift(700), report(1, 0.95)):
        on_time.tell(finding)
        late.tell(finding, lag=120)
    assert on_time.outputs == late.outputs
    assert on_time.state.cells() == late.state.cells()


def test_a_rule_that_left_the_settings_resolves_its_incidents_at_the_next_tick():
    before = Story(settings(accuracy_rule()))
    before.tell(report(0))
    after = Story(settings())
    after.state.load(before.state.cells().items())
    after.tell(report(0).log_time + SECOND)
    assert after.mails == ["resolved"]
    assert after.incidents[0].reason == "the rule is no longer in the settings"
    assert after.state.cells() == {}


def test_outputs_say_their_cause_and_belong_together():
    story = Story(settings(accuracy_rule()))
    incident, notification = story.tell(report(0))
    assert (incident.topic, notification.topic) == ("incidents", "notifications")
    assert incident.causation == f"mlmm.report.v1:{report(0).log_time}"
    assert incident.time == report(0).log_time
    assert incident.key.decode() == story.incidents[0].incident_id
    assert notification.key == b"on_call"
    assert dict(notification.headers)["ce_correlationid"] == incident.key


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"value": b"{"}, ""),
        ({"headers": [("ce_type", b"mlmm.labels.v1")]}, "ce_type"),
        ({"headers": []}, "ce_type"),
        ({"log_time": at(-9999)}, "log_time"),
    ],
)
def test_what_is_no_finding_is_a_dead_letter(change, field):
    story = Story(settings(accuracy_rule()))
    (output,) = story.state.process([record(report(0))._replace(**change)])
    assert output.topic == "dead-letters"
    assert dict(output.headers)["mlmm_error"].decode().startswith(field)


def test_a_damaged_or_unknown_cell_is_named():
    state = Story(settings()).state
    with pytest.raises(ValueError, match=r"b'kfraud'.*layout 63"):
        state.load([(b"kfraud", b"c")])
    with pytest.raises(ValueError, match=r"b'kfraud'.*damaged"):
        state.load([(b"kfraud", b"\x01\xc1")])
    with pytest.raises(ValueError, match=r"b'xfraud'"):
        state.load([(b"xfraud", b"\x01")])
