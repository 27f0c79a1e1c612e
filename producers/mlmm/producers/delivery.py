"""Records in flight: sent in order, sent again in order after a failure, given up only where no retry can help.

Delivery is at least once. Within a key the order is kept: the link retries in order by itself; when it fails for good
it is closed, and everything that was not acknowledged goes to a new one, oldest first. Each topic has a lane of its
own: one that is missing, refused or silent is tried at its own pace, while the others go on.
"""

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from mlmm.events import Topics
from mlmm.producers.intake import Intake
from mlmm.producers.lanes import FIRST_PAUSE, LONGEST_PAUSE, Flight, Lane, Ticket
from mlmm.producers.packing import Packed

__all__ = ["Delivery", "Link", "NoSuchTopic", "StillConnecting", "TooLarge"]

log = logging.getLogger("mlmm.producers")


class TooLarge(Exception):  # noqa: N818 - says what the record is
    """The broker will never take this record."""


class NoSuchTopic(Exception):  # noqa: N818 - says what is missing
    """The topic is not there (yet), or not for us: other topics go on."""


class StillConnecting(Exception):  # noqa: N818 - says what goes on
    """A link is being made: who makes it calls ``wake`` when it is there, or can't be had."""


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


class Delivery:
    """Takes records from the emitter's thread to a `Link`.

    Parameters
    ----------
    intake : Intake
        Where delivered and dropped events are counted.
    topics : Topics
    connect : Callable[[], Link]
        Makes a link; may block for a few seconds and raise, `StillConnecting` where it is under way.
    wake : Callable[[], None]
        Called from any thread when `work` has something to do.
    max_flight : int
        Bytes of a topic that may be in flight.
    silence : float
        Seconds without an acknowledgement that count as trouble: the link retries by itself, and says nothing.
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
        silence: float = 5.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._intake = intake
        self._topics = topics
        self._connect = connect
        self._wake = wake
        self._max_flight = max_flight
        self._silence = silence
        self._clock = clock
        self._link: Link | None = None
        self._links = 0
        self._lanes: dict[str, Lane] = {}
        self._results: deque[tuple[Lane, Flight, int, int, Exception | None]] = deque()
        self._pause = FIRST_PAUSE
        self._retry_at = 0.0
        self._troubled = False
        self._answered = 0.0

    @property
    def has_room(self) -> bool:
        """Whether another record may be submitted; what topics in trouble hold is not in its way."""
        return sum(lane.bytes for lane in self._lanes.values() if not lane.stalled) < self._max_flight

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not any(lane.flights for lane in self._lanes.values())

    @property
    def records(self) -> int:
        """Records that are held, in flight and before."""
        return sum(len(lane.flights) for lane in self._lanes.values())

    @property
    def oldest(self) -> int | None:
        """Turn of the oldest record that is not done; None when all are."""
        own = (
            next((flight.turn for flight in lane.flights if flight.ticket is None or flight.ticket.own), None)
            for lane in self._lanes.values()
        )
        return min((turn for turn in own if turn is not None), default=None)

    def takes(self, topic: str) -> bool:
        """Whether a record of a topic could be sent soon."""
        lane = self._lanes.get(topic)
        return lane is None or not lane.flights or (not lane.stalled and lane.bytes < self._max_flight)

    @property
    def troubled(self) -> bool:
        """Whether the broker, or one topic, does not take what it is given."""
        return self._troubled or any(lane.stalled for lane in self._lanes.values())

    def in_trouble(self, topic: str) -> bool:
        """Whether records of a topic are not taken."""
        lane = self._lanes.get(topic)
        return self._troubled or (lane is not None and lane.stalled)

    def stalled(self, topic: str) -> bool:
        """Whether a topic waits for something of its own, while others may go on."""
        lane = self._lanes.get(topic)
        return lane is not None and lane.stalled

    def save(self, keep: Callable[[Packed, int], Ticket | None], *, of: Callable[[str], bool]) -> None:
        """Put flights that are in memory alone, of the topics that it is asked for, where ``keep`` puts them."""
        for lane in self._lanes.values():
            if not lane.loose or not of(lane.topic):
                continue
            for flight in lane.flights:
                if flight.ticket is None and not flight.done:
                    ticket = keep(flight.packed, flight.turn)
                    if ticket is None:
                        return
                    lane.save(flight, ticket)

    def submit(self, packed: Packed, turn: int, ticket: Ticket | None = None) -> None:
        """Take a record over. ``turn`` says which handing over it came from."""
        if packed.refused is not None:
            self._intake.last_error = packed.reason
            log.error("event dropped (%s): %s", packed.refused, packed.reason)
            self._intake.settle(packed.n, packed.size, packed.refused)
            return
        lane = self._lanes.get(packed.topic)
        if lane is None:
            lane = self._lanes[packed.topic] = Lane(packed.topic)
        if lane.stalled and ticket is None and not self.may_hold(packed.topic, packed.n, packed.size):
            self._intake.settle(packed.n, packed.size, "no_topic")
            return
        lane.add(Flight(packed, turn, ticket))

    def may_hold(self, topic: str, events: int, size: int) -> bool:
        """Whether a topic in trouble may keep so much more: all of the queue where it is the only one, else half."""
        lane = self._lanes[topic]
        share = 1 if len(self._lanes) == 1 else 2
        return (
            share * (lane.events + events) <= self._intake.max_events
            and share * (lane.size + size) <= self._intake.max_bytes
        )

    def work(self) -> float | None:
        """Count what came back and send what can be sent.

        Returns
        -------
        float or None
            Seconds until it wants to be called again, though nothing woke it; None when only `wake` matters.
        """
        self._settle()
        self._listen()
        if any(lane.unsent for lane in self._lanes.values()) and self._clock() >= self._retry_at:
            link = self._link or self._open()
            if link is not None:
                self._send_all(link)
        return self._next_call()

    def _next_call(self) -> float | None:
        now = self._clock()
        times: list[float] = []
        for lane in self._lanes.values():
            if lane.unsent and lane.handed < self._max_flight:
                due = lane.retry_at if self._link is not None else self._retry_at
                times += [due] if due else []  # none while it is connecting: who connects wakes us
            since = lane.unanswered_since
            if since is not None:
                times.append(since + self._silence if now < since + self._silence else now + self._silence)
        return max(0.0, min(times) - now) if times else None

    def _listen(self) -> None:
        """Notice a broker that is silent, or silent about one topic."""
        now = self._clock()
        for lane in self._lanes.values():
            since = lane.unanswered_since
            if since is None or now < since + self._silence:
                continue
            error = TimeoutError(f"no acknowledgement for {now - since:.0f} s")
            if self._answered > since:
                self._stall(lane, error)
            else:
                self._trouble(error)

    def _settle(self) -> None:
        while self._results:
            lane, flight, link, attempt, error = self._results.popleft()
            if flight.done:
                continue
            if error is None:
                self._done(lane, flight, None)
                self._acknowledged(lane)
            elif isinstance(error, TooLarge):
                self._give_up(lane, flight, error)
            elif link != self._links or self._link is None or attempt != lane.attempt:
                continue  # of a try that was given up
            elif isinstance(error, NoSuchTopic):
                lane.rewind()
                self._stall(lane, error)
            else:
                self._break(error)

    def _acknowledged(self, lane: Lane) -> None:
        self._answered = self._clock()
        self._pause = FIRST_PAUSE
        if self._troubled:
            self._troubled = False
            log.warning("the broker answers again: events are being delivered")
        if lane.clear():
            log.warning("topic %r takes events again", self._topics.full(lane.topic))

    def _done(self, lane: Lane, flight: Flight, cause: str | None) -> None:
        lane.finish(flight)
        if flight.ticket is None:
            self._intake.settle(flight.packed.n, flight.packed.size, cause)
        else:
            flight.ticket.settle(cause)

    def _give_up(self, lane: Lane, flight: Flight, error: Exception) -> None:
        self._note(error)
        log.error("%d events dropped: %s", flight.packed.n, error)
        self._done(lane, flight, "too_large")

    def _note(self, error: Exception) -> None:
        self._intake.last_error = f"{type(error).__name__}: {error}"

    def _delay(self, error: Exception) -> None:
        self._retry_at = self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        self._note(error)
        if not self._troubled:
            self._troubled = True
            log.warning("events wait: the broker does not take them: %s: %s", type(error).__name__, error)

    def _stall(self, lane: Lane, error: Exception) -> None:
        self._note(error)
        if not lane.stalled:
            name = self._topics.full(lane.topic)
            log.warning("events of topic %r wait, others go on: %s: %s", name, type(error).__name__, error)
        lane.stall(self._clock())

    def _break(self, error: Exception) -> None:
        """Give up the link and send anew, in order, all that it did not deliver."""
        link, self._link = self._link, None
        if link is not None:
            link.close(0.0)
        self._intake.reconnects += 1
        for lane in self._lanes.values():
            lane.rewind()
            lane.clear()
        self._delay(error)

    def _open(self) -> Link | None:
        try:
            self._link = self._connect()
        except StillConnecting:
            self._retry_at = 0.0
            return None
        except Exception as error:  # noqa: BLE001 - whatever a client library raises means: not now
            self._delay(error)
            return None
        self._links += 1
        return self._link

    def _send_all(self, link: Link) -> None:
        now = self._clock()
        for lane in tuple(self._lanes.values()):
            if lane.unsent and now >= lane.retry_at and not self._send(lane, link):
                return

    def _send(self, lane: Lane, link: Link) -> bool:
        """Send what a lane has; False when the link broke."""
        topic = self._topics.full(lane.topic)
        while lane.unsent and lane.handed < self._max_flight:
            flight = lane.unsent[0]
            if flight.done:
                lane.unsent.popleft()
                continue
            packed = flight.packed
            lane.hand(flight, self._links, self._clock())
            lane.unsent.popleft()
            try:
                link.send(topic, packed.key, packed.value, packed.headers, self._callback(lane, flight))
            except TooLarge as error:
                self._give_up(lane, flight, error)
            except NoSuchTopic as error:
                lane.rewind()
                self._stall(lane, error)
                return True
            except Exception as error:  # noqa: BLE001 - a client library may raise anything
                self._break(error)
                return False
        return True

    def _callback(self, lane: Lane, flight: Flight) -> Callable[[Exception | None], None]:
        link, attempt = flight.link, flight.attempt

        def done(error: Exception | None) -> None:
            self._results.append((lane, flight, link, attempt, error))
            self._wake()

        return done

    def close(self, timeout: float, keep: Callable[[Packed, int], Ticket | None] | None = None) -> None:
        """Close the link; what it did not deliver goes where ``keep`` puts it, or is counted as dropped."""
        link, self._link = self._link, None
        if link is not None:
            link.close(timeout)
        self._settle()
        if keep is not None:
            self.save(keep, of=lambda _topic: True)
        for lane in self._lanes.values():
            for flight in tuple(lane.flights):
                if not flight.done and flight.ticket is None:
                    self._done(lane, flight, "closed")
        self._lanes.clear()

    def give_up(self, packed: Packed, turn: int) -> None:  # noqa: ARG002 - see Spooling
        """Count a record that was never taken over as dropped."""
        self._intake.settle(packed.n, packed.size, packed.refused or "closed")

    def end(self) -> None:
        """Be the last call: see Spooling."""

    def forget(self) -> None:
        """Let go of everything: this is a forked child."""
        if self._link is not None:
            self._link.forget()
