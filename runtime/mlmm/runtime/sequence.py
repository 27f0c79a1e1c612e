"""``sequence`` and ``ce_source`` of what workers put out, and the dropping of what was already seen.

A sequence is (epoch, input offset, index among that record's outputs). It is a function of the input log alone, so a
replay repeats it; a counter would fall behind after a rollback and swallow real alarms. Written in fixed width, its
order as text is its order as numbers, as CloudEvents' ``sequence`` extension asks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from mlmm.events.headers import header
from mlmm.runtime.processor import Output, Record

__all__ = [
    "SOURCES",
    "SOURCE_BYTES",
    "WIDTH",
    "WORKER_MADE",
    "Seen",
    "encode",
    "is_one",
    "numbered",
    "parse",
    "source",
]

WIDTH = 33
"""Bytes of a sequence: epoch (6 digits), offset (19: a signed 64-bit integer), index (6), two dots."""
WORKER_MADE = frozenset({"findings"})
"""Inputs that other workers make, with a ``sequence``: what was seen before is dropped."""
_FORM = re.compile(rb"[0-9]{6}\.[0-9]{19}\.[0-9]{6}").fullmatch
_LAST_OFFSET = b"%d" % ((1 << 63) - 1)
SOURCES = 10_000
"""Sources that are remembered; a deployment has one a processor and partition."""
SOURCE_BYTES = 1_024
"""Longest source that is remembered."""


def encode(epoch: int, offset: int, index: int) -> bytes:
    """Write a sequence; ``ValueError`` where a part does not fit."""
    written = b"%06d.%019d.%06d" % (epoch, offset, index)
    if len(written) != WIDTH or min(epoch, offset, index) < 0:
        raise ValueError(f"sequence ({epoch}, {offset}, {index}) does not fit: at most 6, 19 and 6 digits")
    return written


def parse(written: bytes) -> tuple[int, int, int]:
    """Read a sequence; ``ValueError`` where it is none."""
    if not is_one(written):
        raise ValueError(f"{written!r} is not a sequence (epoch.offset.index in fixed width)")
    epoch, offset, index = map(int, written.split(b"."))
    return epoch, offset, index


def is_one(written: bytes) -> bool:
    """Whether it is a sequence: what only looks like one would swallow all that comes after it."""
    return _FORM(written) is not None and written[7:26] <= _LAST_OFFSET


def source(deployment: str, processor: str, topic: str, partition: int) -> str:
    """``ce_source`` of what a processor puts out for one input partition (``topic``: its full name)."""
    return f"{deployment}/{processor}/{topic}/{partition}"


def numbered(outputs: Iterable[Output], epoch: int) -> list[tuple[bytes, Output]]:
    """Give each output its sequence.

    Parameters
    ----------
    outputs : iterable of Output
        Of one poll, ordered by input offset; all outputs of a record are among them.
    epoch : int
        The partition's epoch.
    """
    made: list[tuple[bytes, Output]] = []
    offset, index = -1, 0
    for output in outputs:
        if output.offset == offset:
            index += 1
        elif output.offset > offset:
            offset, index = output.offset, 0
        else:
            raise ValueError(f"output {output.id!r} of offset {output.offset} follows one of offset {offset}")
        made.append((encode(epoch, offset, index), output))
    return made


class Seen:
    """The last sequence of each ``ce_source`` in one input partition.

    A record that is not higher was seen before: a worker that died between sending and trimming its outbox, or one that
    replays after a rollback, sends again what it had sent. Gaps are normal. Records without a sequence (not made by
    workers) pass, and so does what only looks like one: remembered, it would swallow all that comes after it. Strangers
    can't fill the memory either: no more than `SOURCES` are remembered.

    Parameters
    ----------
    last : Mapping[bytes, bytes], optional
        Source → sequence, as stored.
    """

    def __init__(self, last: Mapping[bytes, bytes] | None = None) -> None:
        self._last = {origin: written for origin, written in (last or {}).items() if is_one(written)}
        self._changed: dict[bytes, bytes] = {}

    def fresh(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that were not seen before, in order."""
        return [record for record in records if self._is_fresh(record)]

    def _is_fresh(self, record: Record) -> bool:
        sequence = header(record.headers, "ce_sequence")
        origin = header(record.headers, "ce_source")
        if sequence is None or origin is None or not is_one(sequence):
            return True
        before = self._last.get(origin)
        if before is None and (len(self._last) >= SOURCES or len(origin) > SOURCE_BYTES):
            return True
        if before is not None and sequence <= before:
            return False
        self._last[origin] = self._changed[origin] = sequence
        return True

    def changed(self) -> dict[bytes, bytes]:
        """Return what changed since the last call, to be committed with the state."""
        changed, self._changed = self._changed, {}
        return changed
