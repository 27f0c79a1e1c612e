"""Ends and beginnings of processes: emitters flush within their time, and begin anew in a forked child."""

import atexit
import contextlib
import logging
import os
import sys
import weakref
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import RLock

    from mlmm.producers.emitter import Emitter

__all__ = ["close_at_end_of_child", "close_at_exit"]

log = logging.getLogger("mlmm.producers")

_LONGEST = 5.0
"""Seconds that a fork waits for a queue, whose steps take microseconds."""

_held: "list[RLock]" = []
_living: "weakref.WeakSet[Emitter]" = weakref.WeakSet()


def close_at_exit(emitter: "Emitter") -> None:
    """Close it when the interpreter ends, and let it begin anew in a forked child."""
    _living.add(emitter)


def close_at_end_of_child(emitter: "Emitter") -> None:
    """Close it when a child of multiprocessing ends: it runs its own finalisers, and none of atexit's."""
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
        lost, kept = emitter.intake.dropped["closed"] + emitter.intake.events, emitter.intake.spooled
        if lost:
            log.warning("of %d events that waited at the end of the process %d were not delivered", waiting, lost)
        if kept:
            log.warning("%d events wait in %s for the next process", kept, emitter.settings.emitter.spool_dir)


def _before_fork() -> None:
    """Hold every queue still: a child must find none between two steps, since nobody is left there to go on."""
    for emitter in list(_living):
        lock = emitter.intake.lock
        if lock.acquire(timeout=_LONGEST):
            _held.append(lock)


def _after_fork() -> None:
    held = _held[:]
    _held.clear()  # first: another thread that forks may go on as soon as a lock is free
    for lock in held:
        lock.release()


def _forked() -> None:
    _after_fork()
    for emitter in list(_living):
        emitter.forked()


atexit.register(_at_exit)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forked)
