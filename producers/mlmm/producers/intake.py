"""What every event passes on its way in: one lock, the bounds in events and bytes, and the counts."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import msgspec

from mlmm.producers.packing import Batch

__all__ = ["Intake", "Stack", "Stats"]


class Stack(Protocol):
    """Events of one kind that wait to be packed: columns from the moment of the call."""

    rank: int
    """Place among the stacks that are taken together: champions before their shadows, predictions before labels."""

    def take(self) -> Batch | None:
        """Hand over what was collected and begin anew. Called under the intake's lock."""


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of events. At any moment ``accepted == sent + sum(dropped.values()) + queued_events + spooled``."""

    accepted: int
    """Events of valid calls, those included that were dropped because the queue was full."""
    sent: int
    """Events that the broker acknowledged."""
    dropped: dict[str, int]
    """Cause → events: ``queue_full``, ``no_topic``, ``too_large``, ``invalid``, ``closed``, ``damaged``."""
    refused: int
    """Calls with a wrong argument; they are not among ``accepted``."""
    queued_events: int
    """Events that wait or are in flight."""
    queued_bytes: int
    """What they take, as estimated by the queue."""
    spooled: int
    """Events that lie on the disk and were not acknowledged; those in flight included."""
    inherited: int
    """Events of processes that ended before which the broker acknowledged; they are not among ``accepted``."""
    damaged: int
    """Places in the spool that could not be read."""
    records: int
    """Records that the broker acknowledged."""
    reconnects: int
    """Times that the producer was built anew after a failure."""
    last_error: str | None
    """The newest problem with the broker or an event."""


class Intake:
    """Bounds and counts of one emitter.

    Stacks write to it under `lock` (reentrant: a signal handler or a finaliser may log while its own thread holds it).

    Parameters
    ----------
    max_events, max_bytes : int
        What may wait, in flight included.
    wake : Callable[[], None]
        Called when an event arrives while `asleep`.
    """

    def __init__(self, max_events: int, max_bytes: int, wake: Callable[[], None]) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.wake = wake
        self.reset()

    def reset(self) -> None:
        """Begin with nothing: in a new process the queue of its parent is the parent's to deliver."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._waiters = 0
        self._watchers: list[Callable[[], None]] = []
        self.closed = False
        self.asleep = True
        self.dirty: list[Stack] = []
        self.events = 0
        self.bytes = 0
        self.accepted = 0
        self.sent = 0
        self.spooled = 0
        self.inherited = 0
        self.damaged = 0
        self.records = 0
        self.reconnects = 0
        self.refused = 0
        self.dropped: Counter[str] = Counter()
        self.last_error: str | None = None

    def has_room(self, n: int, size: int) -> bool:
        """Whether ``n`` events of together ``size`` bytes may wait."""
        return self.events + n <= self.max_events and self.bytes + size <= self.max_bytes

    def ever_fits(self, n: int, size: int) -> bool:
        """Whether they could wait in an empty queue."""
        return n <= self.max_events and size <= self.max_bytes

    def take_in(self, n: int, size: int) -> None:
        """Count ``n`` events that a stack is about to hold.

        Call under the lock, with room; let the stack hold them and then, unless it waits already, put it into `dirty`:
        in this order, since a signal handler between two steps may flush. Wake afterwards.
        """
        self.accepted += n
        self.events += n
        self.bytes += size

    def turn_away(self, n: int, cause: str) -> None:
        """Count valid events that don't get in."""
        with self.lock:
            self.accepted += n
            self.dropped[cause] += n

    def turned(self, again: Callable[[], bool], n: int, size: int, *, block: bool) -> None:
        """Handle ``n`` events of ``size`` bytes that found no room: wait and offer them ``again``, or drop them."""
        if self.asleep and self.dirty:  # no thread could be started for what waits: perhaps it can by now
            self.wake()
        if self.closed:
            self.turn_away(n, "closed")
        elif not self.ever_fits(n, size):
            self.turn_away(n, "too_large")
        elif not block:
            self.turn_away(n, "queue_full")
        else:
            while self.wait_for_room(n, size):
                if again():
                    return
            self.turn_away(n, "closed")

    def wait_for_room(self, n: int, size: int) -> bool:
        """Wait until ``n`` events of ``size`` bytes may be offered again; False once closed."""
        with self.lock:
            self._wait(lambda: self.closed or self.has_room(n, size), None)
            return not self.closed

    def wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until ``until()`` after a `settle` or `notify`; False when ``timeout`` seconds passed before."""
        with self.lock:
            return self._wait(until, timeout)

    async def wait_async(self, until: Callable[[], bool], timeout: float | None) -> bool:  # noqa: ASYNC109 - as `wait`
        """Do what `wait` does without a thread that would wait on when the task is cancelled, and hold up the end."""
        import asyncio  # noqa: PLC0415 - 60 ms that only asyncio's own users pay, and have paid

        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(changed.set)

        with self.lock:
            self._watchers.append(tell)
        try:
            async with asyncio.timeout(timeout):
                while not until():
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return False
        finally:
            with self.lock:
                self._watchers.remove(tell)
        return True

    def notify(self) -> None:
        """Let those who wait look again."""
        with self.lock:
            if self._waiters:
                self._changed.notify_all()
            for tell in self._watchers:
                tell()

    def _wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else monotonic() + timeout
        self._waiters += 1
        try:
            while not until():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        finally:
            self._waiters -= 1
        return True

    def take(self) -> list[Batch]:
        """Hand over all that waits, in the order in which it is to be sent."""
        with self.lock:
            stacks, self.dirty = self.dirty, []
            batches = [(stack.rank, batch) for stack in stacks if (batch := stack.take()) is not None]
        batches.sort(key=lambda ranked: ranked[0])
        return [batch for _, batch in batches]

    def settle(self, n: int, size: int, cause: str | None) -> None:
        """Count ``n`` events as sent (``cause`` None) or dropped, and free their ``size`` bytes."""
        with self.lock:
            self.events -= n
            self.bytes -= size
            if cause is None:
                self.sent += n
                self.records += 1
            else:
                self.dropped[cause] += n
            self.notify()

    def shelve(self, n: int, size: int) -> None:
        """Count ``n`` events as lying on the disk, and free their ``size`` bytes."""
        with self.lock:
            self.events -= n
            self.bytes -= size
            self.spooled += n
            self.notify()

    def settle_spooled(self, n: int, cause: str | None) -> None:
        """Count ``n`` events that lay on the disk as sent (``cause`` None) or dropped."""
        with self.lock:
            self.spooled -= n
            if cause is None:
                self.sent += n
                self.records += 1
            else:
                self.dropped[cause] += n
            self.notify()

    def settle_inherited(self, n: int, cause: str | None) -> None:
        """Count ``n`` events of a process that ended as sent; what it lost is its own."""
        with self.lock:
            if cause is None:
                self.inherited += n
                self.records += 1

    def close(self) -> None:
        """Turn away all that comes from now on."""
        with self.lock:
            self.closed = True
            self.notify()

    def stats(self) -> Stats:
        """Take all counts at one moment."""
        with self.lock:
            return Stats(
                accepted=self.accepted,
                sent=self.sent,
                dropped=dict(self.dropped),
                refused=self.refused,
                queued_events=self.events,
                queued_bytes=self.bytes,
                spooled=self.spooled,
                inherited=self.inherited,
                damaged=self.damaged,
                records=self.records,
                reconnects=self.reconnects,
                last_error=self.last_error,
            )
