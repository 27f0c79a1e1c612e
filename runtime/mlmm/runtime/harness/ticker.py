"""Writing ticks: while a deadline is pending, the owner writes time into the log that the state reads."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.harness.sender import Sender, SendFailed
from mlmm.runtime.ticks import tick

__all__ = ["Ticker"]

logger = logging.getLogger(__name__)


class Ticker:
    """Writes a tick into each partition that has a deadline, every interval.

    Parameters
    ----------
    partitions : Mapping
        The claimed ones; read anew each time.
    sender : Sender
        To Kafka.
    interval : float
        Seconds between ticks.
    clock : Callable
        Time in nanoseconds; only an embedded broker takes it for log time.
    """

    def __init__(
        self,
        partitions: Mapping[Any, Partition],
        sender: Sender,
        interval: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._partitions, self._sender, self._interval, self._clock = partitions, sender, interval, clock

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.write()

    async def write(self) -> None:
        """Write the ticks that are due; one that is lost is followed by the next."""
        for partition in [each for each in self._partitions.values() if each.held and each.deadline is not None]:
            message = tick(partition.processor.input, partition.source, self._clock() // 1000)
            try:
                await self._sender.send([message], partition=partition.number)
                partition.metrics.ticks += 1
            except SendFailed as error:
                logger.warning("tick not taken", extra={"error": str(error)})
