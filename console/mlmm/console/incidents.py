"""Incidents as they stand, each with what became of the notifications about it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from mlmm.console.reading import Since, read
from mlmm.events import MalformedEvent, Topics, decode_events, header
from mlmm.events.types import Event, Incident, Notification, NotificationOutcome

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["Told", "incidents", "joined"]


class Told(NamedTuple):
    """One notification of an incident."""

    notifier: str
    about: str
    """State of the incident that it tells of."""
    state: str
    """``waiting``, ``retrying``, ``delivered`` or ``failed``."""
    attempts: int
    delivered_to: tuple[str, ...]
    error: str

    def __str__(self) -> str:
        """In words."""
        tries = f" after {self.attempts} tries" if self.attempts > 1 else ""
        who = f" to {', '.join(self.delivered_to)}" if self.delivered_to else ""
        why = f": {self.error}" if self.error else ""
        return f"{self.notifier} ({self.about}): {self.state}{who}{tries}{why}"


def incidents(settings: "Settings", since: Since) -> list[tuple[Incident, list[Told]]]:
    """Read incidents that changed since then, latest change first, and what was told of each.

    Parameters
    ----------
    settings : Settings
        Section ``kafka``.
    since : Since
        How far back.

    Raises
    ------
    ServiceUnavailable
        Kafka is away.
    SettingsError
        A topic is missing.
    """
    topics = Topics(settings.topic_prefix)
    logs = (topics.incidents, topics.notifications, topics.notification_outcomes)
    return joined(event for topic in logs for event in _events(settings, topic, since))


def joined(events: Iterable[Event]) -> list[tuple[Incident, list[Told]]]:
    """Join incidents, notifications and outcomes (each kind in the order of its log)."""
    latest: dict[str, Incident] = {}
    notifications: dict[str, Notification] = {}
    outcomes: dict[str, NotificationOutcome] = {}
    for event in events:
        match event:
            case Incident():
                latest[event.incident_id] = event
            case Notification():
                notifications[event.notification_id] = event
                latest.setdefault(event.incident.incident_id, event.incident)
            case NotificationOutcome():
                outcomes[event.notification_id] = event
    told: dict[str, list[Told]] = {incident_id: [] for incident_id in latest}
    for notification_id, notification in notifications.items():
        told[notification.incident.incident_id].append(_told(notification, outcomes.get(notification_id)))
    order = sorted(latest.values(), key=lambda incident: (-incident.updated, incident.incident_id))
    return [(incident, told[incident.incident_id]) for incident in order]


def _told(notification: Notification, outcome: NotificationOutcome | None) -> Told:
    about = notification.incident.state
    if outcome is None:
        return Told(notification.notifier, about, "waiting", 0, (), "")
    return Told(notification.notifier, about, outcome.state, outcome.attempts, outcome.delivered_to, outcome.error)


def _events(settings: "Settings", topic: str, since: Since) -> Iterator[Event]:
    for _, record in read(settings, topic, since=since, follow=False):
        kind, content = (
            (header(record.headers, name) or b"").decode("utf-8", "replace") for name in ("ce_type", "content-type")
        )
        try:
            yield from decode_events(kind, content, record.value)
        except MalformedEvent:
            continue  # `mlmm tail` shows what lies there
