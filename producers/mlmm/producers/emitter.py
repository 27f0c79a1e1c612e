"""The emitter: a bounded queue in front of a daemon thread that packs and delivers."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

from mlmm.events import Topics
from mlmm.producers import ending
from mlmm.producers.bell import Bell
from mlmm.producers.delivery import Delivery, Link
from mlmm.producers.dialling import Dialler
from mlmm.producers.intake import Intake, Stats
from mlmm.producers.link import connector
from mlmm.producers.packing import Batch, Packed
from mlmm.producers.spool import Spool, prepare
from mlmm.producers.spooling import Spooling
from mlmm.runtime.errors import Problem, SettingsError
from mlmm.runtime.settings import Settings

__all__ = ["Emitter"]

log = logging.getLogger("mlmm.producers")

_BREATH = 0.0002
"""Seconds that the thread sleeps after each record while there is room: callers that wait for the GIL get it at once,
not after the interpreter's switch interval of 5 ms."""


_SILENCE, _SPOOLED_SILENCE = 5.0, 1.0
"""Seconds without an acknowledgement that count as trouble; with a spool, after which what is in flight is written."""
_ENDING = 5.0
"""Longest seconds that closing without a limit waits for the thread once all is delivered."""


class Emitter:
    """Delivers events to Kafka without ever blocking the caller (unless ``when_full="block"``).

    One a process and settings, shared by all monitors and runs (`mlmm.producers.registry`). Nothing is connected and no
    thread runs before the first event. In a forked child it begins empty, with a connection of its own.

    Parameters
    ----------
    settings : Settings
        ``topic_prefix``, ``kafka`` and ``emitter`` are used.
    connect : Callable[[], Link], optional
        Makes the link to the broker; by default kafka-python's producer.
    """

    def __init__(self, settings: Settings, *, connect: Callable[[], Link] | None = None) -> None:
        self.settings = settings
        self._options = settings.emitter
        self._topics = Topics(settings.topic_prefix)
        self._connect = connect or connector(settings)
        if self._options.spool_dir:
            _check_spool(settings)
        self.intake = Intake(self._options.max_events, self._options.max_bytes, self._rouse)
        self._begin()
        ending.close_at_exit(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._source = f"mlmm://{socket.gethostname()}/{self._pid}"
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._refused = False
        """Whether the system gave us no thread the last time."""
        self._event = Bell()
        self._urgent = Bell()
        self._stop = False
        self._ended = False
        self._turn = 0
        self._complete = 0
        self._lost = 0
        self._away = False
        self._backlog: Iterator[Packed] = iter(())
        self._dialler = Dialler(self._connect, self._event.set) if self._options.spool_dir else None
        self._delivery = self._make_delivery()

    def _make_delivery(self) -> Delivery | Spooling:
        options = self._options
        delivery = Delivery(
            self.intake,
            self._topics,
            self._dialler or self._connect,
            self._event.set,
            max_flight=max(1, min(8 << 20, options.max_bytes // 2)),
            silence=_SILENCE if self._dialler is None else _SPOOLED_SILENCE,
        )
        if self._dialler is None:
            return delivery
        spool = Spool(options, self.settings.topic_prefix, self.intake)
        return Spooling(delivery, spool, self.intake, always=options.spool_when == "always")

    # --- for callers -----------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all events that were logged before this call are delivered.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; None waits as long as it takes.

        Returns
        -------
        bool
            False when some were not delivered: they still wait, or were dropped since the last call.
        """
        delivered = self._delivered_from_now()
        self.intake.wait(lambda: delivered() or self._refused, timeout)
        return self._without_loss(delivered())

    def _delivered_from_now(self) -> Callable[[], bool]:
        """Let all that waits go at once; return what says when it is delivered."""
        with self.intake.lock:
            wanted = self._turn + 1
            if not self.intake.events and not self.intake.spooled:
                return lambda: True
        self.hurry()
        return lambda: self._complete >= wanted

    def _without_loss(self, delivered: bool) -> bool:
        with self.intake.lock:
            lost, self._lost = self._lost, sum(self.intake.dropped.values())
            return delivered and lost == self._lost

    def hurry(self) -> None:
        """Let what was logged go at once, without waiting for others to share its record."""
        self._urgent.set()
        self._rouse()

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then end the thread and the connection. Later events are dropped and counted as ``closed``.

        Returns
        -------
        bool
            False when some events were not delivered.
        """
        deadline = None if timeout is None else monotonic() + timeout
        self.intake.close()
        delivered = self._delivered_from_now()
        self.intake.wait(lambda: delivered() or self._saved, self._to_wait(timeout))
        thread = self._end_thread()
        if thread is not None:
            thread.join(_time_to_end(deadline))
        return self._without_loss(delivered())

    @property
    def _saved(self) -> bool:
        """Whether waiting is of no use: there is no thread, or the broker is away and all lies on the disk."""
        return self._ended or self._refused or (self._away and not self.intake.events)

    def _to_wait(self, timeout: float | None) -> float | None:
        """Return how long to wait for deliveries: a quarter of the time is for writing the rest to the disk."""
        return timeout if timeout is None or self._dialler is None else 0.75 * timeout

    def _end_thread(self) -> threading.Thread | None:
        self._stop = True
        self._urgent.set()
        self._event.set()
        return None if self._thread is threading.current_thread() else self._thread

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same words as flush
        """Do what `flush` does without blocking the event loop."""
        delivered = self._delivered_from_now()
        await self.intake.wait_async(lambda: delivered() or self._refused, timeout)
        return self._without_loss(delivered())

    async def aclose(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same words as close
        """Do what `close` does without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - see Intake.wait_async

        deadline = None if timeout is None else monotonic() + timeout
        self.intake.close()
        delivered = self._delivered_from_now()
        await self.intake.wait_async(lambda: delivered() or self._saved, self._to_wait(timeout))
        thread = self._end_thread()
        if thread is not None:
            await asyncio.to_thread(thread.join, _time_to_end(deadline))
        return self._without_loss(delivered())

    def stats(self) -> Stats:
        """Counts since the process began (or was forked)."""
        return self.intake.stats()

    def forked(self) -> None:
        """Begin anew in a forked child: queue, counts, thread and connection of before are the parent's."""
        self._delivery.forget()
        if self._dialler is not None:
            self._dialler.forget()
        for stack in self.intake.dirty:
            stack.take()
        self.intake.reset()
        self._begin()

    # --- the thread ------------------------------------------------------------------------------------------------

    def _rouse(self) -> None:
        """Wake the thread; start it where there is none."""
        self.intake.asleep = False
        # Not waited for: it may be held by the call that our signal handler interrupts.
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._start()
            finally:
                self._starting.release()
        self._event.set()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="mlmm-emitter", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # at the limit of threads, or the interpreter is ending
            if not self._refused:
                log.warning("events wait: the emitter's thread can't be started: %s", error)
            self._refused = self.intake.asleep = True  # the next event tries again
            self.intake.last_error = f"{type(error).__name__}: {error}"
            return
        self._thread, self._refused = thread, False
        ending.close_at_end_of_child(self)

    def _run(self) -> None:
        while not self._stop:
            try:
                self._step()
            except Exception as error:
                # A thread that dies would let the queue fill for ever: say so and go on with the next batch.
                log.exception("the emitter's thread failed")
                self.intake.last_error = f"{type(error).__name__}: {error}"
                self._event.wait(1.0)
        if self._dialler is not None:
            self._dialler.give_up()
        self._delivery.close(0.0)
        self._give_up_rest()
        self._delivery.end()
        self._ended = True
        self.intake.notify()

    def _step(self) -> None:
        again = self._delivery.work()
        packed = next(self._backlog, None) if self._delivery.has_room else None
        if packed is not None:
            self._delivery.submit(packed, self._turn)
            self._delivery.work()
            if 2 * self.intake.events < self.intake.max_events and not self._urgent.is_set():
                sleep(_BREATH)
            return
        packing = not self._delivery.has_room
        self._note_progress(packing=packing)
        if packing:
            self._rest(again)
        elif self.intake.dirty or self._urgent.is_set():
            self._linger()
            self._take()
        else:
            self.intake.asleep = True
            if self.intake.dirty:  # came between the question and the answer
                self.intake.asleep = False
                return
            self._rest(again)

    def _take(self) -> None:
        self._urgent.clear()
        with self.intake.lock:
            batches = self.intake.take()
            self._turn += 1
        self._backlog = self._packed(batches)

    def _packed(self, batches: list[Batch]) -> Iterator[Packed]:
        options = self._options
        for batch in batches:
            yield from batch.pack(options.batch_events, options.batch_bytes, self._source)

    def _note_progress(self, *, packing: bool) -> None:
        oldest = self._delivery.oldest
        complete = (oldest if oldest is not None else self._turn + 1) - 1
        complete = min(complete, self._turn - 1) if packing else complete
        away = self._delivery.troubled
        if (complete, away) != (self._complete, self._away):
            with self.intake.lock:
                self._complete, self._away = complete, away
                self.intake.notify()

    def _rest(self, seconds: float | None) -> None:
        self._event.wait(seconds)
        self._event.clear()
        self.intake.asleep = False

    def _linger(self) -> None:
        """Let events gather, in fifths so that a queue that fills fast is not kept waiting."""
        for _ in range(5):
            if self._urgent.wait(self._options.linger / 5) or 2 * self.intake.events > self.intake.max_events:
                return

    def _give_up_rest(self) -> None:
        for packed in self._backlog:
            self._delivery.give_up(packed, self._turn)
        batches = self.intake.take()
        if self._dialler is None:
            for batch in batches:
                self.intake.settle(batch.n, batch.size, "closed")
            return
        for packed in self._packed(batches):
            self._delivery.give_up(packed, self._turn)


def _check_spool(settings: Settings) -> None:
    folder = Path(settings.emitter.spool_dir)
    try:
        prepare(folder)
    except OSError as error:
        reason = (
            f"{str(folder)!r}: events can't be kept there: {error.strerror or error}; name a folder that is writable"
        )
        raise SettingsError([Problem("emitter.spool_dir", reason, settings.origin("emitter.spool_dir"))]) from error


def _time_to_end(deadline: float | None) -> float:
    """Seconds to wait for the thread, which may sit in a call of the client library. It is a daemon: it may be left."""
    return _ENDING if deadline is None else max(0.1, deadline - monotonic())
