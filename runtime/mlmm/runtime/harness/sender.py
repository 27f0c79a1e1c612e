"""Sending to Kafka so that order within a partition holds whatever fails.

A consumer drops what is not higher than the last sequence, so a record that overtakes another one would make that one
lost. Hence one batch a target partition at a time, accepted whole or not at all, through an idempotent producer with
``acks=all``; the next ones go only after all are acknowledged. A failure closes the producer: what comes next starts
from the head.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from mlmm.events.placement import partition_of
from mlmm.runtime.deadletters import ERROR
from mlmm.runtime.errors import MlmmError, ServiceUnavailable
from mlmm.runtime.outbox import Message

__all__ = ["TRUNCATED", "SendFailed", "Sender"]

logger = logging.getLogger(__name__)

TRUNCATED = "mlmm_truncated"
"""Header of a dead letter that the topic refused as too large: bytes of the value that was left out."""
BATCH_BYTES = 1 << 20
"""One batch holds a whole wave for its partition."""
CLOSE_TIMEOUT = 3.0


class SendFailed(MlmmError):  # noqa: N818 - named like the other errors of ours
    """A wave that was not acknowledged in full; it is sent again from its head."""


class Sender:
    """Sends waves of messages.

    Parameters
    ----------
    options : Mapping
        aiokafka's options for reaching the brokers.
    full_name : Callable
        Logical topic name → full name.
    timeout : float
        Seconds until a wave that is not acknowledged fails.
    """

    def __init__(self, options: Mapping[str, Any], full_name: Callable[[str], str], timeout: float) -> None:
        self._options = options
        self._full_name = full_name
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def send(self, messages: Sequence[Message], *, partition: int | None = None) -> None:
        """Send a wave and wait until all of it is acknowledged.

        Parameters
        ----------
        messages : sequence of Message
            In order; of a size that fits one batch (a single message may be larger).
        partition : int, optional
            Where to, instead of by key.

        Raises
        ------
        SendFailed
            Not all of it was acknowledged.
        MlmmError
            A message that the topic will never take.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._send(messages, partition)
            except (KafkaError, OSError, TimeoutError) as error:
                await self._close()
                raise SendFailed(f"{error.__class__.__name__}: {error}") from error
            except BaseException:
                await self._close()
                raise

    async def close(self) -> None:
        """Close the producer."""
        async with self._lock:
            await self._close()

    async def _send(self, messages: Sequence[Message], partition: int | None) -> None:
        producer = self._producer
        if producer is None:
            producer = AIOKafkaProducer(
                acks="all",
                enable_idempotence=True,
                max_batch_size=BATCH_BYTES,
                max_request_size=64 << 20,
                **self._options,
            )
            self._producer = producer
            await producer.start()
        groups: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            topic = self._full_name(message.topic)
            where = partition if partition is not None else await self._partition(producer, topic, message.key)
            groups.setdefault((topic, where), []).append(message)
        await asyncio.gather(*(self._send_group(producer, *place, group) for place, group in groups.items()))

    async def _partition(self, producer: AIOKafkaProducer, topic: str, key: bytes) -> int:
        return partition_of(key, len(await producer.partitions_for(topic)))

    async def _send_group(self, producer: AIOKafkaProducer, topic: str, where: int, group: Sequence[Message]) -> None:
        try:
            await self._send_batch(producer, topic, where, group)
        except MessageSizeTooLargeError:
            if len(group) > 1:
                for message in group:
                    await self._send_group(producer, topic, where, [message])
                return
            await self._send_batch(producer, topic, where, [_cut(group[0], topic)])

    async def _send_batch(self, producer: AIOKafkaProducer, topic: str, where: int, group: Sequence[Message]) -> None:
        at = 0
        while at < len(group):
            batch = producer.create_batch()
            while at < len(group):
                message = group[at]
                if batch.append(timestamp=None, key=message.key, value=message.value, headers=message.headers) is None:
                    break
                at += 1
            await (await producer.send_batch(batch, topic, partition=where))

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.stop(), CLOSE_TIMEOUT)


def _cut(message: Message, topic: str) -> Message:
    """Leave out the value of a dead letter that its topic will not take; anything else must not be lost."""
    if not message.value or not any(name == ERROR for name, _ in message.headers):
        raise MlmmError(
            f"{topic}: the topic refuses an output of {len(message.value):,} bytes: raise its max.message.bytes "
            "(what was decided is never dropped, so the worker can't go on)"
        )
    size = len(message.value)
    logger.warning("dead letter cut", extra={"topic": topic, "bytes": size})
    return Message(message.topic, message.key, b"", [*message.headers, (TRUNCATED, b"%d" % size)])


def unavailable(address: str, seconds: float, cause: Exception) -> ServiceUnavailable:
    """Say that Kafka took no outputs for too long."""
    return ServiceUnavailable(
        "Kafka",
        address,
        f"took no outputs for {seconds:g} s: {cause}",
        remedy="They stay in the outbox. Start Kafka, then the worker",
    )
