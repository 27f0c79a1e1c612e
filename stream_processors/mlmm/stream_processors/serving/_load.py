"""Cells into state: all that is read is checked, since a Redis that others can write to is not to be believed."""

from collections.abc import Mapping
from struct import Struct, error
from typing import Any, NoReturn

import msgspec
import numpy as np

from . import _fields as f
from ._cells import NAMES_LAYOUT
from ._fold import due
from ._models import Model, Models
from ._pack import LAYOUT, unpack_series
from ._rows import insert_rows
from ._sketch import BUCKETS
from ._store import Store
from ._windows import window_at

__all__ = ["load"]

_u32 = Struct("<I")
_i64 = Struct("<q")
_pair = Struct("<II")
_strings = msgspec.msgpack.Decoder(list[str])


def load(cells: Mapping[bytes, bytes], cfg: f.Config, store: Store, models: Models) -> None:
    """Make an empty state what its cells say.

    Raises
    ------
    ValueError
        Naming the cell whose layout is unknown or whose bytes are damaged.
    """
    kinds: dict[bytes, list[bytes]] = {b"m": [], b"n": [], b"s": [], b"r": []}
    for name, cell in sorted(cells.items()):
        if name[:1] not in kinds:
            _damaged(name, "is of no known kind")
        if cell[:1] != NAMES_LAYOUT:
            _damaged(name, f"has layout {cell[0] if cell else 'none'}, this version reads {LAYOUT}")
        kinds[name[:1]].append(name)
    for name in kinds[b"n"]:
        _names(name, cells[name], models)
    for name in kinds[b"m"]:
        _model(name, cells[name], cfg, store, _owner(models, name, name[1:]))
    for name in kinds[b"s"]:
        _group(name, cells[name], store, models)
    for name in kinds[b"r"]:
        _chunk(name, cells[name], store, models)
    for model in models:
        if b"m" + model.key not in cells:
            _damaged(b"n" + model.key, "belongs to a model that has no cell")
        _check_rows(b"m" + model.key, store, model)
        store.models[model.slot, f.M_DUE] = due(cfg, store.pending, store.models, model.slot)
    store.touched[:] = 0
    store.series.touched[:] = 0
    store.pending.touched[:] = 0


_LATEST = 1 << 60
"""Microseconds, the year 38,500: sums with a time before it stay far from `ALWAYS`, at which no window is open."""


def _damaged(name: bytes, why: str) -> NoReturn:
    raise ValueError(f"cell {name!r} {why}")


def _owner(models: Models, name: bytes, key: bytes) -> Model:
    model = models.get(key)
    if model is None:
        _damaged(name, "belongs to a model that has no names")
    return model


class _Reader:
    """Takes fields off a cell, one after the other."""

    def __init__(self, cell: bytes) -> None:
        self.cell = cell
        self.at = 1

    def count(self, most: int) -> int:
        (value,) = _u32.unpack_from(self.cell, self.at)
        self.at += 4
        if value > most:
            raise ValueError(f"counts {value} where at most {most} can be")
        return int(value)

    def ints(self, count: int) -> np.ndarray:
        return self._array(np.int64, count)

    def floats(self, count: int) -> np.ndarray:
        return self._array(np.float64, count)

    def _array(self, dtype: Any, count: int) -> np.ndarray:
        values: np.ndarray = np.frombuffer(self.cell, dtype, count, self.at)
        self.at += 8 * count
        return values


def _names(name: bytes, cell: bytes, models: Models) -> None:
    try:
        own, *features = _strings.decode(memoryview(cell)[1:])
    except (msgspec.MsgspecError, ValueError) as damage:
        _damaged(name, f"is damaged: {damage}")
    model = models.restore(name[1:], own)
    for feature in features:
        models.restore_feature(model, feature)
    if len(model.features) != len(features):
        _damaged(name, "names a feature twice")
    model.named = True


def _model(name: bytes, cell: bytes, cfg: f.Config, store: Store, model: Model) -> None:
    reader = _Reader(cell)
    try:
        store.models[model.slot, : f.M_KEPT] = _kept(reader)
        for _ in range(reader.count(1 << 16)):
            _size(reader, store, model.slot)
        for _ in range(reader.count(f.BLOCKS)):
            _block(reader, store, model.slot)
    except (ValueError, error) as damage:
        _damaged(name, f"is damaged: {damage}")
    if store.models[model.slot, f.M_BLOCK] != cfg.block:
        _restart_last(cfg, store, model.slot)
    series = int(store.models[model.slot, f.M_ERROR_SERIES])
    end = unpack_series(
        store.series, store.adwin, store.page_hinkley, series, np.frombuffer(bytearray(cell), np.uint8), reader.at
    )
    if end != len(cell):
        _damaged(name, "is damaged: the error series does not end where the cell does")


def _kept(reader: _Reader) -> np.ndarray:
    columns = reader.ints(f.M_KEPT)
    if not all(f.NEVER <= time < _LATEST for time in columns[f.M_WATERMARK : f.M_LAST_LOG_1 + 1].tolist()):
        raise ValueError("it holds a time that is none")
    return columns


def _size(reader: _Reader, store: Store, slot: int) -> None:
    length = int(reader.ints(1)[0])
    sizes = store.windows.sizes.tolist()
    waiting = reader.ints(f.PENDING_COLUMNS)
    known = length in sizes
    size = sizes.index(length) if known else -1
    if known:
        store.windows.waiting[slot, size] = waiting
    for family in (f.SERVICE, f.PERFORMANCE):
        for _ in range(reader.count(1 << 20)):
            at = _open(
                store, slot, family, size, reader.ints(f.ACCUMULATED), reader.floats(f.ACCUMULATED_FLOATS), known=known
            )
            for _ in range(reader.count(BUCKETS) if family == f.SERVICE else 0):
                bucket, count = _pair.unpack_from(reader.cell, reader.at)
                reader.at += 8
                if bucket >= BUCKETS:
                    raise ValueError(f"bucket {bucket} of {BUCKETS}")
                if at >= 0:
                    store.windows.sketches[at, bucket] = count


def _open(  # noqa: PLR0917 - one call, in the order of the cell
    store: Store, slot: int, family: int, size: int, ints: np.ndarray, floats: np.ndarray, *, known: bool
) -> int:
    """Open a window that was open; -1 for one of a size that the settings no longer have: it is given up."""
    if not known:
        return -1
    store.windows = windows = store.windows.reserve(1)
    length = int(windows.sizes[size])
    start = int(ints[f.A_START])
    k = (start // length) % windows.open.shape[3]
    if start % length or not 0 <= start < _LATEST or window_at(windows, slot, family, size, start) >= 0:
        raise ValueError(f"a window of {length} microseconds starts at {start}")
    while windows.open[slot, family, size, k] >= 0:  # serving.allowed_lateness was longer
        store.windows = windows = windows.with_ring(2 * windows.open.shape[3])
        k = (start // length) % windows.open.shape[3]
    if family == f.SERVICE and not (0 <= ints[f.A_LOWEST] <= BUCKETS and -1 <= ints[f.A_HIGHEST] < BUCKETS):
        raise ValueError("buckets of a sketch out of bounds")
    windows.counts[0] -= 1
    at = int(windows.free[windows.counts[0]])
    windows.ints[at] = ints
    windows.floats[at] = floats
    windows.open[slot, family, size, k] = at
    windows.first[slot, family, size] = min(int(windows.first[slot, family, size]), start)
    end = f.M_FIRST_END + family
    store.models[slot, end] = min(int(store.models[slot, end]), start + length)
    return at


def _block(reader: _Reader, store: Store, slot: int) -> None:
    ints = reader.ints(f.ACCUMULATED)
    floats = reader.floats(f.ACCUMULATED_FLOATS)
    number = int(ints[f.A_START])
    if not 0 <= number * int(store.models[slot, f.M_BLOCK]) < store.models[slot, f.M_PAIRS]:
        raise ValueError(f"block {number} of the last pairs")
    store.lasts.ints[slot, number % f.BLOCKS] = ints
    store.lasts.floats[slot, number % f.BLOCKS] = floats


def _restart_last(cfg: f.Config, store: Store, slot: int) -> None:
    """Begin the last pairs anew, since the settings want other blocks: ordinals jump beyond all that were given."""
    number = int(store.models[slot, f.M_PAIRS]) // cfg.block + f.BLOCKS + 1
    store.models[slot, f.M_PAIRS] = number * cfg.block
    store.models[slot, f.M_BLOCK] = cfg.block
    for k in range(number - f.BLOCKS, number):
        ints = store.lasts.ints[slot, k % f.BLOCKS]
        ints[:] = 0
        ints[f.A_START] = k
        ints[f.A_FIRST] = f.ALWAYS
        store.lasts.floats[slot, k % f.BLOCKS] = 0.0


def _group(name: bytes, cell: bytes, store: Store, models: Models) -> None:
    model = _owner(models, name, name[5:])
    number = int.from_bytes(name[1:5], "big")
    if number >= len(model.groups):
        _damaged(name, "has no feature names")
    members = store.series.members[model.groups[number]]
    members = members[members >= 0]
    if len(cell) < 5 or _u32.unpack_from(cell, 1)[0] != len(members):
        _damaged(name, f"does not hold {len(members)} series")
    buffer = np.frombuffer(bytearray(cell), np.uint8)
    at = 5
    for series in members.tolist():
        at = unpack_series(store.series, store.adwin, store.page_hinkley, series, buffer, at)
        if at < 0:
            _damaged(name, "is damaged")
    if at != len(cell):
        _damaged(name, "is longer than its series")


def _chunk(name: bytes, cell: bytes, store: Store, models: Models) -> None:
    model = _owner(models, name, name[9:])
    number = int.from_bytes(name[1:9], "big")
    first, count = (cell[1], cell[2]) if len(cell) >= 8 else (0, 0)
    if not count or first + count > f.CHUNK_ROWS or len(cell) != 8 + 8 * f.ROW_COLUMNS * count:
        _damaged(name, "is damaged")
    store.pending = pending = store.pending.reserve(count, 1)
    facts = store.models[model.slot]
    start = (number << f.CHUNK_SHIFT) + first
    oldest = int(facts[f.M_NEXT_ROW] - facts[f.M_ROWS])
    if start < oldest or start + count > facts[f.M_NEXT_ROW]:
        _damaged(name, "holds rows that its model does not have")
    pending.counts[0] -= 1
    chunk = int(pending.free[pending.counts[0]])
    pending.chunks[chunk] = (model.slot, number, 0)
    at = (chunk << f.CHUNK_SHIFT) + first
    rows = np.frombuffer(cell, np.int64, offset=8).reshape(count, f.ROW_COLUMNS)
    pending.rows[at : at + count] = rows
    insert_rows(pending, model.slot, at, count)
    # Names sort by number, then key: a model's chunks come in order, but others' lie between them.
    if start == oldest:
        facts[f.M_HEAD] = at
    elif (
        facts[f.M_TAIL] < 0
        or first
        or int(pending.chunks[facts[f.M_TAIL] >> f.CHUNK_SHIFT, f.CHUNK_NUMBER]) != number - 1
    ):
        _damaged(name, "does not follow on the chunk before it")
    if facts[f.M_TAIL] >= 0:
        pending.chunks[facts[f.M_TAIL] >> f.CHUNK_SHIFT, f.CHUNK_NEXT] = chunk
    facts[f.M_TAIL] = at + count - 1


def _check_rows(name: bytes, store: Store, model: Model) -> None:
    facts = store.models[model.slot]
    tail = int(facts[f.M_TAIL])
    if not facts[f.M_ROWS]:
        return
    last = -1
    if tail >= 0:
        number = int(store.pending.chunks[tail >> f.CHUNK_SHIFT, f.CHUNK_NUMBER])
        last = (number << f.CHUNK_SHIFT) + (tail & (f.CHUNK_ROWS - 1))
    if last != facts[f.M_NEXT_ROW] - 1:
        _damaged(name, f"has {facts[f.M_ROWS]} rows, but not all of their cells are there")
