"""An input topic as whoever mends states sees it: its bounds, what was not read yet, and who still reads it."""

import heapq
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlmm.runtime.errors import MlmmError, ServiceUnavailable

if TYPE_CHECKING:
    from mlmm.runtime.processor import Record
    from mlmm.runtime.settings import Settings

__all__ = ["TopicLog"]

FETCH_BYTES = 8 << 20
NO_GROUP = "GroupIdNotFoundError"
LOOK = 0.5
"""Seconds between looks whether the workers are gone."""


class TopicLog:
    """One topic. Each method raises `ServiceUnavailable` where Kafka is away.

    Parameters
    ----------
    settings : Settings
        Section ``kafka``.
    topic : str
        Full name.
    """

    def __init__(self, settings: "Settings", topic: str) -> None:
        self.settings, self.topic = settings, topic

    def grow(self, partitions: int) -> None:
        """Give it more partitions, where it has fewer."""
        from mlmm.runtime.connections import kafka_admin, kafka_errors
        from mlmm.runtime.harness.worker import describe

        if describe(self.settings, [self.topic])[self.topic][1] >= partitions:
            return
        admin: Any = kafka_admin(self.settings)
        try:
            with kafka_errors(self.settings.kafka):
                admin.create_partitions({self.topic: partitions})
        finally:
            admin.close()

    def bounds(self, partitions: int) -> tuple[dict[int, int], dict[int, int]]:
        """Return partition → end, and partition → first offset that is left."""
        from kafka import TopicPartition

        from mlmm.runtime.connections import kafka_consumer, kafka_errors

        places = [TopicPartition(self.topic, p) for p in range(partitions)]
        consumer = kafka_consumer(self.settings)
        try:
            with kafka_errors(self.settings.kafka):
                ends, firsts = consumer.end_offsets(places), consumer.beginning_offsets(places)
        finally:
            consumer.close()
        return {p.partition: at for p, at in ends.items()}, {p.partition: at for p, at in firsts.items()}

    def unread(self, ranges: Mapping[int, tuple[int, int]]) -> Iterator[tuple[int, "Record"]]:
        """Yield the records of all partitions by log time; ``ranges``: partition → its first offset and its end."""
        logs = [self._read(p, start, end) for p, (start, end) in ranges.items()]
        return heapq.merge(*logs, key=lambda each: (each[1].log_time, each[0], each[1].offset))

    def _read(self, partition: int, start: int, end: int) -> Iterator[tuple[int, "Record"]]:
        from kafka import TopicPartition

        from mlmm.runtime.connections import kafka_consumer, kafka_errors
        from mlmm.runtime.processor import Record

        place = TopicPartition(self.topic, partition)
        consumer = kafka_consumer(self.settings, max_partition_fetch_bytes=FETCH_BYTES, auto_offset_reset="none")
        latest = 0
        try:
            with kafka_errors(self.settings.kafka):
                consumer.assign([place])
                consumer.seek(place, start)
                while consumer.position(place) < end:
                    for record in consumer.poll(timeout_ms=500).get(place, ()):
                        if record.offset >= end:
                            return
                        latest = max(latest, record.timestamp * 1000)
                        yield (
                            partition,
                            Record(record.offset, latest, record.key or b"", record.value or b"", record.headers),
                        )
        finally:
            consumer.close()

    def wait_until_stopped(self, group: str) -> None:
        """Wait until the consumer group has no member; `MlmmError` names those that stay.

        A worker that was stopped stays a member until its session is over, so that a restart needs no rebalance: then
        Kafka gives it what it had, and the partitions that were added to nobody.
        """
        from mlmm.runtime.connections import kafka_admin, kafka_errors

        deadline = time.monotonic() + 2 * self.settings.kafka.session_timeout + 5
        admin: Any = kafka_admin(self.settings)
        try:
            while True:
                try:
                    with kafka_errors(self.settings.kafka):
                        found = admin.describe_groups([group])[group]
                except ServiceUnavailable:  # a broker that never had a group makes its coordinator only now
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(LOOK)
                    continue
                members, trouble = found["members"], found.get("error") or ""
                # A coordinator that can't tell yet names no members either; a group that is no more has none.
                if not members and (not trouble or NO_GROUP in trouble):
                    return
                if time.monotonic() > deadline:
                    names = ", ".join(sorted(each["group_instance_id"] or each["member_id"] for each in members))
                    cause = f"workers still run ({names})" if members else f"can't tell whether workers run ({trouble})"
                    raise MlmmError(f"{self.topic}: {cause}: stop them, then run this again")
                time.sleep(LOOK)
        finally:
            admin.close()
