"""The notifier worker: reads ``notifications``, hands them to the notifiers' lines, commits what is done."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from mlmm.alerting._words import clean
from mlmm.alerting.notifier._group import Group
from mlmm.alerting.notifier._kinds import Notifier, make
from mlmm.alerting.notifier._line import Line
from mlmm.alerting.notifier._offsets import Offsets
from mlmm.alerting.notifier._outcomes import Outcomes
from mlmm.alerting.notifier._pipeline import Job, Policy, stages_of
from mlmm.events import JSON, MalformedEvent, Topics, decode_events, header
from mlmm.events.types import Notification, NotificationOutcome
from mlmm.runtime.connections import kafka_errors
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import Settings

__all__ = ["run_notifier"]

logger = logging.getLogger(__name__)

_TYPE = "mlmm.notification.v1"


def run_notifier(
    settings: Settings, stop_event: threading.Event, *, notifiers: Mapping[str, Notifier] | None = None
) -> int:
    """Deliver notifications until ``stop_event`` is set.

    Reads the topic ``notifications`` in a consumer group of its own, so several workers share the work. Each
    notification is delivered at least once: twice only when a worker dies between a delivery and the note of it.

    Parameters
    ----------
    settings : Settings
        ``kafka``, ``smtp``, ``notifiers``, ``deployment`` and ``topic_prefix`` are used.
    stop_event : threading.Event
        Ends it: tries in hand are finished, what waits stays in Kafka.
    notifiers : mapping of str to Notifier, optional
        In place of those of the settings.

    Returns
    -------
    int
        0 when it ended as it was told; 1 when a try in hand did not end in time.

    Raises
    ------
    ServiceUnavailable
        When Kafka does not answer at the start.
    """
    made = make(settings) if notifiers is None else notifiers
    worker = _Worker(settings, made, stop_event)
    try:
        worker.run()
    finally:
        in_time = worker.close()
    return 0 if in_time else 1


def _now() -> int:
    return time.time_ns() // 1000


class _Worker:
    def __init__(self, settings: Settings, notifiers: Mapping[str, Notifier], stop_event: threading.Event) -> None:
        self._settings = settings
        self._stop = stop_event
        self._topic = Topics(settings.topic_prefix).notifications
        self._offsets = Offsets()
        self._outcomes = Outcomes(settings, stop_event)
        self._held: dict[Any, deque[Any]] = {}
        self._unfinished: dict[Any, int] = {}
        self._behind = True
        policy = Policy(attempts=settings.smtp.attempts)
        self._notifiers = notifiers
        self._lines = {name: self._line(name, notifier, policy) for name, notifier in notifiers.items()}
        self._stop_by: float | None = None
        self._group: Group | None = None

    def _line(self, name: str, notifier: Notifier, policy: Policy) -> Line:
        stages = stages_of(
            notifier,
            policy,
            owned=self._offsets.owned,
            done=self._outcomes,
            noted=self._outcomes.noted,
            clock=_now,
            jitter=random.random,
        )
        known = self._settings.notifiers.get(name)
        return Line(
            name,
            stages,
            write=self._outcomes.write,
            finished=self._offsets.done,
            limit=known.queue_limit if known else 1000,
            clock=time.monotonic,
            now=_now,
        )

    def run(self) -> None:
        with kafka_errors(self._settings.kafka):
            self._outcomes.catch_up()
            self._behind = False
            self._group = Group(
                self._settings,
                self._topic,
                assigned=self.assigned,
                revoked=self.revoked,
                busy=self._busy,
                longest=max((each.longest for each in self._notifiers.values()), default=0.0),
            )
            self._follow(self._group)

    def _follow(self, group: Group) -> None:
        for line in self._lines.values():
            line.start()
        logger.info("notifier starts", extra={"topic": self._topic, "notifiers": sorted(map(clean, self._lines))})
        while not self._stop.is_set():
            for partition, records in group.poll().items():
                self._held.setdefault(partition, deque()).extend(records)
            if self._behind:
                self._catch_up()
            if not self._behind:
                self._hand_out(group)
            self._commit()

    def _catch_up(self) -> None:
        """Another worker may have delivered what it did not commit: nothing is handed out before its notes are read."""
        from kafka.errors import KafkaError  # noqa: PLC0415 - imported when used

        try:
            self._outcomes.catch_up()
        except (KafkaError, ServiceUnavailable) as error:
            logger.warning("outcomes can't be read yet", extra={"error": str(error) or type(error).__name__})
        else:
            self._behind = False

    def close(self) -> bool:
        for line in self._lines.values():
            line.end()  # all before any is waited for: what began meanwhile would have no time left
        in_time = [line.stop(max(self._ending() - time.monotonic(), 0.1)) for line in self._lines.values()]
        self._commit()
        if self._group is not None:
            self._group.close()
        self._outcomes.close()
        logger.info("notifier ended", extra={"waiting": sum(line.waiting for line in self._lines.values())})
        return all(in_time)

    def _busy(self) -> bool:
        """Whether a try is in hand that is worth waiting for."""
        overdue = self._stop.is_set() and time.monotonic() > self._ending()
        return not overdue and any(line.trying for line in self._lines.values())

    def _ending(self) -> float:
        """Until when a worker that was told to end waits for the tries in hand."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._settings.smtp.timeout + 5
        return self._stop_by

    def assigned(self, partitions: Sequence[Any]) -> Mapping[Any, int]:
        """Begin with partitions, once what others noted of them is read (which is too long a work for a callback).

        Returns where to read on in those that were ours before: what was read of them and not done was let go.
        """
        self._offsets.assign(partition.partition for partition in partitions)
        self._behind = True
        again = {each: offset for each, offset in self._unfinished.items() if each in partitions}
        self._unfinished.clear()
        return again

    def revoked(self, partitions: Sequence[Any]) -> None:
        """Let partitions go: no further try begins. What is done has its outcome, whether it is committed or not."""
        unfinished = self._offsets.revoke(partition.partition for partition in partitions)
        for partition in partitions:
            held = self._held.pop(partition, None)
            offsets = [held[0].offset] if held else []
            if partition.partition in unfinished:
                offsets.append(unfinished[partition.partition])
            if offsets:
                self._unfinished[partition] = min(offsets)

    def _hand_out(self, group: Group) -> None:
        """Give each held record to its line; a full line pauses the partition until it has room."""
        for partition, records in self._held.items():
            while records and self._hand(records[0]):
                records.popleft()
            if group.hold(partition, held=bool(records)) and records:
                extra = {"partition": partition.partition}
                logger.warning("a notifier's queue is full: its partition waits", extra=extra)

    def _hand(self, record: Any) -> bool:
        place = self._offsets.take(record.partition, record.offset)
        notification = self._read(record)
        if notification is None:
            self._offsets.done([place])
            return True
        line = self._lines.get(notification.notifier)
        if line is None:
            return self._fail_unknown(notification, place)
        recipients = self._notifiers[notification.notifier].recipients
        return line.offer(Job(notification, [place], recipients))

    def _read(self, record: Any) -> Notification | None:
        type_ = (header(record.headers, "ce_type") or b"").decode("utf-8", "replace")
        content = (header(record.headers, "content-type") or JSON.encode()).decode("utf-8", "replace")
        try:
            events = decode_events(type_, content, record.value or b"", key=record.key)
        except MalformedEvent as error:
            extra = {"partition": record.partition, "offset": record.offset, "error": clean(str(error), 300)}
            logger.error("a notification that can't be read is left out", extra=extra)  # noqa: TRY400 - the reason says all
            return None
        return next((event for event in events if isinstance(event, Notification)), None)

    def _fail_unknown(self, notification: Notification, place: Any) -> bool:
        name = clean(notification.notifier)
        logger.error("no such notifier", extra={"notifier": name})
        outcome = NotificationOutcome(
            notification_id=notification.notification_id,
            notifier=notification.notifier,
            state="failed",
            time=_now(),
            attempts=0,
            error=f"there is no [notifiers.{name}] in the settings any more",
        )
        if notification.notification_id in self._outcomes or self._outcomes.write(outcome):
            self._offsets.done([place])
        return True

    def _commit(self) -> None:
        from kafka.errors import KafkaError  # noqa: PLC0415 - imported when used

        offsets = self._offsets.committable()
        if not offsets or self._group is None:
            return
        try:
            self._group.commit(offsets)
        except KafkaError as error:  # the outcomes are what counts: a commit only spares reading again
            logger.warning("offsets not committed yet", extra={"error": str(error) or type(error).__name__})
        else:
            self._offsets.committed(offsets)
