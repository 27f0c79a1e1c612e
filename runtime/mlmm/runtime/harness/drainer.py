"""Draining outboxes: committed outputs go to Kafka in order, then leave Redis."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from itertools import islice
from typing import Any

from mlmm.runtime import outbox
from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.harness.sender import Sender, SendFailed, unavailable
from mlmm.runtime.store import RedisLike

__all__ = ["Drainer"]

logger = logging.getLogger(__name__)

WAVE_ENTRIES = 1_000
WAVE_BYTES = 512 * 1024


class Drainer:
    """Sends the outputs of all claimed partitions, wave by wave.

    Parameters
    ----------
    partitions : Mapping
        The claimed ones; read anew for each wave.
    sender : Sender
        To Kafka.
    redis, patience, executor
        For popping what was acknowledged, in a thread of its own: large commits must not wait for it, nor it for them.
    sign : Signer or None
        Signs the outputs that ask for it.
    give_up_after : float
        Seconds for which Kafka may take nothing before the process ends.
    address : str
        Where Kafka is, for the error.
    """

    def __init__(
        self,
        partitions: Mapping[Any, Partition],
        sender: Sender,
        *,
        redis: RedisLike,
        patience: Patience,
        executor: Executor,
        sign: outbox.Signer | None,
        give_up_after: float,
        address: str,
        on_room: Callable[[], None],
    ) -> None:
        self._partitions = partitions
        self._sender = sender
        self._redis, self._patience, self._executor = redis, patience, executor
        self._sign = sign
        self._give_up_after, self._address = give_up_after, address
        self._on_room = on_room
        self._turn = 0
        self.waves = 0
        """Sent and popped so far."""
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        self.lock = asyncio.Lock()
        """Held during a wave: whoever drops partitions takes it first."""

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Drain until cancelled; an exception ends the process."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._drain()

    async def empty(self, partitions: list[Partition]) -> None:
        """Wait until all that is pending in some partitions was sent and popped."""
        self.wake()
        async with self._moved:
            await self._moved.wait_for(lambda: not any(partition.pending for partition in partitions))

    async def _drain(self) -> None:
        failing_since: float | None = None
        while True:
            try:
                async with self.lock:
                    if not await self._wave():
                        return
                failing_since = None
            except SendFailed as error:
                now = time.monotonic()
                failing_since = failing_since or now
                logger.warning(
                    "outputs not taken", extra={"error": str(error), "for_seconds": round(now - failing_since, 1)}
                )
                for partition in self._partitions.values():
                    partition.metrics.resent += min(len(partition.pending), WAVE_ENTRIES)
                if now - failing_since > self._give_up_after:
                    raise unavailable(self._address, self._give_up_after, error) from error
                await asyncio.sleep(min(1.0, self._give_up_after / 10))

    async def _wave(self) -> bool:
        parts: list[tuple[Partition, list[bytes]]] = []
        room, entries_left = WAVE_BYTES, WAVE_ENTRIES
        held = [each for each in self._partitions.values() if each.held]
        self._turn += 1
        first = self._turn % max(len(held), 1)  # by turns: one that is never empty must not hold the others back
        for partition in (*held[first:], *held[:first]):
            head: list[bytes] = []
            for entry in islice(partition.pending, entries_left):
                if room < len(entry) and (parts or head):
                    break
                head.append(entry)
                room -= len(entry)
            entries_left -= len(head)
            if head:
                parts.append((partition, head))
        if not parts:
            return False
        await self._sender.send(
            [outbox.message(entry, partition.source, self._sign) for partition, head in parts for entry in head]
        )
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._pop, parts)
        for partition, head in parts:
            partition.paid(len(head))
            partition.metrics.sent += len(head)
        self.waves += 1
        async with self._moved:
            self._moved.notify_all()
        self._on_room()
        return True

    def _pop(self, parts: list[tuple[Partition, list[bytes]]]) -> None:
        for partition, head in parts:
            self._patience(lambda p=partition, h=head: outbox.pop(self._redis, p.keys, p.claim, h))  # type: ignore[misc]
