"""Claiming partitions and loading their states."""

import logging
import time
from collections.abc import Mapping

from mlmm.runtime import claims, outbox
from mlmm.runtime.claims import Claim, Log
from mlmm.runtime.errors import Fenced, LogChanged, StateRefused
from mlmm.runtime.harness.kafka_side import Place
from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.metrics import Metrics
from mlmm.runtime.processor import Processor, State
from mlmm.runtime.sequence import WORKER_MADE, Seen, source
from mlmm.runtime.staging import Staging
from mlmm.runtime.store import Keys, RedisLike, iter_hash

__all__ = ["Claimer"]

logger = logging.getLogger(__name__)


class Claimer:
    """Makes `Partition` objects out of what lies in Redis. Blocks: runs in the thread of commits.

    Parameters
    ----------
    processors : Mapping
        Full name of each input topic → its processor.
    deployment : str
        First part of keys and of ``ce_source``.
    redis : RedisLike
        The store.
    patience : Patience
        Tries a call again while Redis is away; each call may be repeated.
    metrics : Metrics
        Where it counts.
    """

    def __init__(
        self,
        processors: Mapping[str, Processor],
        *,
        deployment: str,
        redis: RedisLike,
        patience: Patience,
        metrics: Metrics,
    ) -> None:
        self._processors, self._deployment, self._redis = processors, deployment, redis
        self._patience, self._metrics = patience, metrics
        self.progress = 0
        """Rises while a claim gets on: chunks of state read, partitions claimed."""

    def claim(self, place: Place, log: Log) -> Partition:
        """Claim a partition and load it; raises `LogChanged` where its state was made from another log."""
        processor = self._processors[place.topic]
        keys = Keys.of(self._deployment, processor.name, place.partition)
        redis, again = self._redis, self._patience
        begun = time.perf_counter()
        self._begin_alike(place, log)
        held = again(lambda: claims.claim(redis, keys, log, layouts=processor.layouts))
        state, size = again(lambda: self._load(keys, processor, held))
        seen = again(lambda: self._seen(keys)) if processor.input in WORKER_MADE else None
        entries = again(lambda: outbox.read(redis, keys))
        partition = Partition(
            processor,
            place.topic,
            place.partition,
            log.partitions,
            keys=keys,
            source=source(self._deployment, processor.name, place.topic, place.partition),
            claim=held,
            state=state,
            seen=seen,
            metrics=self._metrics.of(processor.name, place.partition),
        )
        partition.owe(entries)
        self._metrics.claims += 1
        self._moved()
        extra = {**place._asdict(), "rev": held.rev, "offset": held.offset, "state_bytes": size, "outbox": len(entries)}
        logger.info("partition claimed", extra={**extra, "seconds": round(time.perf_counter() - begun, 3)})
        return partition

    def still_held(self, partition: Partition) -> bool:
        """Whether the claim holds and Redis stands where memory does."""
        try:
            stored = self._patience(lambda: claims.renew(self._redis, partition.keys, partition.claim))
        except Fenced:
            return False
        return stored == partition.committed == partition.offset

    def check(self, partition: Partition, log: Log) -> None:
        """Raise `LogChanged` where the log is no longer the one that the state was made from."""
        layouts = partition.processor.layouts
        self._patience(lambda: claims.check(self._redis, partition.keys, log, layouts=layouts))

    def _begin_alike(self, place: Place, log: Log) -> None:
        """Raise `LogChanged` where a state would begin beside others made from another number of partitions.

        A partition that was added has no state of its own to refuse, and the state of its keys lies elsewhere. The
        first partition speaks for all that were there before: each was claimed when the deployment first ran.
        """
        name = self._processors[place.topic].name
        own, first = (self._count(Keys.of(self._deployment, name, number)) for number in (place.partition, 0))
        if own is None and first is not None and first != log.partitions:
            raise LogChanged(claims.repartitioned(log, first))

    def _count(self, keys: Keys) -> int | None:
        count = self._patience(lambda: self._redis.execute_command("HGET", keys.meta, "partitions"))
        return None if count is None else int(count)

    def _load(self, keys: Keys, processor: Processor, held: Claim) -> tuple[State, int]:
        # A try that Redis leaves half way is followed by one into an empty state.
        state = processor.state(held.wanted)
        try:
            size = claims.load(self._redis, keys, state, self._moved)
            state.deadline()  # some states read their cells when all are there
        except ValueError as error:
            raise StateRefused(
                f"{keys.cells}: {error}. Put Redis back to a snapshot in which it was whole: the log is read again "
                "from there on"
            ) from error
        if held.wanted != held.layout:
            self._upgrade(keys, state, held)
        return state, size

    def _upgrade(self, keys: Keys, state: State, held: Claim) -> None:
        """Write all cells in the layout that ``mlmm state upgrade`` asked for: nothing of the one before is left."""
        staging = Staging(self._redis, keys, f"layout-{held.wanted}", held.token)
        staging.clear()
        staging.cells(state.cells().items())
        staging.swap(held.token, {"state_layout": held.wanted}, whole=False)
        logger.info("state upgraded", extra={"cells": keys.cells, "was": held.layout, "layout": held.wanted})

    def _moved(self) -> None:
        self.progress += 1

    def _seen(self, keys: Keys) -> Seen:
        return Seen({source: last for chunk in iter_hash(self._redis, keys.seen) for source, last in chunk})
