"""The notifier worker: reads ``notifications``, hands them to the notifiers' lines, commits what is done."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from mlmm.alerting._words import MICROSECONDS, clean
from mlmm.alerting.notifier._kinds import Notifier, make
from mlmm.alerting.notifier._line import Line
from mlmm.alerting.notifier._offsets import Offsets
from mlmm.alerting.notifier._outcomes import Outcomes
from mlmm.alerting.notifier._pipeline import Job, Policy, stages_of
from mlmm.events import JSON, MalformedEvent, Topics, decode_events, header
from mlmm.events.types import Notification, NotificationOutcome
from mlmm.runtime.connections import kafka_consumer, kafka_errors
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import Settings

__all__ = ["run_notifier"]

logger = logging.getLogger(__name__)

_POLL = 100
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


class _Worker:
    def __init__(self, settings: Settings, notifiers: Mapping[str, Notifier], stop_event: threading.Event) -> None:
        self._settings = settings
        self._stop = stop_event
        self._topic = Topics(settings.topic_prefix).notifications
        self._offsets = Offsets()
        self._outcomes = Outcomes(settings, stop_event)
        self._held: dict[Any, deque[Any]] = {}
        self._behind = True
        policy = Policy(attempts=settings.smtp.attempts)
        self._notifiers = notifiers
        self._lines = {name: self._line(name, notifier, policy) for name, notifier in notifiers.items()}
        self._consumer = kafka_consumer(
            settings,
            group_id=f"{settings.deployment}-notifier",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=_POLL,
        )

    def _line(self, name: str, notifier: Notifier, policy: Policy) -> Line:
        stages = stages_of(
            notifier,
            policy,
            owned=self._offsets.owned,
            done=self._outcomes,
            clock=lambda: time.time_ns() // 1000,
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
        )

    def run(self) -> None:
        with kafka_errors(self._settings.kafka):
            self._outcomes.catch_up()
            self._behind = False
            self._follow()

    def _follow(self) -> None:
        self._consumer.subscribe([self._topic], listener=_listener(self))
        for line in self._lines.values():
            line.start()
        logger.info("notifier starts", extra={"topic": self._topic, "notifiers": sorted(map(clean, self._lines))})
        while not self._stop.is_set():
            polled = self._consumer.poll(timeout_ms=200)
            for partition, records in polled.items():
                self._held.setdefault(partition, deque()).extend(records)
            if self._behind:
                self._catch_up()
            if not self._behind:
                self._hand_out()
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
        deadline = time.monotonic() + self._settings.smtp.timeout + 5
        in_time = [line.stop(max(deadline - time.monotonic(), 0.1)) for line in self._lines.values()]
        self._commit()
        self._consumer.close()
        self._outcomes.close()
        logger.info("notifier ended", extra={"waiting": sum(line.waiting for line in self._lines.values())})
        return all(in_time)

    def assigned(self, partitions: Sequence[Any]) -> None:
        """Begin with partitions, once what others noted of them is read (which is too long a work for a callback)."""
        self._offsets.assign(partition.partition for partition in partitions)
        self._behind = True

    def revoked(self, partitions: Sequence[Any]) -> None:
        """Commit what is done and let the rest go."""
        self._commit()
        for partition in partitions:
            self._held.pop(partition, None)
        self._offsets.revoke(partition.partition for partition in partitions)

    def _hand_out(self) -> None:
        """Give each held record to its line; a full line pauses the partition until it has room."""
        for partition, records in self._held.items():
            while records and self._hand(records[0]):
                records.popleft()
            paused = partition in self._consumer.paused()
            if records and not paused:
                self._consumer.pause(partition)
                logger.warning(
                    "a notifier's queue is full: its partition waits", extra={"partition": partition.partition}
                )
            elif paused and not records:
                self._consumer.resume(partition)

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
            time=time.time_ns() * MICROSECONDS // 1_000_000_000,
            attempts=0,
            error=f"there is no [notifiers.{name}] in the settings any more",
        )
        if notification.notification_id in self._outcomes or self._outcomes.write(outcome):
            self._offsets.done([place])
        return True

    def _commit(self) -> None:
        from kafka import OffsetAndMetadata, TopicPartition  # noqa: PLC0415 - imported when used
        from kafka.errors import KafkaError  # noqa: PLC0415

        offsets = self._offsets.committable()
        if not offsets:
            return
        try:
            self._consumer.commit(
                {
                    TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1)
                    for number, offset in offsets.items()
                }
            )
        except KafkaError as error:  # the outcomes are what counts: a commit only spares reading again
            logger.warning("offsets not committed yet", extra={"error": str(error) or type(error).__name__})
        else:
            self._offsets.committed(offsets)


def _listener(worker: _Worker) -> Any:
    from kafka import ConsumerRebalanceListener  # noqa: PLC0415 - imported when used

    class Listener(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
            worker.assigned(assigned)

        def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:
            worker.revoked(revoked)

    return Listener()
