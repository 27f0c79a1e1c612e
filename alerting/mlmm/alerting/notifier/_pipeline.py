"""The way of one notification, as a list of stages: done already? → who has it? → render → deliver, with retries.

Behaviour is added by adding a stage. A stage returns None to go on, or what the way ends with: a `Finish`, or `Again`.
"""

import logging
from collections.abc import Callable, Container, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from mlmm.alerting._words import clean
from mlmm.alerting.notifier._kinds import Delivery, Message, Notifier
from mlmm.events.types import Notification, NotificationOutcome

__all__ = [
    "Again",
    "Deliver",
    "Finish",
    "Job",
    "Policy",
    "Render",
    "Resume",
    "SkipDone",
    "SkipLost",
    "Stage",
    "stages_of",
    "walk",
]

logger = logging.getLogger(__name__)

Place = tuple[int, int, int]
"""Partition, the assignment's number, offset."""


class Job(msgspec.Struct, eq=False):
    """One notification on its way."""

    notification: Notification
    places: list[Place]
    """The records that hold it: more than one where it was sent twice."""
    waiting: tuple[str, ...]
    """Recipients that don't have it yet and may still get it."""
    delivered: tuple[str, ...] = ()
    attempts: int = 0
    refusals: tuple[str, ...] = ()
    """Why some recipients can never get it."""
    unsure: int = 0
    """Tries after which nobody knows whether it arrived."""
    message: Message | None = None


class Finish(NamedTuple):
    """The way ended."""

    outcome: NotificationOutcome | None
    """None where another wrote it, or will."""


class Again(NamedTuple):
    """Another try is worth it."""

    after: float
    """Seconds from now."""
    outcome: NotificationOutcome | None = None
    """Who has it so far, and why others do not: noted, so that whoever goes on knows."""


class Stage(Protocol):
    """One step of the way."""

    def run(self, job: Job) -> Finish | Again | None:
        """Do the step; None goes on to the next."""


class Policy(NamedTuple):
    """When to try again: after ``first`` seconds, then ``factor`` times longer each time, at most ``longest``.

    The default of eight tries waits about 40 minutes in all: longer than greylisting and a server's restart take.
    """

    attempts: int = 8
    unsure: int = 2
    """Of these, tries that may end without an answer to the whole message: each may have sent it."""
    first: float = 2.0
    factor: float = 4.0
    longest: float = 900.0

    def pause(self, attempts: int, jitter: float) -> float:
        """Seconds to wait after ``attempts`` tries; ``jitter`` in 0..1 shortens it by up to a quarter."""
        return min(self.first * self.factor ** (attempts - 1), self.longest) * (1 - jitter / 4)


class SkipLost:
    """Leaves what belongs to another worker since a rebalance: that one sends it.

    Parameters
    ----------
    owned : callable
        Whether the record at a place is still ours.
    """

    def __init__(self, owned: Callable[[Place], bool]) -> None:
        self._owned = owned

    def run(self, job: Job) -> Finish | None:
        """Go on where at least one of its records is ours."""
        return None if any(map(self._owned, job.places)) else Finish(None)


class SkipDone:
    """Leaves what has an outcome: nothing is sent twice.

    Parameters
    ----------
    done : container of str
        Ids of notifications that have an outcome.
    """

    def __init__(self, done: Container[str]) -> None:
        self._done = done

    def run(self, job: Job) -> Finish | None:
        """Go on where nothing was written of it."""
        return Finish(None) if job.notification.notification_id in self._done else None


class Resume:
    """Goes on where others stopped: who has it is not told again, and their tries count.

    Parameters
    ----------
    noted : callable
        What was noted of a notification that is being tried again, if anything.
    """

    def __init__(self, noted: Callable[[str], NotificationOutcome | None]) -> None:
        self._noted = noted

    def run(self, job: Job) -> None:
        """Take over what is noted; what this worker noted itself changes nothing."""
        note = self._noted(job.notification.notification_id)
        if note is not None:
            job.attempts = max(job.attempts, note.attempts)
            job.unsure = max(job.unsure, note.unsure)
            job.delivered += tuple(each for each in note.delivered_to if each not in job.delivered)
            job.waiting = tuple(each for each in job.waiting if each not in job.delivered)


class Render:
    """Gives it its form, once.

    Parameters
    ----------
    notifier : Notifier
        Whose form.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def run(self, job: Job) -> None:
        """Render unless an earlier try has."""
        if job.message is None:
            job.message = self._notifier.render(job.notification)


class Deliver:
    """Tries once, and only here is decided whether to try again.

    Parameters
    ----------
    notifier : Notifier
        Who delivers.
    policy : Policy
        How often and when.
    clock : callable
        Now in microseconds since the epoch, for outcomes.
    jitter : callable
        A number in 0..1.
    """

    def __init__(
        self, notifier: Notifier, policy: Policy, *, clock: Callable[[], int], jitter: Callable[[], float]
    ) -> None:
        self._notifier = notifier
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def run(self, job: Job) -> Finish | Again:
        """Deliver to those who don't have it yet."""
        job.attempts += 1
        tried = self._notifier.deliver(job.message or b"", job.waiting) if job.waiting else _NOBODY
        job.delivered += tried.delivered
        job.unsure += tried.unsure
        lost = tuple(each for each in job.waiting if each not in tried.delivered and each not in tried.again)
        if lost:
            job.refusals += (tried.error,)
        job.waiting = tried.again
        error = "; ".join(dict.fromkeys(filter(None, (*job.refusals, tried.error))))
        if job.waiting and job.attempts < self._policy.attempts and job.unsure < self._policy.unsure:
            pause = self._policy.pause(job.attempts, self._jitter())
            extra = {**_named(job), "pause": pause, "error": tried.error}
            logger.warning("notification not delivered yet", extra=extra)
            return Again(pause, self._outcome(job, "retrying", error))
        if set(job.delivered) >= set(self._notifier.recipients):
            logger.info("notification delivered", extra=_named(job))
            return Finish(self._outcome(job, "delivered", ""))
        if job.unsure:
            error = f"{error}; it may have arrived all the same"
        logger.error("notification failed", extra={**_named(job), "error": error})
        return Finish(self._outcome(job, "failed", error))

    def _outcome(self, job: Job, state: Literal["delivered", "failed", "retrying"], error: str) -> NotificationOutcome:
        return NotificationOutcome(
            notification_id=job.notification.notification_id,
            notifier=job.notification.notifier,
            state=state,
            time=self._clock(),
            attempts=job.attempts,
            error=clean(error, 500),
            delivered_to=job.delivered,
            unsure=job.unsure,
        )


_NOBODY = Delivery((), (), "")
"""A try where everyone has it already."""


def _named(job: Job) -> dict[str, object]:
    notification = job.notification
    return {
        "notification": notification.notification_id,
        "notifier": clean(notification.notifier),
        "incident": notification.incident.incident_id,
        "state": notification.incident.state,
        "attempts": job.attempts,
    }


def stages_of(
    notifier: Notifier,
    policy: Policy,
    *,
    owned: Callable[[Place], bool],
    done: Container[str],
    noted: Callable[[str], NotificationOutcome | None],
    clock: Callable[[], int],
    jitter: Callable[[], float],
) -> list[Stage]:
    """Return the way of a notifier's notifications."""
    deliver = Deliver(notifier, policy, clock=clock, jitter=jitter)
    return [SkipLost(owned), SkipDone(done), Resume(noted), Render(notifier), deliver]


def walk(stages: Sequence[Stage], job: Job) -> Finish | Again:
    """Take a job through the stages."""
    for stage in stages:
        ended = stage.run(job)
        if ended is not None:
            return ended
    return Finish(None)
