"""What a deployment said and what is left in it, to be compared with another one and with a replay of its log."""

import itertools
from collections import Counter
from collections.abc import Iterable

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from mlmm.console.replay import replay_records
from mlmm.runtime import topics
from mlmm.runtime.processor import Record
from tests.faults.deployment import PARTITIONS, Deployment

__all__ = ["Line", "copy_inputs", "deduped", "differences", "read_topic", "replayed", "said", "said_and_dropped"]

OUTPUTS = ("findings", "incidents", "notifications", "commands")

Line = tuple[str, bytes, bytes, bytes, bytes, bytes]
"""Topic, key, type, id, time, value."""


def read_topic(kafka: str, topic: str) -> dict[int, list[Record]]:
    """Read a topic from its beginning to its end as it is now; partition → records."""
    consumer = KafkaConsumer(bootstrap_servers=kafka, max_partition_fetch_bytes=16 << 20)
    try:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        read: dict[int, list[Record]] = {p.partition: [] for p in partitions}
        while any(consumer.position(p) < ends[p] for p in partitions):
            for place, records in consumer.poll(timeout_ms=500).items():
                read[place.partition] += [
                    Record(r.offset, r.timestamp * 1000, r.key or b"", r.value or b"", r.headers) for r in records
                ]
        return {p.partition: [r for r in read[p.partition] if r.offset < ends[p]] for p in partitions}
    finally:
        consumer.close()


def deduped(records: Iterable[Record], last: dict[bytes, bytes]) -> list[Record]:
    """Drop what is not higher than the last sequence of its source, as every consumer does."""
    kept = []
    for record in records:
        headers = dict(record.headers)
        source, sequence = headers["ce_source"], headers["ce_sequence"]
        if sequence > last.get(source, b""):
            last[source] = sequence
            kept.append(record)
    return kept


def said(deployment: Deployment) -> Counter[Line]:
    """Return all that a deployment put out, each once after dedupe; ticks aside."""
    return said_and_dropped(deployment)[0]


def said_and_dropped(deployment: Deployment) -> tuple[Counter[Line], int]:
    """Return what `said` does, and how many records were sent again, which consumers drop by their sequence."""
    lines: Counter[Line] = Counter()
    dropped = 0
    for logical in OUTPUTS:
        for records in read_topic(deployment.kafka, deployment.topic(logical)).values():
            outputs = [r for r in records if dict(r.headers)["ce_type"] != b"mlmm.tick.v1"]
            kept = deduped(outputs, {})
            dropped += len(outputs) - len(kept)
            for record in kept:
                headers = dict(record.headers)
                lines[logical, record.key, headers["ce_type"], headers["ce_id"], headers["ce_time"], record.value] += 1
    return lines, dropped


def differences(one: Counter[Line], other: Counter[Line]) -> str:
    """Say where two sets of outputs differ."""
    missing, extra = one - other, other - one
    show = [f"  {sign} {line}" for sign, lines in (("-", missing), ("+", extra)) for line in itertools.islice(lines, 3)]
    return "\n".join([f"{missing.total()} missing, {extra.total()} more, of {one.total()}", *show])


def replayed(deployment: Deployment, source: dict[str, dict[int, list[Record]]]) -> tuple[Counter[Line], dict]:
    """Return what `mlmm replay` makes of the log: outputs and cells."""
    from mlmm.events import cloudevents_headers

    log = {(name, p): records for name, partitions in source.items() for p, records in partitions.items()}
    replay = replay_records(log, deployment.settings)
    lines: Counter[Line] = Counter()
    for made in itertools.chain(replay.findings, replay.incidents, replay.notifications, replay.commands):
        out = made.output
        headers = dict(cloudevents_headers(out.type, out.id, "replay", out.time, "application/json"))
        lines[out.topic, out.key, headers["ce_type"], headers["ce_id"], headers["ce_time"], out.value] += 1
    return lines, replay.cells


def copy_inputs(source: dict[str, dict[int, list[Record]]], target: Deployment) -> None:
    """Write the same log under another name: the same offsets, keys, values, headers and times."""
    admin = KafkaAdminClient(bootstrap_servers=target.kafka)
    admin.create_topics(
        [
            NewTopic(target.topic(name), PARTITIONS, 1, topic_configs={"message.timestamp.type": "CreateTime"})
            for name in source
        ]
    )
    admin.close()
    topics.create(target.settings)
    producer = KafkaProducer(bootstrap_servers=target.kafka, acks="all", linger_ms=5)
    for name, partitions in source.items():
        for partition, records in partitions.items():
            for r in records:
                producer.send(
                    target.topic(name), r.value, key=r.key, headers=list(r.headers), partition=partition,
                    timestamp_ms=r.log_time // 1000,
                )  # fmt: skip
    producer.flush()
    producer.close()
