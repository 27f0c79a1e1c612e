"""Giving an order by hand, and following what its target answers."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlmm.events import (
    JSON,
    Acked,
    Command,
    MalformedEvent,
    Topics,
    cloudevents_headers,
    decode_events,
    encode_json,
    header,
    sign,
)
from mlmm.events.signing import NOT_SIGNED, unknown_key

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["follow", "give", "is_ours"]

LAST_WORDS = ("completed", "rejected", "expired")
SEND_SECONDS = 30.0


@contextlib.contextmanager
def give(settings: "Settings", command: Command) -> Iterator[Any]:
    """Publish a command, signed where a key is configured; yield a consumer that stands just before any answer."""
    from kafka import TopicPartition

    from mlmm.runtime.connections import kafka_consumer, kafka_errors, kafka_producer

    topics = Topics(settings.topic_prefix)
    key = (command.run_id or command.model or "").encode()
    value = encode_json(command)
    headers = cloudevents_headers("mlmm.command.v1", command.command_id, command.issued_by, command.issued_at, JSON)
    active = settings.alerting.signing_key
    if active is not None:
        signature = sign(active.id, active.secret.reveal().encode(), key, "mlmm.command.v1", command.command_id, value)
        headers.append(("mlmm_signature", signature))
    with (
        kafka_errors(settings.kafka),
        contextlib.closing(kafka_consumer(settings, enable_auto_commit=False)) as consumer,
    ):
        partitions = [TopicPartition(topics.training, p) for p in consumer.partitions_for_topic(topics.training) or ()]
        consumer.assign(partitions)
        consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)
        with contextlib.closing(kafka_producer(settings, acks="all")) as producer:
            producer.send(topics.commands, value, key=key, headers=headers).get(timeout=SEND_SECONDS)
        yield consumer


def is_ours(settings: "Settings", answer: Acked) -> bool:
    """Whether what was refused as unproven must be what we sent: then no other answer will come."""
    active = settings.alerting.signing_key
    return answer.reason == (NOT_SIGNED if active is None else unknown_key(active.id))


def follow(consumer: Any, command_id: str, *, seconds: float) -> Iterator[Acked]:
    """Yield the acknowledgements of a command until its last word or until ``seconds`` have passed.

    What is unproven is no last word: it may be of a copy that somebody else sent under the same id.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                if header(record.headers, "ce_type") != b"mlmm.command.acked.v1":
                    continue
                try:
                    events = decode_events("mlmm.command.acked.v1", JSON, record.value)
                except MalformedEvent:
                    continue  # the training processor puts it into the dead letters, with the reason
                for event in events:
                    if isinstance(event, Acked) and event.command_id == command_id:
                        yield event
                        if event.state in LAST_WORDS and not event.unproven:
                            return
