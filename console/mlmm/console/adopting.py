"""Letting stored states go on with a topic that is no longer the log they were made from."""

from typing import TYPE_CHECKING, NamedTuple

from mlmm.events import Topics
from mlmm.runtime.errors import SettingsError

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["READERS", "Adopted", "adopt_topic"]

READERS = {"serving": "serving", "training": "training", "findings": "alerting"}
"""Logical input topic → the processor that reads it."""


class Adopted(NamedTuple):
    """One partition whose state goes on."""

    topic: str
    partition: int
    was: int
    """Offset where the state stood."""
    offset: int
    """Where it goes on: the first record that the topic has now."""
    epoch: int


def adopt_topic(settings: "Settings", logical: str) -> list[Adopted]:
    """Point the states made from a topic at the topic as it is now; whoever holds a claim is fenced.

    Partitions without a state are passed over. Raises `SettingsError` where no processor reads the topic or the number
    of partitions changed, `ServiceUnavailable` where Kafka or Redis is away.
    """
    from kafka import TopicPartition

    from mlmm.runtime.connections import kafka_consumer, redis_client, redis_errors
    from mlmm.runtime.harness.worker import describe
    from mlmm.runtime.store import Keys, RedisLike, adopt

    if logical not in READERS:
        raise SettingsError(f"no processor keeps a state of {logical!r}: one of {', '.join(READERS)}")
    topic = Topics(settings.topic_prefix).full(logical)
    topic_id, partitions = describe(settings, [topic])[topic]
    consumer = kafka_consumer(settings)
    try:
        first = consumer.beginning_offsets([TopicPartition(topic, number) for number in range(partitions)])
    finally:
        consumer.close()
    adopted = []
    with redis_errors(settings.redis):
        redis: RedisLike = redis_client(settings)
        for place, offset in sorted(first.items()):
            keys = Keys.of(settings.deployment, READERS[logical], place.partition)
            was, count = redis.execute_command("HMGET", keys.meta, "offset", "partitions")
            if was is None:
                continue
            if int(count) != partitions:
                raise SettingsError(
                    f"{topic} has {partitions} partitions, its state was made from {int(count)}: keys lie elsewhere. "
                    f"Make the topic with {int(count)} partitions again, or begin anew under another `deployment`"
                )
            epoch = adopt(redis, keys, topic_id=topic_id, partitions=partitions, offset=offset)
            adopted.append(Adopted(topic, place.partition, int(was), offset, epoch))
    return adopted
