"""The emitter: a bounded queue in front of a daemon thread that packs and delivers."""

import atexit
import contextlib
import logging
import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import TYPE_CHECKING

from mlmm.events import Topics
from mlmm.producers.delivery import Delivery, Link
from mlmm.producers.intake import Intake, Stats
from mlmm.producers.link import connector
from mlmm.runtime.settings import Settings

if TYPE_CHECKING:
    from mlmm.producers.packing import Packed

__all__ = ["Emitter"]

log = logging.getLogger("mlmm.producers")

_BREATH = 0.0002
"""Seconds that the thread sleeps after each record while there is room: callers that wait for the GIL get it at once,
not after the interpreter's switch interval of 5 ms."""


_ENDING = 5.0
"""Longest seconds that closing without a limit waits for the thread once all is delivered."""

_living: "weakref.WeakSet[Emitter]" = weakref.WeakSet()


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
        self.intake = Intake(self._options.max_events, self._options.max_bytes, self._rouse)
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._source = f"mlmm://{socket.gethostname()}/{self._pid}"
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._event = threading.Event()
        self._urgent = threading.Event()
        self._stop = False
        self._turn = 0
        self._complete = 0
        self._lost = 0
        self._backlog: Iterator[Packed] = iter(())
        self._delivery = Delivery(
            self.intake,
            self._topics,
            self._connect,
            self._event.set,
            max_flight=max(1, min(8 << 20, self._options.max_bytes // 2)),
        )

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
        return self._without_loss(self.intake.wait(delivered, timeout))

    def _delivered_from_now(self) -> Callable[[], bool]:
        """Let all that waits go at once; return what says when it is delivered."""
        with self.intake.lock:
            wanted = self._turn + 1
            if not self.intake.events:
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
        delivered = self.flush(timeout)
        thread = self._end_thread()
        if thread is not None:
            thread.join(_time_to_end(deadline))
        return delivered

    def _end_thread(self) -> threading.Thread | None:
        self._stop = True
        self._urgent.set()
        self._event.set()
        return None if self._thread is threading.current_thread() else self._thread

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same words as flush
        """Do what `flush` does without blocking the event loop."""
        return self._without_loss(await self.intake.wait_async(self._delivered_from_now(), timeout))

    async def aclose(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same words as close
        """Do what `close` does without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - see Intake.wait_async

        deadline = None if timeout is None else monotonic() + timeout
        self.intake.close()
        delivered = await self.aflush(timeout)
        thread = self._end_thread()
        if thread is not None:
            await asyncio.to_thread(thread.join, _time_to_end(deadline))
        return delivered

    def stats(self) -> Stats:
        """Counts since the process began (or was forked)."""
        return self.intake.stats()

    def forked(self) -> None:
        """Begin anew in a forked child: queue, counts, thread and connection of before are the parent's."""
        self._delivery.forget()
        for stack in self.intake.dirty:
            stack.take()
        self.intake.reset()
        self._begin()

    # --- the thread ------------------------------------------------------------------------------------------------

    def _rouse(self) -> None:
        """Wake the thread; start it where there is none."""
        self.intake.asleep = False
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="mlmm-emitter", daemon=True)
                    thread.start()
                    self._thread = thread
                    _deliver_at_end_of(self)
        self._event.set()

    def _run(self) -> None:
        while not self._stop:
            try:
                self._step()
            except Exception as error:
                # A thread that dies would let the queue fill for ever: say so and go on with the next batch.
                log.exception("the emitter's thread failed")
                self.intake.last_error = f"{type(error).__name__}: {error}"
                self._event.wait(1.0)
        self._delivery.close(0.0)
        self._drop_rest()

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
        options = self._options
        self._backlog = (
            packed
            for batch in batches
            for packed in batch.pack(options.batch_events, options.batch_bytes, self._source)
        )

    def _note_progress(self, *, packing: bool) -> None:
        oldest = self._delivery.oldest
        complete = (oldest if oldest is not None else self._turn + 1) - 1
        complete = min(complete, self._turn - 1) if packing else complete
        if complete != self._complete:
            with self.intake.lock:
                self._complete = complete
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

    def _drop_rest(self) -> None:
        for packed in self._backlog:
            self.intake.settle(packed.n, packed.size, "closed")
        for batch in self.intake.take():
            self.intake.settle(batch.n, batch.size, "closed")


def _time_to_end(deadline: float | None) -> float:
    """Seconds to wait for the thread, which may sit in a call of the client library. It is a daemon: it may be left."""
    return _ENDING if deadline is None else max(0.1, deadline - monotonic())


def _deliver_at_end_of(emitter: Emitter) -> None:
    """Flush when a child of multiprocessing ends: it runs its own finalisers, and none of atexit's."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None or multiprocessing.parent_process() is None:
        return
    from multiprocessing.util import Finalize  # noqa: PLC0415 - is loaded already, here alone

    with contextlib.suppress(Exception):
        Finalize(None, emitter.close, (emitter.settings.emitter.exit_timeout,), exitpriority=100)


def _at_exit() -> None:
    """Deliver what is queued: all emitters together within the longest of their times."""
    started = monotonic()
    for emitter in list(_living):
        if emitter.intake.closed:
            continue
        waiting = emitter.intake.events
        emitter.close(max(0.0, emitter.settings.emitter.exit_timeout - (monotonic() - started)))
        lost = emitter.intake.dropped["closed"] + emitter.intake.events
        if lost:
            log.warning("of %d events that waited at the end of the process %d were not delivered", waiting, lost)


def _forked() -> None:
    for emitter in list(_living):
        emitter.forked()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forked)
