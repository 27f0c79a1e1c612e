"""Deadlines of an island, in cause time, and who is told when one has passed."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mlmm.alerting._cells import Island
from mlmm.alerting._commands import expire, overdue
from mlmm.alerting._judges import fell_silent
from mlmm.alerting._rules import Rulebook, grace
from mlmm.alerting._turn import Turn
from mlmm.alerting._words import MICROSECONDS
from mlmm.runtime.settings import AlertingSettings

__all__ = ["Timer", "fire", "timers"]

_SILENCE, _ANSWER, _EXPIRY = range(3)


class Timer(NamedTuple):
    """One deadline; they fire in this order."""

    deadline: int
    """Cause time in microseconds: what it puts out speaks of this moment."""
    kind: int
    name: str
    """The watch or the command that waits."""
    late: int
    """When a tick fires it: the deadline and its grace."""

    @property
    def silence(self) -> bool:
        """Whether it waits for a finding of its own subject: those come in order, so the next one fires it."""
        return self.kind == _SILENCE


def timers(island: Island, settings: AlertingSettings, rulebook: Rulebook) -> Iterator[Timer]:
    """Yield every deadline that an island waits for."""
    resolve_after, ack_timeout, lifetime = (
        round(seconds * MICROSECONDS)
        for seconds in (settings.resolve_after, settings.ack_timeout, settings.command_lifetime)
    )
    for name, watch in island.watches.items():
        ruling = rulebook.named.get(watch.rule)
        if ruling is None:
            if watch.case is not None:  # the rule left the settings: nothing else will resolve its incident
                updated = watch.case.incident.updated
                yield Timer(updated, _SILENCE, name, updated)
        elif watch.quiet:
            yield Timer(watch.quiet, _SILENCE, name, watch.quiet + grace(ruling.silence or resolve_after))
    for name, issued in island.issued.items():
        if issued.due:
            yield Timer(issued.due, _ANSWER, name, issued.due + grace(ack_timeout))
        if issued.state != "accepted":  # what is being obeyed does not expire: its target has the last word
            expiry = issued.command.expires_at
            yield Timer(expiry, _EXPIRY, name, expiry + grace(lifetime))


def fire(
    island: Island, passed: Callable[[Timer], bool], turn_at: Callable[[int], Turn], rulebook: Rulebook
) -> list[Turn]:
    """Fire the timers that have ``passed``, earliest first, until none is left.

    Parameters
    ----------
    island : Island
        Changed in place.
    passed : callable
        Whether a timer fires now.
    turn_at : callable
        Makes the turn of a deadline.
    rulebook : Rulebook
        The rules that the watches belong to.
    """
    turns: list[Turn] = []
    while True:
        due = min(filter(passed, timers(island, turn_at(0).settings, rulebook)), default=None)
        if due is None:
            return turns
        turn = turn_at(due.deadline)
        turns.append(turn)
        _fire(turn, due, rulebook)


def _fire(turn: Turn, timer: Timer, rulebook: Rulebook) -> None:
    if timer.kind == _ANSWER:
        overdue(turn, turn.island.issued[timer.name])
    elif timer.kind == _EXPIRY:
        expire(turn, turn.island.issued[timer.name])
    else:
        watch = turn.island.watches[timer.name]
        ruling = rulebook.named.get(watch.rule)
        if ruling is None:
            turn.resolve(watch, "the rule is no longer in the settings")
            del turn.island.watches[timer.name]
        else:
            fell_silent(turn, timer.name, watch, ruling)
