"""A shelf: the records of one topic that one process put on the disk, oldest first, in segments."""

import contextlib
from collections import deque
from collections.abc import Callable

import msgspec

from mlmm.producers.packing import Packed
from mlmm.producers.segments import Segment

__all__ = ["Shelf", "Slip", "Taken"]


class _Body(msgspec.Struct, array_like=True):
    """What a segment holds of a record: all that is sent, so that it goes out the second time as the first."""

    turn: int
    n: int
    size: int
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class Slip:
    """Says that a record lies on a shelf; tells the shelf what became of it."""

    __slots__ = ("_end", "_n", "_segment", "_shelf")

    def __init__(self, shelf: "Shelf", segment: Segment, end: int, n: int) -> None:
        self._shelf = shelf
        self._segment = segment
        self._end = end
        self._n = n

    @property
    def own(self) -> bool:
        """Whether this process put it there."""
        return self._shelf.own

    def settle(self, cause: str | None) -> None:
        """The record was acknowledged (None), or given up for ``cause``."""
        with contextlib.suppress(OSError):  # at worst whoever comes next sends it once more
            self._segment.settle(self._end)
            self._shelf.sweep()
        self._shelf.settled(self._n, cause)


class Taken(msgspec.Struct, frozen=True):
    """A record that was read back."""

    packed: Packed
    turn: int
    slip: Slip


class Shelf:
    """Segments of one topic.

    Parameters
    ----------
    topic : str
        Logical name.
    own : bool
        Whether this process writes it, or takes it over from one that ended.
    segments : deque of Segment
        Oldest first.
    settled : Callable[[int, str or None], None]
        Called with the events of each record that is done with, and why it was given up.
    """

    def __init__(
        self, topic: str, *, own: bool, segments: deque[Segment], settled: Callable[[int, str | None], None]
    ) -> None:
        self.topic = topic
        self.own = own
        self.settled = settled
        self.damaged = 0
        self._segments = segments
        self._next: Taken | None = None

    @property
    def caught_up(self) -> bool:
        """Whether all of it was handed out: what comes next need not wait for it."""
        return self._next is None and all(segment.at >= segment.end for segment in self._segments)

    @property
    def empty(self) -> bool:
        """Whether all of it is acknowledged."""
        return self._next is None and all(segment.done for segment in self._segments)

    @property
    def turn(self) -> int | None:
        """Turn of the oldest record that was not handed out; None when all were."""
        taken = self.peek()
        return None if taken is None else taken.turn

    def append(self, packed: Packed, turn: int, *, in_hand: bool, room: Callable[[], Segment | None]) -> Slip | None:
        """Write a record; None where there is no room for it.

        Parameters
        ----------
        in_hand : bool
            Whether the caller goes on with it: it is then not read back. Only when `caught_up`.
        room : Callable[[], Segment or None]
            Makes a segment.
        """
        body = _encode(_Body(turn, packed.n, packed.size, packed.key, packed.headers, packed.value))
        segment = self._segments[-1] if self._segments else None
        end = segment.append(body) if segment is not None else None
        if segment is None or end is None:
            fresh = room()
            if fresh is None:
                return None
            if segment is not None:
                segment.sync()
                segment.seal()
                segment.close()
            self._segments.append(fresh)
            self.sweep()
            segment, end = fresh, fresh.append(body)
            if end is None:
                raise OSError(f"{fresh.path}: a segment of {fresh.size} bytes has no room for {len(body)}")
        slip = Slip(self, segment, end, packed.n)
        if in_hand:
            segment.at = end
            segment.pending.append((end, False))
        else:
            segment.events += packed.n
        return slip

    def peek(self) -> Taken | None:
        """Return the next record and leave it."""
        if self._next is None:
            self._next = self._read()
        return self._next

    def take(self) -> Taken | None:
        """Return the next record, to be settled by its slip."""
        taken = self.peek()
        self._next = None
        return taken

    def _read(self) -> Taken | None:
        for segment in self._segments:
            while (found := self._sound(segment)) is not None:
                body, end = found
                segment.pending.append((end, False))
                if self.own:
                    segment.events -= body.n
                packed = Packed(
                    topic=self.topic, key=body.key, value=body.value, headers=body.headers, n=body.n, size=body.size
                )
                return Taken(packed, body.turn, Slip(self, segment, end, body.n))
            self._count_losses(segment)
        self.sweep()
        return None

    def _sound(self, segment: Segment) -> tuple[_Body, int] | None:
        found = segment.read()
        if found is None:
            return None
        try:
            return _decode(found[0]), found[1]
        except msgspec.DecodeError:  # sound to its checksum, and yet not ours
            segment.damaged += 1
            return self._sound(segment)

    def _count_losses(self, segment: Segment) -> None:
        self.damaged += segment.damaged
        segment.damaged = 0
        if segment.events:  # were appended here, and are not to be found
            lost, segment.events = segment.events, 0
            self.settled(lost, "damaged")

    def sweep(self, *, all_: bool = False) -> None:
        """Delete segments that are done with; the one that is written to only with ``all_``."""
        keep = 1 if self.own and not all_ else 0
        while len(self._segments) > keep and self._segments[0].done:
            segment = self._segments.popleft()
            self._count_losses(segment)
            segment.remove()

    def sync(self) -> None:
        """Force what was written to the disk itself."""
        if self._segments:
            self._segments[-1].sync()

    def close(self) -> None:
        """Keep what is not acknowledged for whoever comes next."""
        self._next = None
        for segment in self._segments:
            if self.own:
                segment.seal()
                segment.sync()
            segment.close()
        self._segments.clear()

    def forget(self) -> None:
        """Close the files and touch nothing: in a forked child they are the parent's."""
        for segment in self._segments:
            segment.close()
