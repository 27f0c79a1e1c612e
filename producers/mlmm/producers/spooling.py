"""Delivery with a spool behind it: what can't be sent goes to the disk, and comes back in order.

Of each topic, oldest first: flights in memory, then what lies on the disk, then what is packed. A record goes to the
disk while its topic is in trouble, while others of it lie there unread, while callers log faster than the broker takes,
or always (``spool_when``). Flights that are in memory when the trouble begins are written, too; they stay in memory.

Where the disk is full, too, the next record waits in memory and all after it in the queue; but a topic that alone is in
trouble stops no other: its records wait beside the queue, up to half of it, and what comes then is dropped.
"""

from collections import deque

from mlmm.producers.delivery import Delivery
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed
from mlmm.producers.shelf import Slip
from mlmm.producers.spool import Spool

__all__ = ["Spooling"]

_TRY_AGAIN = 1.0
"""Seconds after which a record that found no room on the disk is offered to it again."""


class _Held:
    """Records of one topic that found no room on the disk, oldest first."""

    def __init__(self) -> None:
        self.records: deque[tuple[Packed, int]] = deque()
        self.events = 0
        self.size = 0

    def add(self, packed: Packed, turn: int) -> None:
        self.records.append((packed, turn))
        self.events += packed.n
        self.size += packed.size

    def pop(self) -> None:
        packed, _ = self.records.popleft()
        self.events -= packed.n
        self.size -= packed.size


class Spooling:
    """Stands in the place of a `Delivery`.

    Parameters
    ----------
    delivery : Delivery
    spool : Spool
    intake : Intake
    always : bool
        Whether everything goes to the disk before it is sent.
    """

    def __init__(self, delivery: Delivery, spool: Spool, intake: Intake, *, always: bool) -> None:
        self._delivery = delivery
        self._spool = spool
        self._intake = intake
        self._always = always
        self._held: dict[str, _Held] = {}

    @property
    def has_room(self) -> bool:
        """Whether another record may be submitted."""
        if not all(map(self._delivery.stalled, self._held)):
            return False
        if self._delivery.has_room:
            return True
        wanted = self._always or self._delivery.troubled or self._pressed
        return wanted and self._spool.has_room

    @property
    def _pressed(self) -> bool:
        """Whether callers log faster than the broker takes: more than half of the queue is full."""
        intake = self._intake
        return 2 * intake.events > intake.max_events or 2 * intake.bytes > intake.max_bytes

    @property
    def oldest(self) -> int | None:
        """Turn of the oldest record of this process that is not done; None when all are."""
        held = (held.records[0][1] for held in self._held.values())
        return min((t for t in (self._delivery.oldest, self._spool.turn, *held) if t is not None), default=None)

    @property
    def troubled(self) -> bool:
        """Whether the broker, or one topic, does not take what it is given."""
        return self._delivery.troubled

    def submit(self, packed: Packed, turn: int) -> None:
        """Take a record over. ``turn`` says which handing over it came from."""
        if packed.refused is not None:
            self._delivery.submit(packed, turn)
        elif packed.topic in self._held or not self._place(packed, turn):
            self._hold(packed, turn)

    def _hold(self, packed: Packed, turn: int) -> None:
        """Keep it in memory until the disk has room: one record, or of a topic that is missing as many as may wait."""
        topic = packed.topic
        held = self._held.get(topic) or _Held()
        if self._delivery.stalled(topic) and not self._delivery.may_hold(
            topic, held.events + packed.n, held.size + packed.size
        ):
            self._intake.settle(packed.n, packed.size, "no_topic")
            return
        held.add(packed, turn)
        self._held[topic] = held

    def _place_held(self) -> None:
        for topic, held in tuple(self._held.items()):
            while held.records and self._place(*held.records[0]):
                held.pop()
            if not held.records:
                del self._held[topic]

    def _place(self, packed: Packed, turn: int) -> bool:
        topic = packed.topic
        caught_up, takes = self._spool.caught_up(topic), self._delivery.takes(topic)
        if self._always or self._delivery.in_trouble(topic) or not (caught_up and takes):
            at_once = caught_up and takes
            slip = self._spool.append(packed, turn, in_hand=at_once)
            if slip is not None:
                if at_once:
                    self._delivery.submit(packed, turn, slip)
                return True
            if not caught_up:
                return False  # it must not overtake what lies on the disk
        self._delivery.submit(packed, turn)
        return True

    def work(self) -> float | None:
        """Do what `Delivery.work` does, and what the disk wants."""
        self._place_held()
        again = self._delivery.work()
        self._delivery.save(self._in_hand, of=self._may_save)
        if self._read_back():
            again = self._delivery.work()
        soon = self._spool.tend()
        if self._held:
            soon = min(soon, _TRY_AGAIN)
        return soon if again is None else min(again, soon)

    def _in_hand(self, packed: Packed, turn: int) -> Slip | None:
        return self._spool.append(packed, turn, in_hand=True)

    def _may_save(self, topic: str) -> bool:
        return self._delivery.in_trouble(topic) and self._spool.caught_up(topic)

    def _read_back(self) -> bool:
        found = False
        while (taken := self._spool.take(self._delivery.takes)) is not None:
            self._delivery.submit(taken.packed, taken.turn, taken.slip)
            found = True
        return found

    def close(self, timeout: float) -> None:
        """Close the link and put what it did not deliver on the disk; what finds no room there is dropped."""
        self._delivery.close(timeout, self._keep)
        for held in self._held.values():
            for packed, turn in held.records:
                self.give_up(packed, turn)
        self._held.clear()

    def _keep(self, packed: Packed, turn: int) -> Slip | None:
        # It is never read back by this process, so that its place in the order does not matter to us.
        return self._spool.append(packed, turn, in_hand=False)

    def give_up(self, packed: Packed, turn: int) -> None:
        """Put a record that was never taken over on the disk, or count it as dropped."""
        if packed.refused is not None or self._keep(packed, turn) is None:
            self._delivery.give_up(packed, turn)

    def end(self) -> None:
        """Leave the disk to whoever comes next."""
        self._spool.close()

    def forget(self) -> None:
        """Let go of everything: this is a forked child."""
        self._delivery.forget()
        self._spool.forget()
