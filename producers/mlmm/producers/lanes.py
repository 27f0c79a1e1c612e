"""The records of one topic on their way: a lane each, so that a topic in trouble holds up no other."""

from collections import deque
from typing import Protocol

import msgspec

from mlmm.producers.packing import Packed

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "Flight", "Lane", "Ticket"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries: doubled from the first to the longest."""


class Ticket(Protocol):
    """Says that a record lies on the disk, where its end is to be told."""

    @property
    def own(self) -> bool:
        """Whether this process put it there: its flushes wait for it."""

    def settle(self, cause: str | None) -> None:
        """The record was acknowledged (None), or given up for ``cause``."""


class Flight(msgspec.Struct, eq=False):
    """A record between the emitter and the broker."""

    packed: Packed
    turn: int
    ticket: Ticket | None = None
    """None: it counts among what waits in the queue."""
    done: bool = False
    link: int = 0
    attempt: int = 0
    sent: float = 0.0


class Lane:
    """Flights of one topic, oldest first.

    Parameters
    ----------
    topic : str
        Logical name.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.flights: deque[Flight] = deque()
        self.unsent: deque[Flight] = deque()
        self.bytes = 0
        """Bytes of all flights."""
        self.events = 0
        self.size = 0
        """Bytes that its events take in the queue."""
        self.handed = 0
        """Bytes that the link has."""
        self.loose = 0
        """Flights that are in memory alone."""
        self.attempt = 0
        self.pause = FIRST_PAUSE
        self.retry_at = 0.0
        self.stalled = False
        """Whether it waits for something of its own, while other topics may go on."""

    def add(self, flight: Flight) -> None:
        """Put a record at the end."""
        self.flights.append(flight)
        self.unsent.append(flight)
        self.bytes += len(flight.packed.value)
        self.events += flight.packed.n
        self.size += flight.packed.size
        self.loose += flight.ticket is None

    def finish(self, flight: Flight) -> None:
        """Let go of a record. It leaves when all before it have."""
        flight.done = True
        packed = flight.packed
        self.bytes -= len(packed.value)
        self.events -= packed.n
        self.size -= packed.size
        self.loose -= flight.ticket is None
        if flight.link and flight.attempt == self.attempt:
            self.handed -= len(packed.value)
        while self.flights and self.flights[0].done:
            self.flights.popleft()

    def hand(self, flight: Flight, link: int, now: float) -> None:
        """Note that the link has a record."""
        flight.link, flight.attempt, flight.sent = link, self.attempt, now
        self.handed += len(flight.packed.value)

    def save(self, flight: Flight, ticket: Ticket) -> None:
        """Note that a flight lies on the disk from now on."""
        flight.ticket = ticket
        self.loose -= 1

    def rewind(self) -> None:
        """Send anew, in order, all that is not done; what the link says of the tries before still counts if good."""
        self.attempt += 1
        self.handed = 0
        for flight in self.flights:
            flight.link = 0
        self.unsent = deque(flight for flight in self.flights if not flight.done)

    def stall(self, now: float) -> None:
        """Try again later, and later each time."""
        self.stalled = True
        self.retry_at = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def clear(self) -> bool:
        """Forget its trouble; say whether there was one."""
        stalled, self.stalled = self.stalled, False
        self.pause, self.retry_at = FIRST_PAUSE, 0.0
        return stalled

    @property
    def unanswered_since(self) -> float | None:
        """When the link got its oldest record that was not acknowledged yet; None where it has none."""
        oldest = self.flights[0] if self.flights else None
        return oldest.sent if oldest is not None and oldest.link else None
