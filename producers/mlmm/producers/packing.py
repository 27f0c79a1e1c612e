"""From what stacks collected to records: encoded, held against the contract, cut where too large."""

import logging
from collections.abc import Callable, Iterator
from time import time_ns
from typing import Protocol

import msgspec

from mlmm.events import COLUMNS_TYPE, JSON, cloudevents_headers, new_id
from mlmm.events.columns import Block
from mlmm.events.decode import decode_blocks
from mlmm.events.encode import encode_columns, encode_json
from mlmm.events.errors import MalformedEvent
from mlmm.events.types import Event

__all__ = ["MAX_RECORD", "Batch", "Packed", "Refusal", "pack_block", "pack_event", "slices"]

MAX_RECORD = 960 * 1024
"""Largest record value: below Kafka's default ``message.max.bytes`` (1 MiB) with room for key and headers."""

log = logging.getLogger("mlmm.producers")


class Packed(msgspec.Struct, kw_only=True, eq=False):
    """One record that is ready to be sent, or that it was found impossible to send."""

    topic: str
    """Logical name, such as ``"serving"``."""
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    n: int
    """Events in it."""
    size: int
    """Bytes that they took in the queue."""
    refused: str | None = None
    """Why it is not to be sent: a cause of `Stats.dropped`."""
    reason: str = ""


class Refusal(Exception):  # noqa: N818 - it is caught where it is raised from, two calls up
    """Events that can't be sent, and the cause under which they are counted."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


class Batch(Protocol):
    """What a stack handed over."""

    n: int

    @property
    def size(self) -> int:
        """Bytes that they took in the queue."""

    def pack(self, batch_events: int, batch_bytes: int, source: str) -> Iterator[Packed]:
        """Make records, one a step, so that the caller may pause between them."""


def slices(n: int, size: int, batch_events: int, batch_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Cut ``n`` events of together ``size`` bytes: yield (first, end, bytes) of each slice, all bytes given out.

    >>> list(slices(5, 100, 2, 1000))
    [(0, 2, 40), (2, 4, 40), (4, 5, 20)]
    """
    mean = size / n
    step = max(1, min(batch_events, int(batch_bytes / mean) if mean else batch_events))
    given = 0
    for first in range(0, n, step):
        end = min(first + step, n)
        upto = size * end // n
        yield first, end, upto - given
        given = upto


def _bounded(value: bytes) -> bytes:
    if len(value) > MAX_RECORD:
        raise Refusal("too_large", f"{len(value)} bytes in one record, at most {MAX_RECORD} are sent")
    return value


def pack_block(
    make: Callable[[int, int], Block],
    first: int,
    end: int,
    size: int,
    *,
    topic: str,
    key: bytes,
    type_: str,
    source: str,
) -> Iterator[Packed]:
    """Pack events ``first`` to ``end`` of a batch: in halves where together they are too large or one is unsound.

    Each record is decoded once as its readers will (5 µs): one event that breaks the contract must not take its
    neighbours with it into the dead letters.
    """
    try:
        value = _bounded(encode_columns(make(first, end)))
        decode_blocks(type_, COLUMNS_TYPE, value, key=key)
    except (Refusal, MalformedEvent, UnicodeEncodeError, TypeError, ValueError) as error:
        if end - first > 1:
            middle = (first + end) // 2
            half = size * (middle - first) // (end - first)
            common = {"topic": topic, "key": key, "type_": type_, "source": source}
            yield from pack_block(make, first, middle, half, **common)  # type: ignore[arg-type]
            yield from pack_block(make, middle, end, size - half, **common)  # type: ignore[arg-type]
            return
        cause = error.cause if isinstance(error, Refusal) else "invalid"
        reason = f"{type_} of {key.decode(errors='replace')!r}: {error}"
        yield Packed(topic=topic, key=key, value=b"", headers=[], n=1, size=size, refused=cause, reason=reason)
        return
    headers = cloudevents_headers(type_, new_id(), source, time_ns() // 1000, COLUMNS_TYPE)
    yield Packed(topic=topic, key=key, value=value, headers=headers, n=end - first, size=size)


def pack_event(event: Event, *, topic: str, key: bytes, type_: str, size: int, source: str, id_: str = "") -> Packed:
    """Pack one event as JSON. ``id_`` is its CloudEvents id where it must be the same each time that it is sent."""
    try:
        value = _bounded(encode_json(event))
    except (Refusal, UnicodeEncodeError, TypeError, ValueError, OverflowError) as error:
        cause = error.cause if isinstance(error, Refusal) else "invalid"
        reason = f"{type_} of {key.decode(errors='replace')!r}: {error}"
        return Packed(topic=topic, key=key, value=b"", headers=[], n=1, size=size, refused=cause, reason=reason)
    headers = cloudevents_headers(type_, id_ or new_id(), source, time_ns() // 1000, JSON)
    return Packed(topic=topic, key=key, value=value, headers=headers, n=1, size=size)
