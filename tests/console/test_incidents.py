"""Incidents joined with what became of their notifications."""

from mlmm.console.incidents import joined
from mlmm.events.types import Incident, Notification, NotificationOutcome, Subject


def incident(id_: str, state: str = "firing", updated: int = 5) -> Incident:
    return Incident(
        incident_id=id_, rule="accuracy fell", state=state, severity="critical", subject=Subject(model="fraud"),
        started=1, updated=updated, reason="it fell",
    )  # fmt: skip


def notification(id_: str, of: Incident) -> Notification:
    return Notification(notification_id=id_, notifier="on_call", incident=of, created=2)


def outcome(id_: str, state: str, **more: object) -> NotificationOutcome:
    return NotificationOutcome(notification_id=id_, notifier="on_call", state=state, time=3, attempts=2, **more)  # type: ignore[arg-type]


def test_the_last_record_of_an_incident_and_of_an_outcome_counts():
    old, new = incident("a"), incident("a", "resolved", 9)
    retrying, failed = outcome("n1", "retrying"), outcome("n1", "failed", error="550 no such user")
    ((found, told),) = joined([old, new, notification("n1", old), notification("n2", new), retrying, failed])
    assert found.state == "resolved"
    assert [str(each) for each in told] == [
        "on_call (firing): failed after 2 tries: 550 no such user",
        "on_call (resolved): waiting",
    ]


def test_who_has_it_is_named_and_the_latest_change_comes_first():
    one, other = incident("a", updated=5), incident("b", updated=7)
    found = joined([one, other, notification("n", one), outcome("n", "delivered", delivered_to=("x@example.org",))])
    assert [each.incident_id for each, _ in found] == ["b", "a"]
    assert str(found[1][1][0]) == "on_call (firing): delivered to x@example.org after 2 tries"
    assert found[0][1] == []


def test_an_incident_that_is_known_by_its_notification_alone_is_shown():
    ((found, told),) = joined([notification("n", incident("a"))])
    assert found.incident_id == "a"
    assert told[0].state == "waiting"
