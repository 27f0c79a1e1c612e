"""Records that were deleted before they were read: an incident that no rule is needed for."""

from mlmm.alerting.notifier._view import view_of
from mlmm.events.types import Gap
from tests.alerting.stories import Story, accuracy_rule, at, report, settings, states, tick_at

HOUR = 3600


def gap(seconds: float, first: int = 1000, lost: int = 250, *, partition: int = 2) -> Gap:
    return Gap(
        topic="mlmm.serving", partition=partition, first=first, until=first + lost, lost=lost, last_read=at(seconds)
    )


def test_everyone_is_told_which_topic_lost_how_many_records():
    story = Story(settings(resolve_after="1h"))
    story.tell(gap(0))
    (incident,) = story.incidents
    assert (incident.state, incident.severity, incident.rule) == ("firing", "critical", "records lost")
    assert incident.reason == (
        "250 records of mlmm.serving[2] were deleted before they were read (offsets 1,000 to 1,249)"
    )
    assert (incident.subject.topic, incident.subject.partition) == ("mlmm.serving", 2)
    assert incident.evidence["figures"]["records lost"] == 250
    note, other = story.of("notifications")
    assert {note.notifier, other.notifier} == {"on_call", "chat"}
    view = view_of(note)
    assert view.subject == "mlmm.serving[2]"
    assert ("Topic", "mlmm.serving") in view.facts
    assert ("records lost", "250") in view.figures


def test_it_speaks_of_when_it_was_noticed_by_the_log_of_the_findings():
    """The last record that was read may be days old, and where nothing was ever read there is none."""
    story = Story(settings(resolve_after="1h"))
    story.tell(gap(0), lag=90_000)
    assert story.incidents[0].started == at(90_000)


def test_a_further_loss_renews_it_and_an_hour_without_one_resolves_it():
    story = Story(settings(resolve_after="1h"))
    story.tell(gap(0), gap(60, first=2000, lost=10))
    assert states(story.incidents) == ["firing", "firing"]
    assert len(story.mails) == 2
    story.tell(tick_at(HOUR + 30))
    assert states(story.incidents) == ["firing", "firing"]
    story.tell(tick_at(HOUR + 60 + 15))
    assert states(story.incidents)[-1] == "resolved"
    assert story.incidents[-1].ended == at(HOUR + 60)


def test_each_partition_has_an_incident_of_its_own_and_models_are_not_concerned():
    story = Story(settings(accuracy_rule(), resolve_after="1h"))
    story.tell(gap(0), gap(1, partition=0), report(0, 0.99))
    assert len({incident.incident_id for incident in story.incidents}) == 2
