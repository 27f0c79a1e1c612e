"""From lists of Python objects to the buffers of a block."""

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import nan
from typing import Any, TypeVar

from mlmm.events import MISSING, shard_key

__all__ = ["by_shard", "classes_of", "coded", "ids_of", "let_go", "optional", "shares"]

T = TypeVar("T")
_NAN = struct.pack("<d", nan)


def optional(column: bytes, n: int) -> bytes:
    """Return a float64 column, empty where every value is missing."""
    return b"" if column == _NAN * n else column


def ids_of(ids: list[str]) -> tuple[bytes, bytes]:
    """Return all ids as UTF-8, and the bytes of each as u32."""
    joined = "".join(ids)
    if joined.isascii():
        return joined.encode(), array("I", map(len, ids)).tobytes()
    encoded = [each.encode() for each in ids]
    return b"".join(encoded), array("I", map(len, encoded)).tobytes()


def classes_of(answers: Sequence[T]) -> tuple[bytes, tuple[T, ...]]:
    """Return each answer as an index (float64) into the answers that occur, and these."""
    places: dict[T, int] = {}
    codes = array("d", [places.setdefault(answer, len(places)) for answer in answers])
    return codes.tobytes(), tuple(places)


def coded(columns: Sequence[Sequence[str | None]], n: int) -> tuple[bytes, tuple[tuple[str, ...], ...]]:
    """Return columns of strings as u32[n, columns], row by row, and the strings of each column."""
    if not columns:
        return b"", ()
    width = len(columns)
    codes = array("I", bytes(4 * n * width))
    values = []
    for i, column in enumerate(columns):
        places: dict[str, int] = {}
        codes[i::width] = array(
            "I", [MISSING if text is None else places.setdefault(text, len(places)) for text in column]
        )
        values.append(tuple(places))
    return codes.tobytes(), tuple(values)


def by_shard(model: str, ids: list[str], shards: int) -> Iterator[tuple[bytes, list[int]]]:
    """Yield (record key, places in ``ids``) of each shard that occurs."""
    if shards == 1:
        yield model.encode(), list(range(len(ids)))
        return
    places: dict[bytes, list[int]] = {}
    for i, prediction_id in enumerate(ids):
        try:
            key = shard_key(model, prediction_id, shards)
        except UnicodeEncodeError:
            key = model.encode() + b"#0"  # packing refuses it with its reason
        places.setdefault(key, []).append(i)
    yield from places.items()


def let_go(columns: Iterable[list[Any]], first: int, end: int) -> None:
    """Drop what was packed: its place in the queue is free once it is sent, whatever else of its batch is not."""
    for column in columns:
        if column:
            column[first:end] = [None] * (end - first)


def shares(size: int, counts: Sequence[int]) -> list[int]:
    """Give ``size`` bytes out in proportion to ``counts``, all of them.

    >>> shares(10, [1, 2])
    [3, 7]
    """
    total = sum(counts)
    ends = [size * upto // total for upto in accumulate(counts)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
