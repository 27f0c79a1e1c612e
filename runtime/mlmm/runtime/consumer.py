"""Faust's side of the harness: membership, assignment, rebalance and flow, and nothing else of it.

The private surface that is used, pinned in ``pyproject.toml`` and held by a contract test:

- Faust: ``App._new_transport``, ``App._create_directories``, ``Consumer.perform_seek``, ``Consumer._drain_messages``,
  ``Consumer._thread`` (``getmany``, ``seek_wait``, ``highwaters``, ``earliest_offsets``, ``call_thread``,
  ``_ensure_consumer``, ``thread_loop``), ``Consumer._read_offset``, ``Consumer._committed_offset``;
- Faust: ``Consumer._new_consumer_thread``, ``AIOKafkaConsumerThread._create_worker_consumer``;
- aiokafka: ``AIOKafkaConsumer._coordinator`` (``_do_heartbeat``, ``_pending_exception``, ``_coordination_task``),
  ``_client`` (``cluster``, ``force_metadata_update``) and ``_fetch_max_wait_ms``; and what
  `mlmm.runtime.harness.lenient` replaces in its fetcher.

Claiming happens in `perform_seek`: Faust resumes the flow before it calls ``on_partitions_assigned``, and whatever came
in between would be lost. Whole polls are taken in `_drain_messages`: streams and agents cost fifty times as much a
record, and acknowledge what they did not process.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import faust
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from mlmm.runtime.claims import Log
from mlmm.runtime.errors import MlmmError
from mlmm.runtime.harness import lenient
from mlmm.runtime.harness.engine import Engine
from mlmm.runtime.harness.kafka_side import Place

__all__ = ["Consumer", "HarnessApp", "Identities", "NotAMember"]

logger = logging.getLogger(__name__)

Identities = Callable[[Iterable[str]], Awaitable[Mapping[str, tuple[str, int]]]]
"""Full topic names → (Kafka's topic id or an empty text, number of partitions)."""
ADVISE_TIMEOUT = 5.0
HEARTBEAT_TRIES = 5
HEARTBEAT_PAUSE = 0.3
FETCH_WAIT_MS = 20
"""How long the broker may hold a fetch that finds nothing. aiokafka keeps one fetch a broker in flight: while it waits
for a quiet topic, a busy one that was just read to the end of its buffer waits too (1.5 s with Faust's own value)."""


class NotAMember(MlmmError):  # noqa: N818 - named like the other errors of ours
    """The coordinator does not take our heartbeats: whoever it takes for the owner may be another process."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        lenient.install()
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - see above; Faust has no setting for it
        return consumer


class Consumer(driver.Consumer):
    """Faust's consumer, with claims in Redis instead of committed offsets, and whole polls instead of streams."""

    app: "HarnessApp"

    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Claim and load every assigned partition, then seek to the offsets that Redis holds.

        Called before the flow resumes, after each rebalance. A zombie that wakes with an old assignment would fence the
        true owner, so a claim comes only after a heartbeat that the coordinator accepted.
        """
        engine = self.app.engine
        try:
            places = {Place(tp.topic, tp.partition) for tp in self.assignment()}
            if places:
                await self._heartbeat()
            await engine.claim(places, self)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason that the process ends with
            self.app.fail(error)
            await _until_cancelled()

    async def _drain_messages(self, fetcher: Any) -> None:  # noqa: ARG002 - Faust's signature
        try:
            await self.app.engine.run(self)
        except asyncio.CancelledError:
            if not self.app.engine.stopping:
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason that the process ends with
            if not (self.app.engine.stopping and isinstance(error, self.consumer_stopped_errors)):
                self.app.fail(error)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the commit in flight before anyone else may claim; then let Faust go on."""
        self.stop_flow()
        try:
            await self.app.engine.release()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason that the process ends with
            self.app.fail(error)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Drop what went elsewhere (where nothing is assigned at all, Faust does not seek), then let Faust go on."""
        await self.app.engine.keep({Place(tp.topic, tp.partition) for tp in assigned})
        await super().on_partitions_assigned(assigned, generation_id)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust looks for streams that are slow, and there are none; `Watch` looks for stalls."""

    # --- what the engine asks (`kafka_side.Input`) ----- -------------------------------------------------------------

    async def fetch(self, active: set[Place], seconds: float) -> Mapping[Any, Sequence[Any]]:
        """Whole polls; nothing while a rebalance goes on."""
        if not self.flow_active:
            await self.wait_first(self.can_resume_flow, timeout=seconds)
            if not self.flow_active:
                return {}
        polled: Mapping[Any, Sequence[Any]] = await self._thread.getmany(active, seconds)
        return polled if self.flow_active else {}

    async def seek(self, offsets: Mapping[Place, int]) -> None:
        """Seek, and tell Faust where it stands."""
        if not offsets:
            return
        await self._thread.seek_wait({TopicPartition(*place): offset for place, offset in offsets.items()})
        for place, offset in offsets.items():
            self._read_offset[TP(*place)] = self._committed_offset[TP(*place)] = offset

    async def logs(self, places: Iterable[Place]) -> dict[Place, Log]:
        """Ask Kafka."""
        wanted = [TopicPartition(*place) for place in places]
        if not wanted:
            return {}
        identities = await self.app.identities({each.topic for each in wanted})
        first = await self._thread.earliest_offsets(*wanted)
        end = await self._thread.highwaters(*wanted)
        return {
            Place(*tp): Log(
                topic=tp.topic,
                partition=tp.partition,
                topic_id=identities[tp.topic][0],
                partitions=identities[tp.topic][1],
                first=first[tp],
                end=end[tp],
            )
            for tp in wanted
        }

    async def first(self, place: Place) -> int:
        """Ask Kafka for the oldest record that is left."""
        tp = TopicPartition(*place)
        found: int = (await self._thread.earliest_offsets(tp))[tp]
        return found

    async def advise(self, offsets: Mapping[Place, int]) -> None:
        """Commit to the group: advice for lag tools, so a failure is worth a line at most."""
        advice = {TopicPartition(*place): OffsetAndMetadata(offset, "") for place, offset in offsets.items()}
        if not advice:
            return
        try:
            async with asyncio.timeout(ADVISE_TIMEOUT):
                await self._thread.call_thread(self._thread._ensure_consumer().commit, advice)  # noqa: SLF001 - see above
        except (KafkaError, TimeoutError) as error:
            logger.info("offset not advised", extra={"error": repr(error)})

    def end(self, place: Place) -> int | None:
        """End of the log as of the last fetch."""
        tp = TopicPartition(*place)
        found: int | None = self._thread.highwater(tp) if tp in self._thread.assignment() else None
        return found

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, of brokers that know no admin calls."""
        found = self._thread._ensure_consumer().partitions_for_topic(topic)  # noqa: SLF001 - see above
        if not found:
            raise MlmmError(f"{topic}: the broker tells no partitions of it")
        return len(found)

    async def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """End of each log, asked of Kafka."""
        wanted = [TopicPartition(*place) for place in places]
        found = await self._thread.highwaters(*wanted) if wanted else {}
        return {Place(*tp): end for tp, end in found.items()}

    # --- what the watch asks ---------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        coordinator = self._thread._ensure_consumer()._coordinator  # noqa: SLF001 - see above
        for _ in range(HEARTBEAT_TRIES):
            if await self._thread.call_thread(coordinator._do_heartbeat):  # noqa: SLF001 - see above
                return
            await asyncio.sleep(HEARTBEAT_PAUSE)
        raise NotAMember("the coordinator accepts no heartbeat of this worker: not claiming")

    def learn_topics(self) -> None:
        """Ask for topics that aiokafka knows no partitions of.

        A leader that lost the answer assigns nothing to anybody, and all would sit there alive and idle until it asks
        again, after five minutes; once it knows them it calls the group together.
        """
        try:
            consumer = self._thread._ensure_consumer()  # noqa: SLF001 - see above
        except faust.exceptions.ConsumerNotStarted:
            return
        client = consumer._client  # noqa: SLF001 - see above
        missing = sorted(topic for topic in consumer.subscription() if not client.cluster.partitions_for_topic(topic))
        if missing:
            logger.warning("topics without partitions, asking again", extra={"topics": missing})
            self._thread.thread_loop.call_soon_threadsafe(client.force_metadata_update)

    def group_error(self) -> BaseException | None:
        """The fatal error of the group, with which Faust would sit there alive and idle."""
        try:
            coordinator = self._thread._ensure_consumer()._coordinator  # noqa: SLF001 - see above
        except faust.exceptions.ConsumerNotStarted:
            return None
        pending: BaseException | None = coordinator._pending_exception  # noqa: SLF001 - see above
        if pending is not None:
            return pending
        task = coordinator._coordination_task  # noqa: SLF001 - see above
        if task is not None and task.done() and not task.cancelled():
            ended: BaseException | None = task.exception()
            return ended or MlmmError("the group's coordination ended")
        return None


async def _until_cancelled() -> None:
    """Let the process end from above: raising here would have Faust log its own crash and resume the flow."""
    await asyncio.Event().wait()


class _Transport(driver.Transport):
    Consumer = Consumer


class HarnessApp(faust.App):
    """A Faust app that runs an engine.

    Parameters
    ----------
    engine : Engine
        What runs.
    identities : Identities
        Asks for topic ids and partition counts.
    fail : Callable
        Called with what ends the process.
    """

    def __init__(
        self, *args: Any, engine: Engine, identities: Identities, fail: Callable[[BaseException], None], **kwargs: Any
    ) -> None:
        self.engine = engine
        self.identities = identities
        self.fail = fail
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Leave no folders: there are no tables."""


# Mode gives each class the logger of its module; these lines are Faust's, and tamed with Faust's.
HarnessApp.logger = logging.getLogger("faust.app")
Consumer.logger = logging.getLogger("faust.transport")
