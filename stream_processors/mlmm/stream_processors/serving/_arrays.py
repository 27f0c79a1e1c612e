"""The arrays of a partition's state: a structure of arrays, a row a thing, capacities that double."""

from typing import NamedTuple

import numpy as np

from ._fields import (
    A_START,
    ACCUMULATED,
    ACCUMULATED_FLOATS,
    ALWAYS,
    BLOCKS,
    CHUNK_COLUMNS,
    CHUNK_ROWS,
    EMITTED,
    EMITTED_FLOATS,
    GROUP,
    HISTORY,
    PENDING_COLUMNS,
    ROW_COLUMNS,
    SERIES_COLUMNS,
)
from ._sketch import BUCKETS
from ._table import rehash

__all__ = ["Batch", "Emitted", "Lasts", "Pending", "Series", "Windows", "grown"]


def grown(array: np.ndarray, capacity: int, fill: int = 0) -> np.ndarray:
    """Copy into an array of a larger first axis."""
    made = np.zeros((capacity, *array.shape[1:]), array.dtype)
    made[: len(array)] = array
    if fill:
        made[len(array) :] = fill
    return made


class Batch(NamedTuple):
    """The events of one poll, in columns."""

    blocks: np.ndarray
    """int64 [blocks, BLOCK_COLUMNS]."""
    times: np.ndarray
    """int64: of predictions, labels and failures."""
    values: np.ndarray
    """float64: outputs and label values."""
    id_lengths: np.ndarray
    """uint32: as ``values``."""
    ids: np.ndarray
    """uint8."""
    latencies: np.ndarray
    """float64."""
    features: np.ndarray
    """float64."""
    classes: np.ndarray
    """int64: codes of classes."""
    series: np.ndarray
    """int64: series of each feature of a head, -1 where it is left out."""
    counted: np.ndarray
    """uint8 [rows of the poll]: set by `fold` for predictions that are no duplicates."""


class Pending(NamedTuple):
    """Rows that wait, of all models."""

    rows: np.ndarray
    """int64 [chunks * 64, ROW_COLUMNS]."""
    chunks: np.ndarray
    """int64 [chunks, CHUNK_COLUMNS]: whose a chunk is, its number within the model, the chunk after it."""
    touched: np.ndarray
    """uint8 [chunks]: changed since its cell was last written."""
    free: np.ndarray
    """int64 [chunks]: stack of chunks that nobody has."""
    table: np.ndarray
    """int64 [power of two]: see `_table`."""
    gone: np.ndarray
    """int64 [n, 2]: model and number of chunks that left."""
    counts: np.ndarray
    """int64 [3]: chunks on the stack, entries of the table, entries of ``gone``."""

    @classmethod
    def make(cls) -> "Pending":
        """Make room for a few rows."""
        chunks = 16
        return cls(
            rows=np.zeros((chunks * CHUNK_ROWS, ROW_COLUMNS), np.int64),
            chunks=np.zeros((chunks, CHUNK_COLUMNS), np.int64),
            touched=np.zeros(chunks, np.uint8),
            free=np.arange(chunks)[::-1].copy(),
            table=np.zeros(4 * chunks * CHUNK_ROWS, np.int64),
            gone=np.zeros((64, 2), np.int64),
            counts=np.array([chunks, 0, 0], np.int64),
        )

    def reserve(self, rows: int, models: int) -> "Pending":
        """Make sure that so many rows of so many models find room, and whatever may leave for them."""
        used = len(self.chunks) - int(self.counts[0])
        pending = self
        wanted = rows // CHUNK_ROWS + 2 * models
        if self.counts[0] < wanted:
            before = len(self.chunks)
            after = max(2 * before, before + wanted)
            free = np.concatenate([np.arange(before, after)[::-1], self.free[: self.counts[0]]])
            pending = pending._replace(
                rows=grown(self.rows, after * CHUNK_ROWS),
                chunks=grown(self.chunks, after),
                touched=grown(self.touched, after),
                free=grown(free, after),
            )
            self.counts[0] = len(free)
        entries = int(self.counts[1]) + rows
        if 2 * entries > len(self.table):
            table = np.zeros(1 << (4 * entries - 1).bit_length(), np.int64)
            rehash(self.table, table)
            pending = pending._replace(table=table)
        if len(self.gone) < used + rows:
            pending = pending._replace(gone=np.zeros((2 * (used + rows), 2), np.int64))
        return pending


class Windows(NamedTuple):
    """Windows that are open, of all models, families and sizes."""

    sizes: np.ndarray
    """int64 [sizes]: microseconds, ascending."""
    open: np.ndarray
    """int64 [models, 2, sizes, ring]: where an open window's accumulators lie, or -1."""
    first: np.ndarray
    """int64 [models, 2, sizes]: start of the earliest open window, or ALWAYS."""
    waiting: np.ndarray
    """int64 [models, sizes, PENDING_COLUMNS]: counts for the next report."""
    ints: np.ndarray
    """int64 [windows, ACCUMULATED]."""
    floats: np.ndarray
    """float64 [windows, ACCUMULATED_FLOATS]."""
    sketches: np.ndarray
    """uint32 [windows, BUCKETS]: latencies; zero where no service window is open."""
    free: np.ndarray
    """int64 [windows]: stack of windows that are not open."""
    counts: np.ndarray
    """int64 [1]: windows on the stack."""

    @classmethod
    def make(cls, sizes: np.ndarray, ring: int, models: int) -> "Windows":
        """Make room for so many models."""
        windows = 16
        return cls(
            sizes=sizes,
            open=np.full((models, 2, len(sizes), ring), -1),
            first=np.full((models, 2, len(sizes)), ALWAYS),
            waiting=np.zeros((models, len(sizes), PENDING_COLUMNS), np.int64),
            ints=np.zeros((windows, ACCUMULATED), np.int64),
            floats=np.zeros((windows, ACCUMULATED_FLOATS)),
            sketches=np.zeros((windows, BUCKETS), np.uint32),
            free=np.arange(windows)[::-1].copy(),
            counts=np.array([windows], np.int64),
        )

    def with_ring(self, ring: int) -> "Windows":
        """Make room for more open windows of a size."""
        made = self._replace(open=np.full((*self.open.shape[:3], ring), -1))
        for model, family, size, k in np.argwhere(self.open >= 0).tolist():
            at = self.open[model, family, size, k]
            made.open[model, family, size, (self.ints[at, A_START] // self.sizes[size]) % ring] = at
        return made

    def for_models(self, models: int) -> "Windows":
        """Make room for more models."""
        return self._replace(
            open=grown(self.open, models, -1),
            first=grown(self.first, models, ALWAYS),
            waiting=grown(self.waiting, models),
        )

    def reserve(self, windows: int) -> "Windows":
        """Make sure that so many windows can open."""
        if self.counts[0] >= windows:
            return self
        before = len(self.ints)
        after = max(2 * before, before + windows)
        free = np.concatenate([np.arange(before, after)[::-1], self.free[: self.counts[0]]])
        self.counts[0] = len(free)
        return self._replace(
            ints=grown(self.ints, after),
            floats=grown(self.floats, after),
            sketches=grown(self.sketches, after),
            free=grown(free, after),
        )


class Lasts(NamedTuple):
    """Blocks of the last pairs: block ``number`` of a model lies at ``number % BLOCKS``."""

    ints: np.ndarray
    """int64 [models, BLOCKS, ACCUMULATED]."""
    floats: np.ndarray
    """float64 [models, BLOCKS, ACCUMULATED_FLOATS]."""

    @classmethod
    def make(cls, models: int) -> "Lasts":
        """Make room for so many models."""
        shape = (models, BLOCKS)
        return cls(ints=np.zeros((*shape, ACCUMULATED), np.int64), floats=np.zeros((*shape, ACCUMULATED_FLOATS)))


class Series(NamedTuple):
    """Series of numbers, of all models, before their detectors."""

    values: np.ndarray
    """float64 [series, SERIES_COLUMNS]; counts are whole numbers below 2**53."""
    history: np.ndarray
    """float64 [series, HISTORY]."""
    group: np.ndarray
    """int64 [series]: the group of series that shares its cell; -1 for an error series."""
    touched: np.ndarray
    """uint8 [groups]."""
    members: np.ndarray
    """int64 [groups, GROUP]: series of a group in order, -1 where there is none yet."""

    @classmethod
    def make(cls) -> "Series":
        """Make room for a few series."""
        return cls(
            values=np.zeros((64, SERIES_COLUMNS)),
            history=np.zeros((64, HISTORY)),
            group=np.full(64, -1),
            touched=np.zeros(16, np.uint8),
            members=np.full((16, GROUP), -1),
        )


class Emitted(NamedTuple):
    """What a poll's kernels found, to be made into outputs."""

    ints: np.ndarray
    """int64 [capacity, EMITTED]."""
    floats: np.ndarray
    """float64 [capacity, EMITTED_FLOATS]."""
    counts: np.ndarray
    """int64 [1]: emissions made."""

    @classmethod
    def make(cls, capacity: int) -> "Emitted":
        """Make room for so many emissions."""
        return cls(np.zeros((capacity, EMITTED), np.int64), np.zeros((capacity, EMITTED_FLOATS)), np.zeros(1, np.int64))

    def larger(self) -> "Emitted":
        """Make room for twice as many."""
        return Emitted(grown(self.ints, 2 * len(self.ints)), grown(self.floats, 2 * len(self.floats)), self.counts)
