"""One cause on one island: incidents opened, moved on and resolved, and what that puts out."""

from collections import Counter
from hashlib import blake2b
from typing import Any

import msgspec

from mlmm.alerting._cells import Case, Island, Watch
from mlmm.events import encode_json, rfc3339
from mlmm.events.types import Command, Event, Incident, Notification, Subject
from mlmm.runtime.processor import Output
from mlmm.runtime.settings import AlertingSettings, Rule

__all__ = ["Turn", "identity", "notification_id"]

_ID_BYTES = 10


def identity(*parts: str | int | bytes) -> str:
    """Return a short hash of ``parts``; no two different lists of parts are read as one."""
    digest = blake2b(digest_size=_ID_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "replace")
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return digest.hexdigest()


def notification_id(incident_id: str, state: str, notifier: str) -> str:
    """Return the id of the notification that tells ``notifier`` of an incident's ``state``: there is one of each."""
    return identity("notification", incident_id, state, notifier, 0)


class Turn:
    """What one cause does to one island.

    Parameters
    ----------
    key : bytes
        The finding key.
    island : Island
        Its state, changed in place.
    time : int
        Cause time in microseconds: a finding's ``log_time``, or the deadline of a timer.
    offset : int
        Offset of the record in hand.
    causation : str
        ``ce_id`` of the finding; empty for a timer.
    settings : AlertingSettings
        Lifetimes.
    issuer : str
        Who gives commands.
    counters : Counter
        Monotone counts, added to.
    """

    def __init__(
        self,
        key: bytes,
        island: Island,
        time: int,
        *,
        offset: int,
        causation: str,
        settings: AlertingSettings,
        issuer: str,
        counters: Counter[str],
    ) -> None:
        self.key = key
        self.island = island
        self.time = time
        self.settings = settings
        self.issuer = issuer
        self.outputs: list[Output] = []
        self.counters = counters
        self._offset = offset
        self._causation = causation

    def count(self, what: str) -> None:
        """Add one to a counter."""
        self.counters[what] += 1

    def open(self, rule: Rule | str, subject: Subject, severity: str, notify: tuple[str, ...], reason: str) -> Case:
        """Make a pending incident that begins now. Nothing is put out until it is `fire`d or `tell`s how it stands."""
        name = rule if isinstance(rule, str) else rule.name
        incident = Incident(
            incident_id=identity("incident", name, self.key, msgspec.json.encode(subject), self.time),
            rule=name,
            state="pending",
            severity=severity,  # type: ignore[arg-type] # one of Incident's, from the rule
            subject=subject,
            started=self.time,
            updated=self.time,
            reason=reason,
        )
        return Case(incident, notify)

    def update(self, case: Case, *, reason: str = "", state: str = "", evidence: dict[str, Any] | None = None) -> None:
        """Change how an incident stands; ``evidence`` replaces what has the same name."""
        old = case.incident
        case.incident = msgspec.structs.replace(
            old,
            reason=reason or old.reason,
            state=state or old.state,
            updated=max(old.updated, self.time),
            evidence={**old.evidence, **(evidence or {})},
        )

    def fire(self, case: Case) -> None:
        """Tell that an incident fires: once on the incidents topic and once to each notifier."""
        self.update(case, state="firing")
        self.tell(case)
        self._notify(case)

    def resolve(self, watch: Watch, reason: str) -> None:
        """End a watch's incident; who was told that it fires is told that it is over."""
        case = watch.case
        if case is None:
            return
        watch.case = None
        self.close(case, reason)
        issued = self.island.issued.get(case.command)
        if issued is not None:
            waiting = next(name for name, each in self.island.watches.items() if each is watch)
            issued.closed[waiting] = case

    def close(self, case: Case, reason: str) -> None:
        """End an incident."""
        fired = case.incident.state == "firing"
        self.update(case, reason=reason, state="resolved", evidence={"was": case.incident.reason})
        case.incident = msgspec.structs.replace(case.incident, ended=self.time)
        self.tell(case)
        if fired:
            self._notify(case)

    def tell(self, case: Case) -> None:
        """Put out how an incident stands."""
        incident = case.incident
        self._put("incidents", incident.incident_id, "mlmm.incident.v1", incident, incident.incident_id)

    def order(self, command: Command, correlation: str) -> None:
        """Put out a command, to be signed at the drain."""
        key = command.run_id or command.model or ""
        expiry = ("ce_expirytime", rfc3339(command.expires_at).encode())
        self._put("commands", key, "mlmm.command.v1", command, correlation, expiry, name=command.command_id)

    def _notify(self, case: Case) -> None:
        incident = case.incident
        for notifier in case.notify:
            made = notification_id(incident.incident_id, incident.state, notifier)
            notification = Notification(notification_id=made, notifier=notifier, incident=incident, created=self.time)
            self._put("notifications", notifier, "mlmm.notification.v1", notification, incident.incident_id, name=made)

    def _put(
        self,
        topic: str,
        key: str,
        type_: str,
        event: Event,
        correlation: str,
        *headers: tuple[str, bytes],
        name: str = "",
    ) -> None:
        self.count(topic)
        value = encode_json(event)
        self.outputs.append(
            Output(
                topic=topic,
                key=key.encode("utf-8", "replace"),
                type=type_,
                id=name or f"{correlation}:{identity(value)}",
                time=self.time,
                value=value,
                offset=self._offset,
                causation=self._causation,
                headers=(("ce_correlationid", correlation.encode()), *headers),
                signed=topic == "commands",
            )
        )
