"""What the tests of the emitter on real Kafka share: settings, topics, and what lies in them."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mlmm.events import Event, decode_blocks, decode_events, header
from mlmm.runtime.connections import kafka_admin, kafka_consumer
from mlmm.runtime.settings import Settings, load
from tests.services import unique

PREDICTIONS = "mlmm.predictions.v1"


def settings_for(address: str, **more: Any) -> Settings:
    values = {"kafka.bootstrap_servers": address, "topic_prefix": unique("e"), "emitter.linger": 0.01, **more}
    return load(env={}, arguments=values)


def make_topic(settings: Settings, logical: str) -> None:
    """Make one topic and no other."""
    admin = kafka_admin(settings)
    name = f"{settings.topic_prefix}.{logical}"
    admin.create_topics({name: {"num_partitions": settings.kafka.partitions, "replication_factor": 1}})
    admin.wait_for_topics([name])
    admin.close()


class Topic:
    """Reads a topic from its beginning, on at each call; keeps no record."""

    def __init__(self, settings: Settings, logical: str = "serving") -> None:
        self._consumer = kafka_consumer(settings, auto_offset_reset="earliest", group_id=None)
        self._consumer.subscribe([f"{settings.topic_prefix}.{logical}"])
        self.ids: Counter[str] = Counter()
        """Prediction id → how often it was seen."""
        self.events: list[Event] = []
        """All events but predictions."""
        self.ce_ids: Counter[str] = Counter()

    def read(self) -> "Topic":
        """Read what came since."""
        for records in self._consumer.poll(200, max_records=2000).values():
            for record in records:
                type_, content, ce_id = (
                    (header(record.headers, name) or b"").decode() for name in ("ce_type", "content-type", "ce_id")
                )
                self.ce_ids[ce_id] += 1
                if type_ == PREDICTIONS:
                    for block in decode_blocks(type_, content, record.value, key=record.key):
                        self.ids.update(ids_of(block))
                else:
                    self.events += decode_events(type_, content, record.value)
        return self

    def close(self) -> None:
        self._consumer.close()


def ids_of(block: Any) -> list[str]:
    """Return the prediction ids of a block, fast: a million must be counted."""
    text, found, at = block.ids.decode(), [], 0
    if len(text) != len(block.ids):
        raise AssertionError("the tests' ids are ASCII")
    for length in memoryview(block.id_lengths).cast("I"):
        found.append(text[at : at + length])
        at += length
    return found


@contextlib.contextmanager
def reading(settings: Settings, logical: str = "serving") -> Iterator[Topic]:
    topic = Topic(settings, logical)
    try:
        yield topic
    finally:
        topic.close()
