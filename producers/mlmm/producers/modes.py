"""Where events go: to Kafka, into memory (tests), or nowhere."""

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Literal, get_args

from mlmm.events import Event, Topics
from mlmm.producers.emitter import Emitter
from mlmm.producers.intake import Intake
from mlmm.producers.reader import CommandReader, Received
from mlmm.producers.registry import emitter_for
from mlmm.runtime.errors import Problem, SettingsError
from mlmm.runtime.settings import EmitterSettings, Settings, load

__all__ = ["Mode", "Outlet", "outlet_for"]

log = logging.getLogger("mlmm.producers")

Mode = Literal["kafka", "memory", "off"]
SECTIONS = ("kafka", "emitter", "alerting")
"""What a producer reads; ``alerting`` for the keys that commands are signed with."""

_warned = False
_warned_unsigned = False


class Outlet:
    """Nowhere: the twin of the others for ``mode="off"``.

    Parameters
    ----------
    settings : Settings
    """

    off = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.intake = Intake(settings.emitter.max_events, settings.emitter.max_bytes, _nothing)
        self.when_full = settings.emitter.when_full

    def flush(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Say that nothing waits."""
        return True

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ARG002, ASYNC109 - see flush
        """Say that nothing waits."""
        return True

    def hurry(self) -> None:
        """Let nothing linger."""

    def read_commands(self, received: Received) -> CommandReader | None:  # noqa: ARG002 - there are none to receive
        """Return what hands commands to ``received`` from now on; None where there are none."""
        return None

    def events(self) -> list[Event]:
        """Return nothing."""
        return []


class KafkaOutlet(Outlet):
    """To Kafka, by the emitter that all with these settings share."""

    off = False

    def __init__(self, settings: Settings, emitter: Emitter | None = None) -> None:
        self.emitter = emitter or emitter_for(settings)
        self.settings = settings
        self.intake = self.emitter.intake
        self.when_full = settings.emitter.when_full

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was logged is delivered."""
        return self.emitter.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - see flush
        """Do what `flush` does without blocking the event loop."""
        return await self.emitter.aflush(timeout)

    def hurry(self) -> None:
        """Let what was logged go at once."""
        self.emitter.hurry()

    def read_commands(self, received: Received) -> CommandReader | None:
        """Return the reader that hands commands to ``received`` from now on."""
        _warn_of_keys(self.settings)
        reader = CommandReader(self.settings, received)
        reader.start()
        return reader


class MemoryOutlet(Outlet):
    """Into memory, by the same packing as to Kafka: what a test sees is what a reader of the topics would."""

    off = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.intake = _MemoryIntake(settings.emitter.max_events, settings.emitter.max_bytes, self._read_all)
        self.intake.asleep = False
        self._read: list[Event] = []

    def events(self) -> list[Event]:
        """Return all events so far."""
        self._read_all()
        return list(self._read)

    def _read_all(self) -> None:
        from mlmm.events import decode_events, header  # noqa: PLC0415 - reading is for tests

        options = self.settings.emitter
        for batch in self.intake.take():
            for packed in batch.pack(options.batch_events, options.batch_bytes, "mlmm://memory"):
                if packed.refused is not None:
                    self.intake.last_error = packed.reason
                    self.intake.settle(packed.n, packed.size, packed.refused)
                    log.error("event dropped (%s): %s", packed.refused, packed.reason)
                    continue
                type_, content = (header(packed.headers, name) or b"" for name in ("ce_type", "content-type"))
                self._read += decode_events(type_.decode(), content.decode(), packed.value)
                self.intake.settle(packed.n, packed.size, None)


class _MemoryIntake(Intake):
    """Has nobody who makes room by and by: who wants to wait for it makes it."""

    def wait_for_room(self, n: int, size: int) -> bool:
        with self.lock:
            self.wake()
            return super().wait_for_room(n, size)


def _warn_of_keys(settings: Settings) -> None:
    """Say once a process what a trainer without a key that holds is open to."""
    global _warned_unsigned  # noqa: PLW0603 - one warning a process
    alerting = settings.alerting
    keys, until = alerting.verification_keys, alerting.accepted_until
    if _warned_unsigned or any(until.get(name, math.inf) > time.time() * 1e6 for name in keys):
        return
    _warned_unsigned = True
    if keys:
        log.warning("every one of [[alerting.keys]] is past its accepted_until: no stop command will be obeyed")
    else:
        log.warning(
            "stop commands are obeyed unsigned: whoever may write to %s can stop this run; set [[alerting.keys]] "
            "here and at the alerting worker (docs/commands.md)",
            Topics(settings.topic_prefix).commands,
        )


def _nothing() -> None:
    """Nobody sleeps here."""


def _chosen(mode: str | None) -> str | None:
    chosen = mode or os.environ.get("MLMM_MODE") or None
    if chosen is not None and chosen not in get_args(Mode):
        where = "argument" if mode else "MLMM_MODE"
        raise SettingsError([Problem("mode", f"{chosen!r}: expected one of {', '.join(get_args(Mode))}", where)])
    return chosen


def outlet_for(
    mode: Mode | None, settings: Settings | None, *, make: Callable[[Settings], Outlet] = KafkaOutlet
) -> Outlet:
    """Return where events go by argument, ``$MLMM_MODE`` and settings, in that order."""
    global _warned  # noqa: PLW0603 - one warning a process
    chosen = _chosen(mode)
    if chosen == "off":
        return Outlet(settings or Settings(emitter=EmitterSettings()))
    if chosen == "memory":
        return MemoryOutlet(settings or Settings(emitter=EmitterSettings()))
    settings = settings or load(sections=SECTIONS)
    if settings.kafka.servers:
        return make(settings)
    if chosen == "kafka":
        settings.require_kafka()
    if not _warned:
        _warned = True
        log.warning(
            "no broker is configured, so nothing is monitored: set bootstrap_servers in [kafka] of mlmm.toml, or "
            "MLMM_KAFKA__BOOTSTRAP_SERVERS; MLMM_MODE=off silences this"
        )
    return Outlet(settings)
