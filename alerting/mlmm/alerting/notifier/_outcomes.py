"""What was delivered, failed for good, or is still being tried: read from the compacted topic, and written to it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from mlmm.events import JSON, MalformedEvent, Topics, cloudevents_headers, decode_events, encode_json, header
from mlmm.events.types import NotificationOutcome
from mlmm.runtime.connections import kafka_consumer, kafka_producer
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import Settings

__all__ = ["Outcomes"]

logger = logging.getLogger(__name__)

_KEPT = 1_000_000
"""Ids that are remembered; older ones belong to notifications that left Kafka long ago."""
_TYPE = "mlmm.notification.outcome.v1"
_CATCH_UP = 60.0


class Outcomes:
    """Ids of notifications that have an outcome, and what is noted of those that are being tried again.

    Parameters
    ----------
    settings : Settings
        Where Kafka is.
    stop_event : threading.Event
        Ends waiting for a broker that is away.
    """

    def __init__(self, settings: Settings, stop_event: threading.Event) -> None:
        self._settings = settings
        self._stop = stop_event
        self._topic = Topics(settings.topic_prefix).notification_outcomes
        self._known: dict[str, NotificationOutcome | None] = {}
        self._lock = threading.Lock()
        self._reader = kafka_consumer(settings, auto_offset_reset="earliest", enable_auto_commit=False)
        self._producer = kafka_producer(settings, acks="all", linger_ms=0)
        self._partitions: list[Any] = []

    def __contains__(self, notification_id: object) -> bool:
        with self._lock:
            return notification_id in self._known and self._known[str(notification_id)] is None

    def noted(self, notification_id: str) -> NotificationOutcome | None:
        """Return what is noted of a notification that is still being tried: who has it, how many tries there were."""
        with self._lock:
            return self._known.get(notification_id)

    def catch_up(self) -> None:
        """Read to the end of the topic: at start, and when partitions came from another worker.

        Raises ``ServiceUnavailable`` when the end is not reached within a minute.
        """
        from kafka import TopicPartition  # noqa: PLC0415 - imported when used

        known = self._reader.partitions_for_topic(self._topic) or set()
        partitions = [TopicPartition(self._topic, number) for number in sorted(known)]
        if not partitions:
            logger.warning("no topic of outcomes yet", extra={"topic": self._topic})
            return
        if partitions != self._partitions:
            self._reader.assign(partitions)
            self._reader.seek_to_beginning(*partitions)
            self._partitions = partitions
        ends = self._reader.end_offsets(partitions)
        deadline = time.monotonic() + _CATCH_UP
        while any(self._reader.position(partition) < end for partition, end in ends.items()):
            for records in self._reader.poll(timeout_ms=500).values():
                for record in records:
                    self._note(record)
            if time.monotonic() > deadline:
                address = self._settings.kafka.bootstrap_servers
                cause = f"the end of {self._topic} was not reached in {_CATCH_UP:g} s"
                raise ServiceUnavailable(
                    "Kafka", address, cause, remedy="See whether the broker is overloaded: mlmm doctor"
                )
        logger.info("outcomes read", extra={"count": len(self._known)})

    def _note(self, record: Any) -> None:
        if record.value is None:
            return
        content = (header(record.headers, "content-type") or JSON.encode()).decode("utf-8", "replace")
        try:
            for outcome in decode_events(_TYPE, content, record.value):
                if isinstance(outcome, NotificationOutcome):
                    self._add(outcome)
        except MalformedEvent as error:
            logger.warning("an outcome that can't be read", extra={"offset": record.offset, "error": str(error)})

    def _add(self, outcome: NotificationOutcome) -> None:
        """Keep the id alone of what ended, and a note of what is still being tried; an end is never taken back."""
        with self._lock:
            if outcome.state != "retrying":
                self._known[outcome.notification_id] = None
            elif self._known.get(outcome.notification_id, outcome) is not None:
                self._known[outcome.notification_id] = outcome
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]

    def write(self, outcome: NotificationOutcome) -> bool:
        """Write an outcome down; waits for a broker that is away, and gives up (False) only when the worker ends.

        Called by the notifiers' threads, after the message left: between the two lies the one moment in which a crash
        sends it again.
        """
        self._add(outcome)
        return self._until_sent(lambda: self._send(outcome))

    def _send(self, outcome: NotificationOutcome) -> None:
        name = f"{outcome.notification_id}:{outcome.state}"
        source = f"{self._settings.deployment}/notifier"
        headers = cloudevents_headers(_TYPE, name, source, outcome.time, JSON, correlationid=outcome.notification_id)
        key = outcome.notification_id.encode()
        self._producer.send(self._topic, key=key, value=encode_json(outcome), headers=headers).get(timeout=30)

    def _until_sent(self, send: Callable[[], None]) -> bool:
        from kafka.errors import KafkaError  # noqa: PLC0415 - imported when used

        pause = 0.5
        while True:
            try:
                send()
            except KafkaError as error:
                logger.warning("an outcome can't be written yet", extra={"error": str(error) or type(error).__name__})
            else:
                return True
            if self._stop.wait(pause):
                return False
            pause = min(pause * 2, 15.0)

    def close(self) -> None:
        """Close both clients."""
        self._producer.close(timeout=5)
        self._reader.close()
