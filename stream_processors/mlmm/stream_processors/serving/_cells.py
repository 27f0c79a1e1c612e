"""Cells: which part of the state goes by which name, written when touched, read back when a partition is taken over.

A name is a kind, a number, big-endian, and the model's record key: ``m`` + key is the model; ``n`` + key its name and
its features' names; ``s`` + u32 + key a group of feature series; ``r`` + u64 + key a chunk of rows.
"""

from collections.abc import Iterable
from itertools import pairwise
from struct import Struct

import msgspec
import numpy as np

from . import _fields as f
from ._models import Model, Models
from ._pack import CHUNK_WORDS, LAYOUT, groups_room, models_room, pack_chunks, pack_groups, pack_models
from ._store import Store

__all__ = ["NAMES_LAYOUT", "Cells"]

NAMES_LAYOUT = bytes([LAYOUT])
_group_name = Struct(">cI").pack
_chunk_name = Struct(">cQ").pack


class Cells:
    """Writes cells.

    Parameters
    ----------
    cfg : Config
        What kernels need of the settings.
    store : Store
        The state.
    models : Models
        Its names.
    """

    def __init__(self, cfg: f.Config, store: Store, models: Models) -> None:
        self._cfg = cfg
        self._store = store
        self._models = models
        self._gone: set[tuple[int, int]] = set()
        # Kept between polls: fresh memory costs a page fault for every 4 KiB, more than what is written to it.
        self._room = np.zeros(1 << 16, np.int64)

    def note_gone(self) -> None:
        """After a poll: remember which chunks left, by name."""
        pending = self._store.pending
        count = int(pending.counts[2])
        if count:
            self._gone.update(map(tuple, pending.gone[:count].tolist()))
            pending.counts[2] = 0

    def changed(self) -> dict[bytes, bytes | None]:
        """Cells touched since the last call; None for one that is gone."""
        store = self._store
        cells: dict[bytes, bytes | None] = {}
        for slot, number in self._gone:
            cells[_chunk_name(b"r", number) + self._models.by_slot[slot].key] = None
        self._gone.clear()
        slots = np.flatnonzero(store.touched[: store.count])
        groups = np.flatnonzero(store.series.touched[: store.groups])
        chunks = np.flatnonzero(store.pending.touched)
        cells.update(self._write(slots, groups, chunks))
        for slot in slots.tolist():
            model = self._models.by_slot[slot]
            if not model.named:
                model.named = True
                cells[b"n" + model.key] = _names(model)
        store.touched[slots] = 0
        store.series.touched[groups] = 0
        store.pending.touched[chunks] = 0
        return cells

    def all(self) -> dict[bytes, bytes]:
        """Every cell, by name."""
        store = self._store
        used = np.ones(len(store.pending.chunks), np.bool_)
        used[store.pending.free[: store.pending.counts[0]]] = False
        cells = dict(self._write(np.arange(store.count), np.arange(store.groups), np.flatnonzero(used)))
        cells.update((b"n" + model.key, _names(model)) for model in self._models)
        return dict(sorted(cells.items()))

    def _write(self, slots: np.ndarray, groups: np.ndarray, chunks: np.ndarray) -> Iterable[tuple[bytes, bytes]]:
        store = self._store
        series = (store.series, store.adwin, store.page_hinkley)
        by_slot = self._models.by_slot
        if len(slots):
            data = self._bytes(models_room(store.windows, *series, store.models, slots))
            offsets = np.empty(len(slots) + 1, np.int64)
            pack_models(self._cfg, store.windows, store.lasts, *series, store.models, slots, data, offsets)
            yield from zip((b"m" + by_slot[slot].key for slot in slots.tolist()), _cut(data, offsets), strict=True)
        if len(groups):
            data = self._bytes(groups_room(*series, groups))
            offsets = np.empty(len(groups) + 1, np.int64)
            pack_groups(*series, groups, data, offsets)
            by_group = self._models.by_group
            names = (_group_name(b"s", by_group[g][1]) + by_group[g][0].key for g in groups.tolist())
            yield from zip(names, _cut(data, offsets), strict=True)
        if len(chunks):
            data = self._words(len(chunks) * CHUNK_WORDS)
            offsets = np.empty(len(chunks) + 1, np.int64)
            pack_chunks(store.pending, store.models, chunks, data, offsets)
            places = store.pending.chunks[chunks, : f.CHUNK_NUMBER + 1].tolist()
            names = (_chunk_name(b"r", number) + by_slot[slot].key for slot, number in places)
            yield from zip(names, _cut(data, offsets), strict=True)

    def _words(self, count: int) -> np.ndarray:
        if len(self._room) < count:
            self._room = np.zeros(2 * count, np.int64)
        return self._room

    def _bytes(self, count: int) -> np.ndarray:
        return self._words(-(-count // 8)).view(np.uint8)


def _cut(data: np.ndarray, offsets: np.ndarray) -> Iterable[bytes]:
    ends = offsets.tolist()
    whole = data.data.cast("B")
    return [bytes(whole[start:end]) for start, end in pairwise(ends)]


def _names(model: Model) -> bytes:
    return NAMES_LAYOUT + msgspec.msgpack.encode([model.name, *model.features])
