"""Reads what MLMM makes of it: findings, incidents, commands and the run's answers, as anyone with a consumer could."""

import threading
from typing import Any

from mlmm.events import (
    Acked,
    Command,
    Drift,
    Incident,
    MalformedEvent,
    Metrics,
    Report,
    RunEnded,
    RunState,
    Topics,
    decode_events,
    header,
)
from mlmm.runtime.settings import Settings

__all__ = ["Watch"]


class Watch(threading.Thread):
    """Follows the topics from their beginnings and keeps what the story tells."""

    TOPICS = ("findings", "incidents", "commands", "training")

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="watch", daemon=True)
        self.settings = settings
        self.drifts: list[Drift] = []
        self.service: Report | None = None
        self.performance: Report | None = None
        self.incidents: dict[str, Incident] = {}
        self.fired: dict[str, Incident] = {}
        """Each incident as it was when it fired."""
        self.commands: list[Command] = []
        self.answers: list[Acked] = []
        self.metrics: Metrics | None = None
        """What the trainer said last."""
        self.run_ended: RunEnded | None = None
        self.run_state: RunState | None = None
        self.trigger: RunState | None = None
        """The first time that a trigger fired."""
        self.error: Exception | None = None
        self._ended = threading.Event()

    def end(self) -> None:
        """Read no more."""
        self._ended.set()

    def run(self) -> None:
        """Read until told to end."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - told by the story, which ends
            self.error = error

    def _run(self) -> None:
        from kafka import TopicPartition

        from mlmm.runtime.connections import kafka_consumer

        topics = Topics(self.settings.topic_prefix)
        consumer = kafka_consumer(self.settings, auto_offset_reset="earliest")
        try:
            wanted = [
                TopicPartition(topics.full(topic), partition)
                for topic in self.TOPICS
                for partition in consumer.partitions_for_topic(topics.full(topic))
                or range(self.settings.kafka.partitions)
            ]
            consumer.assign(wanted)
            consumer.seek_to_beginning(*wanted)
            while not self._ended.is_set():
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        self._take(record)
        finally:
            consumer.close()

    def _take(self, record: Any) -> None:
        kind = (header(record.headers, "ce_type") or b"").decode()
        content = (header(record.headers, "content-type") or b"").decode()
        try:
            events = decode_events(kind, content, record.value)
        except MalformedEvent:
            return  # not ours: the processors put it into the dead letters
        for event in events:
            self._note(event)

    def _note(self, event: object) -> None:
        match event:
            case Drift():
                self.drifts.append(event)
            case Report(kind="service"):
                self.service = event
            case Report(kind="performance") if event.window.endswith("s"):
                self.performance = event
            case RunState():
                self.run_state = event
                if event.trigger and self.trigger is None:
                    self.trigger = event
            case Incident():
                self.incidents[event.incident_id] = event
                if event.state == "firing":
                    self.fired.setdefault(event.incident_id, event)
            case Command():
                self.commands.append(event)
            case Acked():
                self.answers.append(event)
            case Metrics():
                self.metrics = event
            case RunEnded():
                self.run_ended = event
            case _:
                pass
