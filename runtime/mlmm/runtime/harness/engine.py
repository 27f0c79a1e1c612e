"""The engine: claims partitions, folds whole polls, commits each in one step, and knows no Faust.

Order of one poll, and what a death between two steps leaves behind:

1. fetch, fold in memory                 nothing: the next owner reads the records again
2. commit {cells, offset, outputs}       all of it or nothing of it
3. send the outputs to Kafka             they stand in the outbox; the next owner sends them again, same ``sequence``
4. pop them from the outbox              sent twice: consumers drop what is not higher
5. tell Kafka the offset                 nothing: it is advice for lag tools
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from mlmm.runtime import outbox
from mlmm.runtime.commits import Commit, commit
from mlmm.runtime.errors import LogChanged
from mlmm.runtime.harness.claimer import Claimer
from mlmm.runtime.harness.drainer import Drainer
from mlmm.runtime.harness.kafka_side import Input, Place
from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.harness.sender import Sender
from mlmm.runtime.harness.ticker import Ticker
from mlmm.runtime.metrics import Metrics
from mlmm.runtime.processor import Processor
from mlmm.runtime.store import RedisLike

__all__ = ["Engine", "Limits"]

logger = logging.getLogger(__name__)

FETCH_SECONDS = 0.5
ADVISE_EVERY = 5.0
SMALL_POLL = 50
"""A poll of fewer records waits a moment for company: a commit costs the same for one record and for many."""
LINGER = 0.004
LOWER_LIMIT = 3
OUTBOX_BYTES = 32 << 20
"""Bytes of outputs a partition that are not sent yet, beyond which its input pauses: dead letters may be large."""
RELEASE_SECONDS = 5.0


class Limits(NamedTuple):
    """Bounds from the settings, in seconds and outputs."""

    tick_interval: float
    outbox_limit: int
    stall_after: float


class Engine:
    """Runs processors on the partitions that it is given.

    Parameters
    ----------
    processors : Mapping
        Full name of each input topic → its processor.
    deployment : str
        First part of keys and of ``ce_source``.
    redis : RedisLike
        The store.
    patience : Patience
        Tries calls to it again.
    sender : Sender
        Takes outputs and ticks.
    metrics : Metrics
        Where it counts.
    limits : Limits
        From the settings.
    sign : Signer or None
        Signs outputs that ask for it.
    kafka : str
        Where Kafka is, for errors.
    fail : Callable
        Called with what ends the process.
    """

    def __init__(
        self,
        processors: Mapping[str, Processor],
        *,
        deployment: str,
        redis: RedisLike,
        patience: Patience,
        sender: Sender,
        metrics: Metrics,
        limits: Limits,
        sign: outbox.Signer | None,
        kafka: str,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.partitions: dict[Place, Partition] = {}
        """Claimed, and no others."""
        self.metrics = metrics
        self.stopping = False
        self._redis, self._patience, self._sender, self._limits, self._fail = redis, patience, sender, limits, fail
        # A thread for each thing that takes its time, so that Kafka's heartbeats (in a thread of Faust's), a poll being
        # folded, a large commit and the outbox do not wait for one another.
        self._commits, self._cpu, self._pops = (
            ThreadPoolExecutor(1, thread_name_prefix=f"mlmm-{name}") for name in ("commit", "process", "outbox")
        )
        self._room = asyncio.Event()
        self._claimer = Claimer(processors, deployment=deployment, redis=redis, patience=patience, metrics=metrics)
        self._ticker = Ticker(self.partitions, sender, limits.tick_interval)
        self._drainer = Drainer(
            self.partitions,
            sender,
            redis=redis,
            patience=patience,
            executor=self._pops,
            sign=sign,
            give_up_after=limits.stall_after,
            address=kafka,
            on_room=self._room.set,
        )
        self._work, self._claims = asyncio.Lock(), asyncio.Lock()
        self._commit: asyncio.Task[None] | None = None
        self._advised = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start draining and ticking."""
        for work in (self._drainer.run(), self._ticker.run()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._done)
            self._tasks.append(task)

    async def stop(self, seconds: float) -> None:
        """Take no more input, finish the commit in flight and drain, within so many seconds."""
        self.stopping = True
        self._room.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._work:
                await self._settle()
                await self._drainer.empty(list(self.partitions.values()))

    async def close(self) -> None:
        """End the threads and the producer."""
        self.stopping = True
        self._patience.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()
        for executor in (self._commits, self._cpu, self._pops):
            executor.shutdown(wait=False, cancel_futures=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    @property
    def progress(self) -> int:
        """Rises while claims get on."""
        return self._claimer.progress + self._drainer.waves

    # --- claiming ------------------------------------------------------------------------------------------------

    @property
    def claiming(self) -> bool:
        """Whether a claim goes on; what it waits for has bounds of its own."""
        return self._claims.locked()

    async def claim(self, places: set[Place], consumer: Input) -> None:
        """Claim and load every assigned partition, drain its outbox, and seek to the offset that Redis holds.

        A partition that is still ours keeps its state. Raises `LogChanged` where the log is not the one that its state
        was made from.
        """
        loop = asyncio.get_running_loop()
        async with self._work, self._claims:
            await self._settle()
            await self._drop(set(self.partitions) - places)
            logs = await consumer.logs(places)
            for place in sorted(places):
                partition = self.partitions.get(place)
                if partition:
                    partition.held = await loop.run_in_executor(self._commits, self._claimer.still_held, partition)
                    if partition.held:
                        await loop.run_in_executor(self._commits, self._claimer.check, partition, logs[place])
                        continue
                    await self._drop({place})
                claimed = await loop.run_in_executor(self._commits, self._claimer.claim, place, logs[place])
                if logs[place].first > claimed.offset:
                    change = self._lose(place, claimed, logs[place].first)
                    await loop.run_in_executor(self._commits, self._commit_one, claimed, change)
                    claimed.committed_to(change, 0.0)
                self.partitions[place] = claimed
            await self._drainer.empty(list(self.partitions.values()))
            await consumer.seek({place: partition.offset for place, partition in self.partitions.items()})
        self._room.set()

    async def release(self) -> None:
        """Finish the commit and the wave in flight, before partitions may go elsewhere; nothing more until `claim`."""
        async with self._work:
            await self._settle()
            with suppress(TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS), self._drainer.lock:
                    pass
            for partition in self.partitions.values():
                partition.held = False

    async def keep(self, places: set[Place]) -> None:
        """Drop what is no longer assigned."""
        async with self._work:
            await self._drop(set(self.partitions) - places)

    async def _drop(self, places: set[Place]) -> None:
        async with self._drainer.lock:
            for place in places & set(self.partitions):
                partition = self.partitions.pop(place)
                self.metrics.drop(partition.processor.name, partition.number)
                logger.info("partition dropped", extra=place._asdict())

    # --- polls ---------------------------------------------------------------------------------------------------

    async def run(self, consumer: Input) -> None:
        """Fetch, fold and commit until stopped; an exception ends the process."""
        while not self.stopping:
            active = self._active()
            if not active:
                self._room.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._room.wait(), FETCH_SECONDS)
                continue
            fetched = await consumer.fetch(active, FETCH_SECONDS)
            if self.stopping:
                return
            if fetched:
                async with self._work:
                    await self._poll(fetched, consumer)
                if sum(map(len, fetched.values())) < SMALL_POLL:
                    await asyncio.sleep(LINGER)
            await self._advise(consumer)

    def _active(self) -> set[Place]:
        """Partitions whose outbox has room: what was decided is never dropped, so a full one holds its input back."""
        active = set()
        for place, partition in self.partitions.items():
            full = len(partition.pending) >= self._limits.outbox_limit or partition.pending_bytes >= OUTBOX_BYTES
            partition.metrics.paused = full
            if partition.held and not partition.metrics.paused:
                active.add(place)
        return active

    async def _poll(self, fetched: Mapping[Any, Sequence[Any]], consumer: Input) -> None:
        changes: list[tuple[Partition, Commit]] = []
        seeks: dict[Place, int] = {}
        for where, records in fetched.items():
            place = Place(where.topic, where.partition)
            partition = self.partitions.get(place)
            if partition is None or not partition.held:  # no record is accepted for a partition that is not claimed
                continue
            made, seek = await self._take(place, partition, records, consumer)
            changes += [(partition, change) for change in made]
            if seek:
                seeks[place] = partition.offset
        if seeks:
            await consumer.seek(seeks)
        if changes:
            await self._settle()
            self._commit = asyncio.create_task(self._commit_all(changes))
            self._commit.add_done_callback(self._done)

    async def _take(
        self, place: Place, partition: Partition, records: Sequence[Any], consumer: Input
    ) -> tuple[list[Commit], bool]:
        """Fold what the gap rule accepts; say what is to be committed, and whether to fetch once more."""
        changes: list[Commit] = []
        accepted = partition.gaps.accept(records, partition.offset)
        partition.lower = partition.lower + 1 if accepted.lower else 0
        if accepted.lower:
            await self._look_again(place, partition, consumer)
        if accepted.gap:
            logger.warning(
                "gap in the log", extra={**place._asdict(), "offset": partition.offset, "missing": accepted.gap}
            )
            # Holes that transactions and compaction leave are no loss: only what lies before the log's first record is.
            until = min(await consumer.first(place), accepted.fetched[0].offset)
            if until > partition.offset:
                changes.append(self._lose(place, partition, until))
        if accepted.fetched:
            if partition.placement.strangers(accepted.fetched):
                await self._same_log(place, partition, consumer)
            loop = asyncio.get_running_loop()
            changes.append(await loop.run_in_executor(self._cpu, partition.fold, accepted.fetched, accepted.gap))
            self.metrics.counters[partition.processor.name, partition.number] = partition.counters
        partition.metrics.lag = max(0, (consumer.end(place) or 0) - partition.offset)
        return changes, accepted.seek

    @staticmethod
    def _lose(place: Place, partition: Partition, until: int) -> Commit:
        extra = {**place._asdict(), "offset": partition.offset, "until": until, "lost": until - partition.offset}
        logger.error("records deleted before they were read", extra=extra)
        return partition.lose(until)

    async def _same_log(self, place: Place, partition: Partition, consumer: Input) -> None:
        """Raise `LogChanged` where the topic was made anew, cut short, or given more partitions."""
        log = (await consumer.logs([place]))[place]
        await asyncio.get_running_loop().run_in_executor(self._commits, self._claimer.check, partition, log)

    async def _look_again(self, place: Place, partition: Partition, consumer: Input) -> None:
        await self._same_log(place, partition, consumer)
        if partition.lower >= LOWER_LIMIT:
            raise LogChanged(
                f"{place.topic}[{place.partition}]: the log gives records from before offset {partition.offset}, again "
                f"and again: run `mlmm topics adopt {place.topic}` to go on with the log as it is now"
            )

    async def _settle(self) -> None:
        """Wait for the commit in flight; while Redis commits a poll the next one may be folded, never two."""
        task, self._commit = self._commit, None
        if task:
            await task

    async def _commit_all(self, changes: list[tuple[Partition, Commit]]) -> None:
        loop = asyncio.get_running_loop()
        for partition, change in changes:
            begun = time.perf_counter()
            await loop.run_in_executor(self._commits, self._commit_one, partition, change)
            partition.committed_to(change, time.perf_counter() - begun)
        self._drainer.wake()

    def _commit_one(self, partition: Partition, change: Commit) -> bool:
        return self._patience(lambda: commit(self._redis, partition.keys, partition.claim, change))

    async def _advise(self, consumer: Input) -> None:
        now = time.monotonic()
        if now - self._advised > ADVISE_EVERY:
            self._advised = now
            await consumer.advise({place: partition.committed for place, partition in self.partitions.items()})
