"""One worker process: builds engine and Faust app, watches over them, and ends with a reason."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from mlmm.events.signing import sign
from mlmm.events.topics import Topics
from mlmm.runtime.errors import (
    Fenced,
    LogChanged,
    MissingExtra,
    ServiceUnavailable,
    SettingsError,
    StateRefused,
)
from mlmm.runtime.extras import require
from mlmm.runtime.harness.slots import Slot, Superseded
from mlmm.runtime.harness.watch import Watch
from mlmm.runtime.metrics import Metrics
from mlmm.runtime.outbox import Signer
from mlmm.runtime.processor import Processor
from mlmm.runtime.store import refuse_eviction

if TYPE_CHECKING:
    from mlmm.runtime.harness.engine import Engine
    from mlmm.runtime.settings import Settings

__all__ = ["Exit", "run_worker"]

logger = logging.getLogger(__name__)

DRAIN_SHARE, CLOSE_SHARE = 0.5, 0.3
"""Of the time that a worker has to end."""
NOT_ALLOWED = 29
"""Kafka's code for a topic that a logon may not see."""
GARBAGE_THRESHOLD = 500_000
"""Objects between two looks of the garbage collector. A poll makes hundreds of thousands of tuples, none in a cycle;
with Python's 700 the collector walks them again and again, for a third of all time with one event a record."""


class Exit(IntEnum):
    """Exit codes of a worker process; a supervisor starts it anew after those that time may heal."""

    FINE = 0
    """Asked to end, and drained."""
    FAILED = 1
    """Something unexpected, or fenced: start anew."""
    SETTINGS = 2
    """Settings or a missing extra: starting anew is of no use."""
    UNAVAILABLE = 3
    """Kafka or Redis stayed away: start anew."""
    SUPERSEDED = 4
    """A newer process runs under this slot's name: starting anew would make the two fight for ever."""
    LOG_CHANGED = 5
    """The input is no longer the log that the state was made from: a person must decide."""
    STATE_REFUSED = 6
    """The state is of a layout that this version does not read, or damaged: a person must decide."""


_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (Superseded, Exit.SUPERSEDED),
    (LogChanged, Exit.LOG_CHANGED),
    (StateRefused, Exit.STATE_REFUSED),
    (SettingsError, Exit.SETTINGS),
    (MissingExtra, Exit.SETTINGS),
    (ServiceUnavailable, Exit.UNAVAILABLE),
)


def run_worker(settings: "Settings", processors: Sequence[Processor], *, group: str, slot: str) -> int:
    """Run processors in this process until it is asked to end, or can't go on.

    Parameters
    ----------
    settings : Settings
        Sections ``kafka``, ``redis``, ``worker`` and ``alerting`` (signing keys).
    processors : sequence of Processor
        Their input topics have equal numbers of partitions: partition *n* of all of them is read by one process.
    group : str
        Name of the consumer group, without the deployment.
    slot : str
        Name of this process among the workers of the group, the same one each time it is started.

    Returns
    -------
    int
        An `Exit`.
    """
    for name in ("faust", "mode", "aiokafka", "kafka"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
    try:
        for module in ("faust", "aiokafka", "redis"):
            require(module, extra="processors", purpose="A worker")
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
        return int(asyncio.run(_Worker(settings, processors, group, slot).run()))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is logged as the reason
        return int(_code(error))


def _code(error: BaseException) -> Exit:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)
    extra = {"reason": str(error) or repr(error), "error": error.__class__.__name__, "exit_code": int(code)}
    expected = code is not Exit.FAILED or isinstance(error, Fenced)
    logger.error("worker ends", extra=extra, exc_info=None if expected else error)
    return code


class _Worker:
    def __init__(self, settings: "Settings", processors: Sequence[Processor], group: str, slot: str) -> None:
        self.settings, self.processors, self.slot = settings, processors, slot
        self.group = f"{settings.deployment}.{group}"
        self.topics = Topics(settings.topic_prefix)
        self.inputs = {self.topics.full(processor.input): processor for processor in processors}
        if len(self.inputs) != len(processors):
            raise SettingsError("two processors with one input in one worker: give them groups of their own")
        self.engine: Engine | None = None
        self.embedded = bool(settings.kafka.api_version)
        """The embedded broker knows no topic ids and no admin calls."""

    async def run(self) -> Exit:
        from mlmm.runtime.connections import redis_client  # noqa: PLC0415 - workers only
        from mlmm.runtime.harness.engine import Engine, Limits  # noqa: PLC0415 - workers only
        from mlmm.runtime.harness.patience import Patience  # noqa: PLC0415 - workers only
        from mlmm.runtime.harness.sender import Sender  # noqa: PLC0415 - workers only

        settings = self.settings
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[BaseException | None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread: tests
                loop.add_signal_handler(number, self.fail, None)

        metrics = Metrics()

        def retried(error: Exception) -> None:
            metrics.redis_retries += 1
            cause = str(error) or type(error).__name__  # redis-py's own repr leaves out what the server said
            logger.warning("redis away, trying again", extra={"address": settings.redis.url, "error": cause})

        redis = redis_client(settings)
        patience = Patience(settings.redis.give_up_after, settings.redis.url, retried)
        await asyncio.to_thread(patience, lambda: refuse_eviction(redis))
        slot = Slot(settings.deployment, self.group, self.slot)
        await asyncio.to_thread(patience, lambda: slot.take(redis))
        if not self.embedded:
            _same_counts(await self._identities(self.inputs))

        engine = self.engine = Engine(
            self.inputs,
            deployment=settings.deployment,
            redis=redis,
            patience=patience,
            sender=Sender(settings.kafka.client_options("aiokafka"), self.topics.full, settings.worker.stall_after),
            metrics=metrics,
            limits=Limits(settings.worker.tick_interval, settings.worker.outbox_limit, settings.worker.stall_after),
            sign=signer(settings),
            kafka=settings.kafka.bootstrap_servers,
            fail=self.fail,
        )
        app = self._app(engine)
        watch = Watch(
            app,
            engine,
            slot,
            redis,
            stall_after=settings.worker.stall_after,
            kafka=settings.kafka.bootstrap_servers,
            fail=self.fail,
        )
        logger.info(
            "worker starts",
            extra={"group": self.group, "slot": self.slot, "epoch": slot.epoch, "inputs": sorted(self.inputs)},
        )
        engine.start()
        starting = asyncio.create_task(app.start())
        starting.add_done_callback(self._started)
        watching = asyncio.create_task(watch.run())
        error = await self.ended
        code = _code(error) if error else Exit.FINE
        self._die_if_stuck(code, settings.worker.stop_timeout)
        if not error:
            code = await self._drain(engine, app)
        watching.cancel()
        watch.report(time.monotonic())
        await engine.close()
        with contextlib.suppress(Exception):  # its end is the process's: nothing is left to be saved
            async with asyncio.timeout(settings.worker.stop_timeout * CLOSE_SHARE):
                starting.cancel()
                await app.stop()
        logger.info("worker ended", extra={"exit_code": int(code)})
        return code

    async def _drain(self, engine: "Engine", app: Any) -> Exit:
        """Finish what is in flight; what can't be finished in time stays in Redis and in the log."""
        logger.info("worker drains")
        try:
            await engine.stop(self.settings.worker.stop_timeout * DRAIN_SHARE)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged as the reason
            return _code(error)
        if not self.embedded:
            await app.consumer.advise({place: partition.committed for place, partition in engine.partitions.items()})
        return Exit.FINE

    def fail(self, error: BaseException | None) -> None:
        """End the process, with the first reason that was given; None where it was asked to end."""
        if not self.ended.done():
            self.ended.set_result(error)
            if error and self.engine:
                self.engine.stopping = True

    def _started(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)

    @staticmethod
    def _die_if_stuck(code: Exit, seconds: float) -> None:
        """Faust joins threads when it ends, and one that hangs must not keep a worker alive that owns nothing."""

        def die() -> None:
            logger.warning("worker killed itself: it did not end in time")
            os._exit(int(code))

        timer = threading.Timer(seconds, die)
        timer.daemon = True
        timer.start()

    async def _identities(self, topics: Iterable[str]) -> Mapping[str, tuple[str, int]]:
        if self.embedded:
            return {topic: ("", self.app.consumer.partitions(topic)) for topic in topics}
        return await asyncio.to_thread(describe, self.settings, list(topics))

    def _app(self, engine: Any) -> Any:
        from mlmm.runtime.consumer import HarnessApp  # noqa: PLC0415 - Faust takes a second to import
        from mlmm.runtime.harness.faust_settings import faust_settings  # noqa: PLC0415 - see above

        options = faust_settings(self.settings, group=self.group, slot=self.slot, host=socket.gethostname())
        self.app = HarnessApp(engine=engine, identities=self._identities, fail=self.fail, **options)
        for topic in self.inputs:
            self.app.topics.add(self.app.topic(topic))
        return self.app


def describe(settings: "Settings", topics: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Ask Kafka for topic ids and partition counts; raises `ServiceUnavailable` where a topic is missing."""
    from mlmm.runtime.connections import kafka_admin, kafka_errors  # noqa: PLC0415 - workers only

    admin = kafka_admin(settings)
    try:
        with kafka_errors(settings.kafka):
            described = {topic["name"]: topic for topic in admin.describe_topics(topics)}
    finally:
        admin.close()
    found = {name: topic for name, topic in described.items() if not topic["error_code"]}
    missing = sorted(set(topics) - set(found))
    if missing:
        refused = any(described.get(name, {}).get("error_code") == NOT_ALLOWED for name in missing)
        cause = f"{'may not be seen by this logon' if refused else 'there is no topic'}: {', '.join(missing)}"
        remedy = "Give it the rights of its role (docs/security.md)" if refused else "Run `mlmm topics create`"
        raise ServiceUnavailable("Kafka", settings.kafka.bootstrap_servers, cause, remedy=remedy)
    return {name: (str(topic.get("topic_id") or ""), len(topic["partitions"])) for name, topic in found.items()}


def _same_counts(identities: Mapping[str, tuple[str, int]]) -> None:
    if len({count for _, count in identities.values()}) > 1:
        counts = ", ".join(f"{topic} has {count}" for topic, (_, count) in sorted(identities.items()))
        raise SettingsError(f"the inputs of one worker need equal numbers of partitions: {counts}")


def signer(settings: "Settings") -> Signer | None:
    """Sign with the active key of ``[alerting.keys]``; None where there is none."""
    key = settings.alerting.signing_key
    if key is None:
        return None
    name, secret = key.id, key.secret.reveal().encode()

    def signed(record_key: bytes, type_: str, id_: str, value: bytes) -> bytes:
        return sign(name, secret, record_key, type_, id_, value)

    return signed
