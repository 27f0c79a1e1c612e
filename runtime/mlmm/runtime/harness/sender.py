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
from mlmm.runtime.deadletters import ERROR, TRUNCATED
from mlmm.runtime.errors import MlmmError, ServiceUnavailable
from mlmm.runtime.outbox import Message

__all__ = ["SendFailed", "Sender"]

logger = logging.getLogger(__name__)

BATCH_BYTES = 1 << 20
"""One batch holds a whole wave for its partition."""
OVERHEAD = 400
"""Bytes of a record's key and headers, about."""
CLOSE_TIMEOUT = 3.0
_NEVER = 1 << 62


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
        self._limits: dict[str, int] = {}
        """Topics that refused a batch of ours → bytes of a batch."""
        self._refused: dict[str, int] = {}
        """Topics that refused a single dead letter → its bytes."""

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
                    while not await self._try(messages, partition):
                        await self._close()
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

    async def _try(self, messages: Sequence[Message], partition: int | None) -> bool:
        """Send all; False where a topic refused a batch as too large, and something was learnt from it.

        A refused batch leaves a hole in the numbers of an idempotent producer: what follows needs a new one.
        """
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
        done = await asyncio.gather(*(self._send_group(producer, *place, group) for place, group in groups.items()))
        return all(done)

    async def _partition(self, producer: AIOKafkaProducer, topic: str, key: bytes) -> int:
        return partition_of(key, len(await producer.partitions_for(topic)))

    async def _send_group(self, producer: AIOKafkaProducer, topic: str, where: int, group: Sequence[Message]) -> bool:
        limit = self._limits.get(topic, BATCH_BYTES)
        at = 0
        while at < len(group):
            batch, size, start = producer.create_batch(), 0, at
            while at < len(group):
                message = group[at]
                if size and size + len(message.value) + OVERHEAD > limit:
                    break
                if len(message.value) >= self._refused.get(topic, _NEVER):
                    message = _cut(message)
                if not batch.append(timestamp=None, key=message.key, value=message.value, headers=message.headers):
                    break
                size += len(message.value) + OVERHEAD
                at += 1
            try:
                await (await producer.send_batch(batch, topic, partition=where))
            except MessageSizeTooLargeError:
                self._learn(topic, group[start:at])
                return False
        return True

    def _learn(self, topic: str, batch: Sequence[Message]) -> None:
        sizes = [len(message.value) for message in batch]
        if len(batch) > 1:
            self._limits[topic] = (sum(sizes) + len(sizes) * OVERHEAD) // 2
            return
        if not sizes[0] or not any(name == ERROR for name, _ in batch[0].headers):
            raise MlmmError(
                f"{topic}: the topic refuses an output of {sizes[0]:,} bytes: raise its max.message.bytes "
                "(what was decided is never dropped, so the worker can't go on)"
            )
        self._refused[topic] = min(sizes[0], self._refused.get(topic, _NEVER))
        logger.warning(
            "dead letters of this size are sent without their value", extra={"topic": topic, "size": sizes[0]}
        )

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.stop(), CLOSE_TIMEOUT)


def _cut(message: Message) -> Message:
    """Leave out the value of a dead letter that its topic will not take: it stands where it was read."""
    if not any(name == ERROR for name, _ in message.headers):
        return message
    return Message(message.topic, message.key, b"", [*message.headers, (TRUNCATED, b"%d" % len(message.value))])


def unavailable(address: str, seconds: float, cause: Exception) -> ServiceUnavailable:
    """Say that Kafka took no outputs for too long."""
    return ServiceUnavailable(
        "Kafka",
        address,
        f"took no outputs for {seconds:g} s: {cause}",
        remedy="They stay in the outbox. Start Kafka, then the worker",
    )
