"""Commands: given when a rule fires, followed to their target's last word, an incident when nobody obeys."""

from typing import Any

from mlmm.alerting._cells import Case, Issued, Watch
from mlmm.alerting._turn import Turn, identity
from mlmm.alerting._words import MICROSECONDS, clean, span
from mlmm.events.types import Command, CommandState, Subject
from mlmm.runtime.settings import Rule

__all__ = ["answer", "expire", "give", "overdue", "summary", "supersede"]

_ANSWERS = 100
"""Runs whose answers to one command are remembered."""
_REFUSED = ("rejected", "expired")
_FINAL = ("completed", *_REFUSED)
_LAST = (*_FINAL, "superseded")
_UNPROVEN = "unproven"
"""State of an answer to something that was not shown to be ours: a note, never how the command stands."""
_OR = " | "
_REASONS = 3
"""Different reasons that such a note holds."""


def give(turn: Turn, name: str, watch: Watch, rule: Rule) -> None:
    """Give a rule's command for the incident that is about to fire, and write into its evidence what was done.

    Where the same order to the same target stands already, the incident waits for that one's answer instead.
    """
    case = watch.case
    if rule.command is None or case is None:
        return
    kind, subject = rule.command.kind, watch.subject
    if subject.run is not None and turn.island.ended:
        turn.update(case, evidence={"command": {"kind": kind, "state": "not given", "reason": "the run is over"}})
        return
    for issued in turn.island.issued.values():
        standing = issued.command
        same = (standing.kind, standing.run_id, standing.attempt) == (kind, subject.run, subject.attempt)
        if same and issued.state not in _LAST:
            if name not in issued.watches:
                issued.watches.append(name)
            case.command = issued.command.command_id
            turn.update(case, evidence={"command": summary(issued)})
            return
    command = _command(turn, case, kind, rule)
    wait = _micros(turn.settings.ack_timeout)
    issued = Issued(
        command=command,
        rule=rule.name,
        watches=[name],
        notify=case.notify,
        severity=case.incident.severity,
        due=turn.time + wait if _answers_come_here(turn, command) else 0,
    )
    turn.island.issued[command.command_id] = issued
    case.command = command.command_id
    turn.update(case, evidence={"command": summary(issued)})
    turn.order(command, case.incident.incident_id)


def _command(turn: Turn, case: Case, kind: str, rule: Rule) -> Command:
    incident = case.incident
    subject = incident.subject
    run = subject.run is not None
    target = (subject.run or "", subject.attempt or "") if run else (subject.model or "",)
    return Command(
        command_id=identity("command", kind, *target, rule.name, incident.incident_id),
        kind=kind,  # type: ignore[arg-type] # one of Order's, which are Command's
        issued_at=turn.time,
        expires_at=turn.time + _micros(turn.settings.command_lifetime),
        issued_by=turn.issuer,
        run_id=subject.run,
        attempt=subject.attempt if run else None,
        model=None if run else subject.model,
        reason=f"{clean(rule.name)}: {incident.reason}",
        evidence={
            "rule": rule.name,
            "incident_id": incident.incident_id,
            "figures": incident.evidence.get("figures", {}),
        },
    )


def _answers_come_here(turn: Turn, command: Command) -> bool:
    """Whether answers reach this island: those to a model come on the model's own key, not on a shard's."""
    return (command.run_id or command.model or "").encode("utf-8", "replace") == turn.key


def summary(issued: Issued) -> dict[str, Any]:
    """Return what an incident shows of its command."""
    command = issued.command
    shown: dict[str, Any] = {
        "command_id": command.command_id,
        "kind": command.kind,
        "target": command.run_id or command.model,
        "state": issued.state,
        "issued_at": command.issued_at,
        "expires_at": command.expires_at,
    }
    if issued.answers:
        shown["answers"] = [
            {"by": by, "state": state, "at": at, "reason": clean(reason), "checkpoint": checkpoint}
            for by, (state, at, reason, checkpoint) in issued.answers.items()
        ]
    return shown


def answer(turn: Turn, said: CommandState) -> bool:
    """Take in what a target says to a command; return whether it was one of this island's and news."""
    issued = turn.island.issued.get(said.command_id)
    if issued is None:
        return False
    by = said.run_id or said.target
    if said.unproven:
        return _note(turn, issued, by, said)
    known = issued.answers.get(by)
    if known is not None and (known[0] == said.state or known[0] == "completed"):
        return False
    if (known is None or known[0] == _UNPROVEN) and not _make_room(issued, by):
        return False
    issued.answers[by] = (said.state, said.log_time, said.reason, said.checkpoint or "")
    issued.due = 0
    issued.state = said.state if issued.command.run_id else _of_many(issued)
    _show(turn, issued)
    if said.state in _REFUSED:
        why = f": {clean(said.reason)}" if said.reason else ""
        verb = "rejected" if said.state == "rejected" else "received too late"
        _alarm(turn, issued, f"{_name(issued)} was {verb} by {clean(by)}{why}")
    elif issued.case is not None:
        waited = span((turn.time - issued.command.issued_at) / MICROSECONDS)
        turn.close(issued.case, f"{_name(issued)} was answered after {waited}: {said.state} by {clean(by)}")
        issued.case = None
    _forget_when_over(turn, issued)
    return True


def _note(turn: Turn, issued: Issued, by: str, said: CommandState) -> bool:
    """Take down that something under this id was refused as unproven: a forgery, or ours where a key is missing."""
    state, at, reason, _ = issued.answers.get(by, (_UNPROVEN, said.log_time, "", ""))
    if state != _UNPROVEN or (by not in issued.answers and len(issued.answers) >= _ANSWERS):
        return False
    reasons = reason.split(_OR) if reason else []
    if said.reason in reasons or len(reasons) >= _REASONS:
        return False
    issued.answers[by] = (_UNPROVEN, at, _OR.join([*reasons, said.reason]), "")
    _show(turn, issued)
    return True


def _make_room(issued: Issued, by: str) -> bool:
    """Make room for a word that counts; notes give way to it."""
    issued.answers.pop(by, None)
    if len(issued.answers) < _ANSWERS:
        return True
    note = next((name for name, (state, *_) in issued.answers.items() if state == _UNPROVEN), None)
    if note is not None:
        del issued.answers[note]
    return note is not None


def overdue(turn: Turn, issued: Issued) -> None:
    """Nobody answered in time: that is an incident."""
    issued.due = 0
    wait = span(turn.settings.ack_timeout)
    who = "the trainer" if issued.command.run_id else "no run that declared the model"
    said = "did not answer" if issued.command.run_id else "answered"
    notes = [(by, reason) for by, (state, _, reason, _) in issued.answers.items() if state == _UNPROVEN]
    note = f"; what came under its id was refused by {clean(notes[0][0])}: {clean(notes[0][1])}" if notes else ""
    _alarm(turn, issued, f"{_name(issued)}: {who} {said} within {wait}{note}")


def expire(turn: Turn, issued: Issued) -> None:
    """Its time is over: nobody may obey it any more."""
    if issued.state == "issued":
        issued.state = "expired"
        _show(turn, issued)
    if issued.case is not None:
        turn.close(issued.case, f"{_name(issued)} expired; nobody may obey it any more")
    del turn.island.issued[issued.command.command_id]


def supersede(turn: Turn, why: str, *, attempt_over: bool) -> None:
    """The run that was ordered something is over.

    Parameters
    ----------
    turn : Turn
        The cause.
    why : str
        In words.
    attempt_over : bool
        Whether a new attempt began, so that no answer can come; else what was accepted may still be completed.
    """
    for issued in list(turn.island.issued.values()):
        if not issued.command.run_id:
            continue
        issued.due = 0
        if issued.state == "issued" or (attempt_over and issued.state not in _LAST):
            issued.state = "superseded"
            _show(turn, issued)
        if issued.case is not None:
            turn.close(issued.case, f"{_name(issued)} no longer matters: {why}")
            issued.case = None
        if attempt_over:
            del turn.island.issued[issued.command.command_id]
        else:
            _forget_when_over(turn, issued)


def _forget_when_over(turn: Turn, issued: Issued) -> None:
    """Forget what no word can change any more; a run that was taken for lost may still complete its order."""
    if issued.command.run_id and issued.state in _FINAL and issued.case is None:
        turn.island.issued.pop(issued.command.command_id, None)


def _of_many(issued: Issued) -> str:
    """How a command to a model stands: while one obeys it is accepted, then as the latest said."""
    states = [state for state, *_ in issued.answers.values() if state != _UNPROVEN]
    return "accepted" if "accepted" in states else states[-1]


def _show(turn: Turn, issued: Issued) -> None:
    """Bring the incidents that wait for this command up to date, also those that are resolved."""
    shown = {"command": summary(issued)}
    if issued.case is not None:
        turn.update(issued.case, evidence=shown)
    for name in issued.watches:
        watch = turn.island.watches.get(name)
        if watch is not None and watch.case is not None and watch.case.command == issued.command.command_id:
            turn.update(watch.case, evidence=shown)
            turn.tell(watch.case)
    for case in issued.closed.values():
        turn.update(case, evidence=shown)
        turn.tell(case)


def _alarm(turn: Turn, issued: Issued, reason: str) -> None:
    evidence = {"what": "command", "command": summary(issued)}
    if issued.case is not None:
        turn.update(issued.case, reason=reason, evidence=evidence)
        turn.tell(issued.case)
        return
    command = issued.command
    subject = Subject(run=command.run_id, attempt=command.attempt, model=command.model)
    case = turn.open(f"{issued.rule}: command not obeyed", subject, issued.severity, issued.notify, reason)
    issued.case = case
    turn.update(case, evidence=evidence)
    turn.fire(case)


def _name(issued: Issued) -> str:
    target = issued.command.run_id or issued.command.model or ""
    return f"the command to {issued.command.kind} {clean(target)}"


def _micros(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
