"""What goes wrong in silence: a newer process of our name, a fatal error of the group, an input that stands still."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlmm.runtime.errors import MlmmError, ServiceUnavailable
from mlmm.runtime.harness.kafka_side import Place
from mlmm.runtime.harness.slots import Slot
from mlmm.runtime.store import RedisLike

if TYPE_CHECKING:
    from mlmm.runtime.harness.engine import Engine

__all__ = ["GroupFailed", "Stalled", "Stalls", "Watch"]

logger = logging.getLogger(__name__)

EVERY = 1.0
REPORT_EVERY = 30.0


class GroupFailed(MlmmError):  # noqa: N818 - named like the other errors of ours
    """The consumer group will not have us."""


class Stalled(MlmmError):  # noqa: N818 - named like the other errors of ours
    """The log grows and our position does not."""


class Stalls:
    """Finds partitions whose log goes on while their position stands still.

    Parameters
    ----------
    after : float
        Seconds that they may stand still.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._since: dict[Place, tuple[int | None, float]] = {}
        self._progress = -1

    def check(
        self, positions: dict[Place, int | None], ends: dict[Place, int], now: float, *, progress: int = 0
    ) -> None:
        """Raise `Stalled` where one stood still for too long with records left to read.

        Parameters
        ----------
        positions : dict
            Next offset of each assigned partition; None where it is not claimed.
        ends : dict
            End of each log.
        now : float
            Monotonic clock, seconds.
        progress : int
            How far claims got: a partition that waits for its own is not stalled while they get on.
        """
        claiming = progress != self._progress
        self._progress = progress
        self._since = {place: since for place, since in self._since.items() if place in positions}
        for place, position in positions.items():
            last, since = self._since.get(place, (-1, now))
            waits = claiming if position is None else ends.get(place, 0) <= position
            if position != last or waits:
                self._since[place] = (position, now)
            elif now - since > self._after:
                at = "is not claimed" if position is None else f"stands at offset {position}"
                raise Stalled(
                    f"{place.topic}[{place.partition}] {at} for {now - since:.0f} s, its log ends at {ends.get(place)}"
                )


class Watch:
    """Looks every second, and ends the process with a reason.

    Parameters
    ----------
    app : HarnessApp
        Whose consumer is watched.
    engine : Engine
        Whose positions are.
    slot : Slot
        Our name.
    redis : RedisLike
        Where it is written.
    stall_after : float
        Seconds that a position may stand still, or Kafka not answer.
    kafka : str
        Where Kafka is, for errors.
    fail : Callable
        Ends the process.
    """

    def __init__(
        self,
        app: Any,
        engine: "Engine",
        slot: Slot,
        redis: RedisLike,
        *,
        stall_after: float,
        kafka: str,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._app, self._engine, self._slot, self._redis, self._fail = app, engine, slot, redis, fail
        self._stall_after, self._kafka = stall_after, kafka
        self._answered = time.monotonic()
        self._stalls = Stalls(stall_after)
        self._look_every = max(EVERY, min(10.0, stall_after / 4))

    async def run(self) -> None:
        """Watch until cancelled."""
        looked = reported = time.monotonic()
        try:
            while True:
                await asyncio.sleep(EVERY)
                now = time.monotonic()
                self._group()
                await self._hold()
                if now - looked >= self._look_every:
                    looked = now
                    await self._look(now)
                if now - reported >= REPORT_EVERY:
                    reported = now
                    self.report(now)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
            self._fail(error)

    def report(self, now: float) -> None:
        """Log the self-metrics."""
        for row in self._engine.metrics.snapshot(now):
            logger.info("partition", extra=row)

    def _group(self) -> None:
        consumer = self._app.consumer
        error = consumer.group_error()
        if error is not None:
            raise GroupFailed(
                f"the consumer group failed: {error!r} (is kafka.session_timeout below group.min.session.timeout.ms?)"
            )
        if self._app.crashed:
            raise GroupFailed(f"the consumer ended: {self._app.crash_reason!r}")
        consumer.learn_topics()

    async def _hold(self) -> None:
        from redis.exceptions import RedisError  # noqa: PLC0415 - workers only

        try:
            await asyncio.to_thread(self._slot.hold, self._redis)
        except RedisError as error:
            logger.debug("slot not checked", extra={"error": repr(error)})

    async def _look(self, now: float) -> None:
        from aiokafka.errors import KafkaError  # noqa: PLC0415 - workers only
        from faust.exceptions import ConsumerNotStarted  # noqa: PLC0415 - workers only

        consumer, claimed = self._app.consumer, self._engine.partitions
        try:
            places = [Place(tp.topic, tp.partition) for tp in consumer.assignment()]
            async with asyncio.timeout(self._look_every):
                ends = await consumer.ends(places)
        except (ConsumerNotStarted, KafkaError, TimeoutError) as error:
            silent = now - self._answered
            if silent > self._stall_after:
                raise ServiceUnavailable(
                    "Kafka", self._kafka, f"no answer for {silent:.0f} s: {error!r}", remedy="Start the broker"
                ) from error
            if not isinstance(error, ConsumerNotStarted):
                waits = {"address": self._kafka, "for_seconds": round(silent), "gives_up_after": self._stall_after}
                logger.warning("kafka does not answer", extra={**waits, "error": repr(error)})
            return
        self._answered = now
        # Claims have bounds of their own, and nothing moves before the last of them is through.
        positions: dict[Place, int | None] = {}
        if not self._engine.claiming:
            positions = {place: claimed[place].offset if place in claimed else None for place in places}
        for place, end in ends.items():
            if place in claimed:
                claimed[place].metrics.lag = max(0, end - claimed[place].offset)
        self._stalls.check(positions, ends, now, progress=self._engine.progress)
