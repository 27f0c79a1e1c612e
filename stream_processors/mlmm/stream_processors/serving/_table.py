"""The hash table over pending rows: open addressing with linear probing, deletion by backward shift, no tombstones.

An entry is ``tag << 32 | row + 1``; 0 is empty. The tag, 32 bits of the hash, gives an entry's home, so that growing
and deleting touch no row. Not state: rebuilt from the rows when they are loaded.
"""

# ruff: noqa: PLR0917 - kernels take no keywords

import numpy as np

from mlmm.detectors import kernel

from ._fields import CHUNK_MODEL, CHUNK_SHIFT, ROW_HASH, ROW_HASH2

__all__ = ["delete", "find", "insert", "rehash", "tag_of"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.int64(0xFFFFFFFF)


@kernel
def tag_of(model: int, h1: int) -> int:
    """32 bits of a row's identity within the partition."""
    mixed = (np.uint64(h1) ^ (np.uint64(model) * _GOLDEN)) * _GOLDEN
    return np.int64(mixed >> np.uint64(32))  # type: ignore[return-value]


@kernel
def find(table: np.ndarray, rows: np.ndarray, chunks: np.ndarray, model: int, h1: int, h2: int) -> int:
    """Row of a model's id, or -1."""
    mask = np.int64(len(table) - 1)
    tag = tag_of(model, h1)
    at = tag & mask
    while True:
        entry = table[at]
        if entry == 0:
            return -1
        if (entry >> 32) & _LOW == tag:
            row = (entry & _LOW) - 1
            if (
                rows[row, ROW_HASH] == h1
                and rows[row, ROW_HASH2] == h2
                and chunks[row >> CHUNK_SHIFT, CHUNK_MODEL] == model
            ):
                return row  # type: ignore[no-any-return]
        at = (at + 1) & mask


@kernel
def insert(table: np.ndarray, tag: int, row: int) -> None:
    """Add a row that is not in the table, which has room."""
    mask = np.int64(len(table) - 1)
    at = tag & mask
    while table[at] != 0:
        at = (at + 1) & mask
    table[at] = (np.int64(tag) << 32) | np.int64(row + 1)


@kernel
def delete(table: np.ndarray, tag: int, row: int) -> None:
    """Remove a row that is in the table, and close the gap."""
    mask = np.int64(len(table) - 1)
    gap = tag & mask
    while (table[gap] & _LOW) - 1 != row:
        gap = (gap + 1) & mask
    at = gap
    while True:
        at = (at + 1) & mask
        entry = table[at]
        if entry == 0:
            break
        home = (entry >> 32) & mask
        # The entry may move back to the gap unless its home lies behind the gap on the way to it.
        if ((at - home) & mask) >= ((at - gap) & mask):
            table[gap] = entry
            gap = at
    table[gap] = 0


@kernel
def rehash(old: np.ndarray, table: np.ndarray) -> None:
    """Put all entries of a table into an empty, larger one."""
    for entry in old:
        if entry != 0:
            insert(table, (entry >> 32) & _LOW, (entry & _LOW) - 1)
