"""The notifier's place in its consumer group: it gets its partitions, and gives them up with nothing half done."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mlmm.runtime.connections import kafka_consumer
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import Settings

__all__ = ["Group"]

logger = logging.getLogger(__name__)

_POLL = 0.2
_RECORDS = 100
_PATIENCE = 60.0
"""Seconds without a place in the group after which a new member is tried: a join takes milliseconds."""
_MARGIN = 60.0
"""Seconds that a rebalance may take beyond the tries in hand."""
_LOOK = 0.05


class Group:
    """One member of the group that reads a topic.

    Two things it does that a bare consumer does not. A join that is needed because the topic's partitions became known
    or changed is carried through: kafka-python 3.0.12 forgets it when a poll ends while the join is under way, and the
    member waits for ever, without partitions or heartbeats. And partitions are given up only when no try is in hand, so
    that the next owner finds a note of all that was sent.

    Parameters
    ----------
    settings : Settings
        ``kafka`` and ``deployment`` are used.
    topic : str
        What is read.
    assigned, revoked : callable
        Told of partitions that begin and end to be ours, while `poll` waits. The first returns the offsets to read on
        from, where that is not what the group committed.
    busy : callable
        Whether a try is in hand.
    longest : float
        Seconds that one try takes at most: how long others may have to wait for us in a rebalance.
    poll : float
        Seconds that `poll` waits for records.
    patience : float
        Seconds without a place in the group after which it begins anew.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        *,
        assigned: Callable[[Sequence[Any]], Mapping[Any, int]],
        revoked: Callable[[Sequence[Any]], None],
        busy: Callable[[], bool],
        longest: float,
        poll: float = _POLL,
        patience: float = _PATIENCE,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._assigned = assigned
        self._revoked = revoked
        self._busy = busy
        self._longest = longest
        self._poll = poll
        self._patience = patience
        self._closing = False
        self._consumer = self._member()
        self._settled = time.monotonic()

    def _member(self) -> Any:
        consumer = kafka_consumer(
            self._settings,
            group_id=f"{self._settings.deployment}-notifier",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=_RECORDS,
            max_poll_interval_ms=round((self._longest + _MARGIN) * 1000),
        )
        consumer.subscribe(
            [self._topic],
            listener=_listener(
                lambda partitions: self._begin(consumer, partitions),
                self._revoked,
                lambda partitions: self._give_up(consumer, partitions),
            ),
        )
        return consumer

    def poll(self) -> Mapping[Any, Sequence[Any]]:
        """Return what came, by partition; keep our place in the group."""
        from kafka.structs import MemberState  # noqa: PLC0415 - imported when used

        polled: Mapping[Any, Sequence[Any]] = self._consumer.poll(timeout_ms=round(self._poll * 1000))
        now = time.monotonic()
        if self._consumer.group_metadata().state == MemberState.STABLE:
            self._settled = now
        elif now - self._settled > self._patience:
            self._begin_anew()
        return polled

    def _begin_anew(self) -> None:
        logger.warning("no place in the consumer group: joining anew", extra={"seconds": self._patience})
        self._settled = time.monotonic()
        try:
            fresh = self._member()
        except ServiceUnavailable as error:
            logger.warning("Kafka can't be reached", extra={"error": str(error)})
            return
        stale, self._consumer = self._consumer, fresh
        self._close(stale)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit the offset of each partition; raises ``KafkaError``."""
        from kafka import OffsetAndMetadata, TopicPartition  # noqa: PLC0415 - imported when used

        self._consumer.commit(
            {
                TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1)
                for number, offset in offsets.items()
            }
        )

    def hold(self, partition: Any, *, held: bool) -> bool:
        """Stop or start to read a partition; return whether that changed anything."""
        if held == (partition in self._consumer.paused()):
            return False
        (self._consumer.pause if held else self._consumer.resume)(partition)
        return True

    def close(self) -> None:
        """Leave the group."""
        self._close(self._consumer)

    def _close(self, consumer: Any) -> None:
        self._closing = True
        try:
            consumer.close()
        finally:
            self._closing = False

    def _begin(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Begin with partitions. One that was ours before keeps its position and whether it is paused: undo both."""
        for partition, offset in self._assigned(partitions).items():
            consumer.seek(partition, offset)
        consumer.resume(*partitions)

    async def _give_up(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Let partitions go when the tries in hand have ended; heartbeats go on meanwhile, and others wait for us."""
        # What `poll` would forget: that a join is under way (see the class). A join that is carried through clears it.
        consumer._coordinator.request_rejoin()  # noqa: SLF001 - held by a contract test
        self._revoked(partitions)
        while self._busy() and not self._closing:
            await consumer._net.sleep(_LOOK)  # noqa: SLF001 - held by a contract test


def _listener(
    begin: Callable[[Sequence[Any]], None],
    lose: Callable[[Sequence[Any]], None],
    give_up: Callable[[Sequence[Any]], Awaitable[None]],
) -> Any:
    from kafka import AsyncConsumerRebalanceListener  # noqa: PLC0415 - imported when used

    class Listener(AsyncConsumerRebalanceListener):
        async def on_partitions_assigned(self, assigned: Sequence[Any]) -> None:
            begin(assigned)

        async def on_partitions_revoked(self, revoked: Sequence[Any]) -> None:
            await give_up(revoked)

        async def on_partitions_lost(self, lost: Sequence[Any]) -> None:
            lose(lost)

    return Listener()
