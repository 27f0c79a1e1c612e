"""Records in flight: sent in order, sent again in order after a failure, given up only where no retry can help.

Delivery is at least once. Within a key the order is kept: the link retries in order by itself; when it fails for good
it is closed, and everything that was not acknowledged goes to a new one, oldest first.
"""

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import msgspec

from mlmm.events import Topics
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed

__all__ = ["Delivery", "Link", "NoSuchTopic", "TooLarge"]

log = logging.getLogger("mlmm.producers")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries: doubled from the first to the longest."""
_SILENCE = 5.0
"""Seconds without an acknowledgement after which it is told: the link retries by itself, and says nothing."""


class TooLarge(Exception):  # noqa: N818 - says what the record is
    """The broker will never take this record."""


class NoSuchTopic(Exception):  # noqa: N818 - says what is missing
    """The topic is not there (yet): other topics go on."""


class Link(Protocol):
    """A connection to a broker. Called by the emitter's thread alone."""

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]],
        done: Callable[[Exception | None], None],
    ) -> None:
        """Queue a record. ``done`` is called once, from any thread, with None when it was acknowledged.

        Raises `NoSuchTopic` or `TooLarge` where that is known at once, and whatever else the client library does.
        """

    def close(self, timeout: float) -> None:
        """Send what is queued for at most ``timeout`` seconds, then give up the rest. Never raises."""

    def forget(self) -> None:
        """Let go without touching the connection: in a forked child it is the parent's."""


class _Flight(msgspec.Struct, eq=False):
    packed: Packed
    turn: int
    done: bool = False
    link: int = 0
    sent: float = 0.0


class Delivery:
    """Takes records from the emitter's thread to a `Link`.

    Parameters
    ----------
    intake : Intake
        Where delivered and dropped events are counted.
    topics : Topics
    connect : Callable[[], Link]
        Makes a link; may block for a few seconds and raise.
    wake : Callable[[], None]
        Called from any thread when `work` has something to do.
    max_flight : int
        Bytes that may be in flight.
    clock : Callable[[], float]
        Monotonic seconds.
    """

    def __init__(
        self,
        intake: Intake,
        topics: Topics,
        connect: Callable[[], Link],
        wake: Callable[[], None],
        *,
        max_flight: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._intake = intake
        self._topics = topics
        self._connect = connect
        self._wake = wake
        self._max_flight = max_flight
        self._clock = clock
        self._link: Link | None = None
        self._links = 0
        self._flights: deque[_Flight] = deque()
        self._unsent: deque[_Flight] = deque()
        self._results: deque[tuple[_Flight, int, Exception | None]] = deque()
        self._bytes = 0
        self._pause = _FIRST_PAUSE
        self._retry_at = 0.0
        self._troubled = False

    @property
    def has_room(self) -> bool:
        """Whether another record may be submitted."""
        return self._bytes < self._max_flight

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._flights

    @property
    def oldest(self) -> int | None:
        """Turn of the oldest record that is not done; None when all are."""
        return self._flights[0].turn if self._flights else None

    def submit(self, packed: Packed, turn: int) -> None:
        """Take a record over. ``turn`` says which handing over it came from."""
        if packed.refused is not None:
            self._intake.last_error = packed.reason
            log.error("event dropped (%s): %s", packed.refused, packed.reason)
            self._intake.settle(packed.n, packed.size, packed.refused)
            return
        flight = _Flight(packed, turn)
        self._bytes += len(packed.value)
        self._flights.append(flight)
        self._unsent.append(flight)

    def work(self) -> float | None:
        """Count what came back and send what can be sent.

        Returns
        -------
        float or None
            Seconds until it wants to be called again, though nothing woke it; None when only `wake` matters.
        """
        self._settle()
        if not self._unsent:
            return self._listen()
        now = self._clock()
        if now < self._retry_at:
            return self._retry_at - now
        link = self._link or self._open()
        if link is None:
            return max(0.0, self._retry_at - self._clock())
        self._send(link)
        return max(0.0, self._retry_at - self._clock()) if self._unsent else None

    def _listen(self) -> float | None:
        """Tell of a broker that is silent; return when to look again."""
        if not self._flights:
            return None
        silent = self._clock() - self._flights[0].sent
        if silent < _SILENCE:
            return _SILENCE - silent
        self._trouble(TimeoutError(f"no acknowledgement for {silent:.0f} s"))
        return _SILENCE

    def _settle(self) -> None:
        while self._results:
            flight, link, error = self._results.popleft()
            if flight.done:
                continue
            if error is None:
                self._done(flight, None)
                self._pause = _FIRST_PAUSE
                if self._troubled:
                    self._troubled = False
                    log.warning("the broker answers again: events are being delivered")
            elif isinstance(error, TooLarge):
                self._give_up(flight, error)
            elif link == self._links and self._link is not None:
                self._break(error)
        while self._flights and self._flights[0].done:
            self._flights.popleft()

    def _done(self, flight: _Flight, cause: str | None) -> None:
        flight.done = True
        packed = flight.packed
        self._bytes -= len(packed.value)
        self._intake.settle(packed.n, packed.size, cause)

    def _give_up(self, flight: _Flight, error: Exception) -> None:
        self._note(error)
        log.error("%d events dropped: %s", flight.packed.n, error)
        self._done(flight, "too_large")

    def _note(self, error: Exception) -> None:
        self._intake.last_error = f"{type(error).__name__}: {error}"

    def _delay(self, error: Exception) -> None:
        self._retry_at = self._clock() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        self._note(error)
        if not self._troubled:
            self._troubled = True
            log.warning("events wait: the broker does not take them: %s: %s", type(error).__name__, error)

    def _break(self, error: Exception) -> None:
        """Give up the link and send anew, in order, all that it did not deliver."""
        link, self._link = self._link, None
        if link is not None:
            link.close(0.0)
        self._intake.reconnects += 1
        self._unsent = deque(flight for flight in self._flights if not flight.done)
        self._delay(error)

    def _open(self) -> Link | None:
        try:
            self._link = self._connect()
        except Exception as error:  # noqa: BLE001 - whatever a client library raises means: not now
            self._delay(error)
            return None
        self._links += 1
        return self._link

    def _send(self, link: Link) -> None:
        stalled: set[str] = set()
        rest: deque[_Flight] = deque()
        while self._unsent:
            flight = self._unsent.popleft()
            if flight.done:
                continue
            packed = flight.packed
            if packed.topic in stalled:
                rest.append(flight)
                continue
            flight.link = self._links
            flight.sent = self._clock()
            try:
                link.send(
                    self._topics.full(packed.topic), packed.key, packed.value, packed.headers, self._callback(flight)
                )
            except TooLarge as error:
                self._give_up(flight, error)
            except NoSuchTopic as error:
                stalled.add(packed.topic)
                rest.append(flight)
                self._delay(error)
            except Exception as error:  # noqa: BLE001 - a client library may raise anything
                self._break(error)
                return
        self._unsent = rest

    def _callback(self, flight: _Flight) -> Callable[[Exception | None], None]:
        link = flight.link

        def done(error: Exception | None) -> None:
            self._results.append((flight, link, error))
            self._wake()

        return done

    def close(self, timeout: float) -> None:
        """Close the link and count what it did not deliver as dropped."""
        link, self._link = self._link, None
        if link is not None:
            link.close(timeout)
        self._settle()
        for flight in self._flights:
            if not flight.done:
                self._done(flight, "closed")
        self._flights.clear()
        self._unsent.clear()

    def forget(self) -> None:
        """Let go of everything: this is a forked child."""
        if self._link is not None:
            self._link.forget()
