"""Letting stored states go on with a topic that is no longer the log they were made from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mlmm.events import Topics
from mlmm.runtime.errors import SettingsError

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["GROUPS", "READERS", "Adopted", "adopt_topic", "logical_name"]

READERS = {"serving": "serving", "training": "training", "findings": "alerting"}
"""Logical input topic → the processor that reads it."""
GROUPS = {"serving": "processors", "training": "processors", "findings": "alerting"}
"""Logical input topic → the consumer group that reads it, without the deployment."""


class Adopted(NamedTuple):
    """One partition whose state goes on."""

    topic: str
    partition: int
    was: int
    """Offset where the state stood."""
    offset: int
    """Where it goes on: the first record of a topic made anew; of one that lost its end, the first that is newer than
    the state."""
    epoch: int
    why: str
    """What happened to the log."""


class _Log(NamedTuple):
    topic_id: str
    partitions: int
    first: dict[int, int]
    end: dict[int, int]


def logical_name(settings: "Settings", topic: str) -> str:
    """Return the logical name of an input topic, given that or the full one; `SettingsError` where it is none."""
    logical = topic.removeprefix(f"{settings.topic_prefix}.")
    if logical not in READERS:
        raise SettingsError(f"no processor keeps a state of {topic!r}: one of {', '.join(READERS)}")
    return logical


def adopt_topic(settings: "Settings", name: str) -> list[Adopted]:
    """Point the states made from a topic at the topic as it is now; whoever holds a claim is fenced.

    A topic that was made anew is read from its first record. One that lost its end (a leader that had not copied all
    of it, a disk put back) is read from the first record whose log time is past what the state has seen: what lies
    before that was counted. A partition that is still the log of its state is left alone.

    Raises
    ------
    SettingsError
        No processor reads the topic, or it has fewer partitions than before.
    ServiceUnavailable
        Kafka or Redis is away.
    """
    from mlmm.runtime.connections import kafka_consumer, redis_client, redis_errors
    from mlmm.runtime.store import Keys, RedisLike, adopt

    logical = logical_name(settings, name)
    topic = Topics(settings.topic_prefix).full(logical)
    consumer = kafka_consumer(settings)
    adopted = []
    try:
        log = _look(settings, consumer, topic)
        with redis_errors(settings.redis):
            redis: RedisLike = redis_client(settings)
            for partition in _stored(redis, settings, logical, log.partitions):
                keys = Keys.of(settings.deployment, READERS[logical], partition)
                fields = redis.execute_command("HMGET", keys.meta, "offset", "partitions", "topic_id", "log_time")
                was, count, stored_id, log_time = int(fields[0]), int(fields[1]), fields[2] or b"", int(fields[3] or 0)
                if stored_id.decode() not in {"", log.topic_id}:
                    why, offset = "made anew", log.first[partition]
                elif was > log.end[partition]:
                    why, offset = "lost its end", _after(settings, consumer, topic, partition, log_time, log.end)
                else:
                    continue
                epoch = adopt(redis, keys, topic_id=log.topic_id, partitions=count, offset=offset)
                adopted.append(Adopted(topic, partition, was, offset, epoch, why))
    finally:
        consumer.close()
    return adopted


def _stored(redis: Any, settings: "Settings", logical: str, partitions: int) -> list[int]:
    """Return the partitions that have a state; the topic must hold all of them."""
    from mlmm.runtime.store import Keys, partitions_of

    found = []
    for partition in partitions_of(redis, settings.deployment, READERS[logical]):
        keys = Keys.of(settings.deployment, READERS[logical], partition)
        was, count = redis.execute_command("HMGET", keys.meta, "offset", "partitions")
        if was is None:
            continue
        if int(count) > partitions:
            raise SettingsError(
                f"{logical} has {partitions} partitions, its state was made from {int(count)}: make the topic with at "
                f"least {int(count)}, or begin anew under another `deployment`"
            )
        found.append(partition)
    return found


def _look(settings: "Settings", consumer: Any, topic: str) -> _Log:
    from kafka import TopicPartition

    from mlmm.runtime.connections import kafka_errors
    from mlmm.runtime.harness.worker import describe

    topic_id, partitions = describe(settings, [topic])[topic]
    places = [TopicPartition(topic, number) for number in range(partitions)]
    with kafka_errors(settings.kafka):
        first, end = consumer.beginning_offsets(places), consumer.end_offsets(places)
    return _Log(
        topic_id,
        partitions,
        {place.partition: offset for place, offset in first.items()},
        {place.partition: offset for place, offset in end.items()},
    )


def _after(
    settings: "Settings", consumer: Any, topic: str, partition: int, log_time: int, ends: Mapping[int, int]
) -> int:
    """Offset of the first record past a log time (microseconds); the log's end where there is none."""
    from kafka import TopicPartition

    from mlmm.runtime.connections import kafka_errors

    place = TopicPartition(topic, partition)
    with kafka_errors(settings.kafka):
        found = consumer.offsets_for_times({place: log_time // 1000 + 1}).get(place)
    return ends[partition] if found is None else int(found.offset)
