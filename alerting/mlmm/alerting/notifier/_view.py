"""What a message says of an incident, in words: the same for a mail, a chat or a screen.

An incident comes from a topic, so nothing in it is trusted: every text is made harmless and bounded (`clean`), and what
has an unexpected shape is left out.
"""

import shlex
from typing import Any

import msgspec

from mlmm.alerting._words import MICROSECONDS, clean, figure, moment, span
from mlmm.events.types import Incident, Notification

__all__ = ["View", "view_of"]

_ROWS = 24
_NAME = 60


class View(msgspec.Struct, frozen=True):
    """A message before it has a form."""

    state: str
    severity: str
    subject: str
    """Whom it is about: ``fraud``, ``churn-1``."""
    rule: str
    title: str
    """One line: ``[firing] fraud: accuracy fell — accuracy 0.81 below 0.9 (10m)``."""
    reason: str
    since: str
    facts: list[tuple[str, str]]
    """Since when, how bad, which version."""
    figures: list[tuple[str, str]]
    others: list[tuple[str, str]]
    """Further figures of the same report, or further series that drifted."""
    others_title: str
    done: list[str]
    """What was ordered, and how it stands."""
    steps: list[tuple[str, str]]
    """What to do next: (why, what to type)."""
    caption: str
    """What the picture shows, for who can't see it."""


def view_of(notification: Notification) -> View:
    """Put an incident into words."""
    incident = notification.incident
    subject = _subject(incident)
    rule, reason = clean(incident.rule, 120), clean(incident.reason, 300)
    evidence = incident.evidence
    drifted = evidence.get("drifted")
    return View(
        state=incident.state,
        severity=incident.severity,
        subject=subject,
        rule=rule,
        title=clean(f"[{incident.state}] {clean(subject, 80)}: {clean(rule, 80)} \u2014 {clean(reason, 160)}", 340),
        reason=reason,
        since=_since(incident),
        facts=_facts(incident),
        figures=_rows(evidence.get("figures")),
        others=_drifted(drifted) if isinstance(drifted, dict) else _rows(evidence.get("report")),
        others_title="Series that drifted" if isinstance(drifted, dict) else "Other figures of the same window",
        done=_done(incident),
        steps=_steps(incident),
        caption=_caption(incident),
    )


def _subject(incident: Incident) -> str:
    subject = incident.subject
    place = f"{subject.topic}[{subject.partition}]" if subject.topic else "?"
    return clean(subject.run or subject.model or subject.host or place, 120)


def _since(incident: Incident) -> str:
    if incident.ended is None:
        return f"since {_moment(incident.started)}"
    lasted = span(max(incident.ended - incident.started, 0) / MICROSECONDS)
    return f"from {_moment(incident.started)} to {_moment(incident.ended)} ({lasted})"


def _facts(incident: Incident) -> list[tuple[str, str]]:
    subject, evidence = incident.subject, incident.evidence
    condition = _text(evidence.get("condition", ""))
    rule = clean(incident.rule, 120)
    facts = [
        ("Was", _text(evidence.get("was", "")) if incident.ended is not None else ""),
        ("Severity", incident.severity),
        ("Rule", f"{rule} ({condition})" if condition else rule),
    ]
    for label in ("model", "version", "route", "segment", "run", "attempt", "host", "topic"):
        value = getattr(subject, label)
        if value:
            facts.append((label.capitalize(), clean(value, 120)))
    alarms = evidence.get("alarms")
    if isinstance(alarms, int) and alarms > 1:
        facts.append(("Alarms", f"{alarms:,}"))
    facts.append(("Incident", clean(incident.incident_id, 80)))
    return [(label, value) for label, value in facts if value]


def _rows(figures: Any) -> list[tuple[str, str]]:
    if not isinstance(figures, dict):
        return []
    return [(clean(str(name), _NAME), _text(value)) for name, value in list(figures.items())[:_ROWS]]


def _drifted(drifted: dict[Any, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, entry in list(drifted.items())[-_ROWS:]:
        if isinstance(entry, dict):
            change = f"{_text(entry.get('before'))} \u2192 {_text(entry.get('after'))}"
            rows.append(
                (clean(str(name), _NAME), f"{change} ({_text(entry.get('detector', ''))}, {_moment(entry.get('at'))})")
            )
    return rows if len(rows) > 1 else []


def _done(incident: Incident) -> list[str]:
    command = incident.evidence.get("command")
    if not isinstance(command, dict):
        return []
    kind, state = _text(command.get("kind")), _text(command.get("state"))
    if state == "not given":
        return [f"No command to {kind} was given: {_text(command.get('reason', ''))}."]
    target = _text(command.get("target"))
    given, expires = _moment(command.get("issued_at")), _moment(command.get("expires_at"))
    answers = command.get("answers")
    said = [_answer(each) for each in (answers if isinstance(answers, list) else [])[:20] if isinstance(each, dict)]
    lines = [f"A command to {kind} {target} was given at {given}; it may be obeyed until {expires}.", *said]
    waiting = {
        "issued": "Nobody has answered yet.",
        "accepted": "It is being obeyed.",
        "expired": "It expired: nobody may obey it any more.",
        "superseded": "The run was over before it answered.",
    }
    if state in waiting and not (state == "expired" and len(lines) > 1):
        lines.append(waiting[state])
    return lines


def _answer(answer: dict[Any, Any]) -> str:
    words = {
        "accepted": "accepted it",
        "completed": "completed it",
        "rejected": "rejected it",
        "expired": "got it too late",
    }
    state = _text(answer.get("state"))
    reason, checkpoint = _text(answer.get("reason", "")), _text(answer.get("checkpoint", ""))
    return (
        f"{_text(answer.get('by'))} {words.get(state, state)} at {_moment(answer.get('at'))}"
        + (f": {reason}" if reason else "")
        + (f"; checkpoint {checkpoint}" if checkpoint else "")
        + "."
    )


def _steps(incident: Incident) -> list[tuple[str, str]]:
    what, subject = incident.evidence.get("what"), incident.subject
    follow = ("See this and all other incidents", "mlmm incidents")
    if incident.state == "resolved":
        return [follow]
    if what == "command":
        return [
            ("See what was ordered, and whether it still stands", "mlmm tail commands"),
            ("See whether Kafka and the trainers' topics can be reached", "mlmm doctor"),
            follow,
        ]
    if what == "gap":
        return [
            ("See whether the workers run and keep up", "mlmm doctor"),
            ("See how long Kafka keeps the topics", "mlmm topics check"),
            follow,
        ]
    if what == "no_data":
        return [
            ("See whether predictions arrive", "mlmm tail serving"),
            ("See whether the services and workers are well", "mlmm doctor"),
            follow,
        ]
    steps = [("Watch its findings as they come", "mlmm tail findings")]
    if subject.run and "command" not in incident.evidence:
        run, why = shlex.quote(clean(subject.run, 120)), shlex.quote(clean(incident.rule, 60))
        steps.append(("Stop the run; it saves a checkpoint first", f"mlmm stop {run} --reason {why}"))
    elif "command" in incident.evidence:
        steps.append(("Follow the command", "mlmm tail commands"))
    return [*steps, follow]


def _caption(incident: Incident) -> str:
    history = incident.evidence.get("history")
    name = _text(history.get("name", "")) if isinstance(history, dict) else ""
    return f"History of {name}" if name else "History"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1 << 63 else "a very large number"
    if isinstance(value, float):
        return figure(value)
    return clean(value) if isinstance(value, str) else clean(repr(value), 80)


def _moment(value: Any) -> str:
    known = isinstance(value, int) and 0 < value < 7_000_000_000 * MICROSECONDS
    return moment(value) if known else "an unknown time"
