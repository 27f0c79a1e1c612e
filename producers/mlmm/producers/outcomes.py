"""Labels and failures on their way: collected by the call, packed into blocks by the emitter's thread."""

import struct
from array import array
from collections.abc import Iterator
from itertools import chain, count
from math import nan
from typing import Any

from mlmm.events import FailureBlock, FailureHead, LabelBlock, LabelHead
from mlmm.producers.columns import by_shard, classes_of, ids_of, let_go, optional, shares
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed, pack_block, slices

__all__ = ["FailureStack", "LabelStack"]

_LABELS = "mlmm.labels.v1"
_FAILURES = "mlmm.failures.v1"
_label_row = struct.Struct("<q2d").pack
_OVERHEAD = 33 + 24 + 49 + 2 * 8
"""Bytes of a label beside its id: a row, two object headers and their places in lists."""
_FAILURE = 200
"""Bytes of a failure beside its strings."""


class LabelStack:
    """Collects labels of one model.

    Parameters
    ----------
    intake : Intake
    model : str
    shards : int
        Shards of the model's key.
    """

    rank = 3

    def __init__(self, intake: Intake, model: str, *, shards: int = 1) -> None:
        self.intake = intake
        self.head = LabelHead(model=model)
        self.shards = shards
        self._begin()

    def _begin(self) -> None:
        # Id, row and text of one label after the other: see PredictionStack.
        self._cells: list[Any] = []
        self._waiting = False

    def add(self, prediction_id: str, time: int, value: float | str, weight: float | None) -> bool:
        """Take a label; False when there is no room.

        Raises
        ------
        struct.error
            When value or weight is no number (a value may be a string).
        """
        text = value if isinstance(value, str) else None
        row = _label_row(time, 0.0 if text is not None else value, nan if weight is None else weight)
        size = _OVERHEAD + len(prediction_id) + (len(text) if text else 0)
        return self._hold((prediction_id, row, text), 1, size)

    def add_many(self, ids: list[str], rows: list[bytes], texts: list[str | None]) -> bool:
        """Take labels, all or none; False when there is no room. ``texts`` has None where the value is a number."""
        cells = tuple(chain.from_iterable(zip(ids, rows, texts, strict=True)))
        return self._hold(cells, len(ids), self.size_of(ids, texts))

    def _hold(self, cells: tuple[Any, ...], n: int, size: int) -> bool:
        intake = self.intake
        with intake.lock:
            if intake.closed or not intake.has_room(n, size):
                return False
            intake.take_in(n, size)
            self._cells.extend(cells)
            if not self._waiting:
                self._waiting = True
                intake.dirty.append(self)
        if intake.asleep:
            intake.wake()
        return True

    def size_of(self, ids: list[str], texts: list[str | None]) -> int:
        """Estimate the bytes of labels."""
        return _OVERHEAD * len(ids) + sum(map(len, ids)) + sum(len(text) for text in texts if text)

    def take(self) -> "_LabelBatch | None":
        """Hand over what was collected."""
        cells = self._cells
        self._begin()
        return _LabelBatch(self, cells) if cells else None


class _LabelBatch:
    def __init__(self, stack: LabelStack, cells: list[Any]) -> None:
        self.n = len(cells) // 3
        self._stack = stack
        self._cells = cells

    @property
    def size(self) -> int:
        """Bytes that they take in the queue: the sum of what each call counted."""
        return self._stack.size_of(self._cells[0::3], self._cells[2::3])

    def pack(self, batch_events: int, batch_bytes: int, source: str) -> Iterator[Packed]:
        """Make records, one a step."""
        model = self._stack.head.model
        for first, end, size in slices(self.n, self.size, batch_events, batch_bytes):
            cells = self._cells[3 * first : 3 * end]
            parts = list(by_shard(model, cells[0::3], self._stack.shards))
            for (key, places), share in zip(parts, shares(size, [len(places) for _, places in parts]), strict=True):
                part = _LabelBatch(self._stack, [cell for i in places for cell in cells[3 * i : 3 * i + 3]])
                yield from pack_block(
                    part.block, 0, part.n, share, topic="serving", key=key, type_=_LABELS, source=source
                )
            del part, cells
            let_go([self._cells], 3 * first, 3 * end)

    def block(self, first: int, end: int) -> LabelBlock:
        """Make a block of the events ``first`` to ``end``."""
        cells = self._cells[3 * first : 3 * end]
        rows, texts = array("d"), cells[2::3]
        rows.frombytes(b"".join(cells[1::3]))
        time, value, weight = (rows[i::3].tobytes() for i in range(3))
        ids, id_lengths = ids_of(cells[0::3])
        classes: tuple[str | float, ...] = ()
        if any(text is not None for text in texts):
            numbers = rows[1::3]
            value, classes = classes_of([n if text is None else text for text, n in zip(texts, numbers, strict=True)])
        return LabelBlock(
            head=self._stack.head,
            n=end - first,
            ids=ids,
            id_lengths=id_lengths,
            time=time,
            value=value,
            classes=classes,
            weight=optional(weight, end - first),
        )


class FailureStack:
    """Collects failures of one model and version.

    Parameters
    ----------
    intake : Intake
    model : str
    version : str, optional
    shards : int
        Shards of the model's key; a failure has no id, so they take turns.
    """

    rank = 4

    def __init__(self, intake: Intake, model: str, version: str | None, *, shards: int = 1) -> None:
        self.intake = intake
        self.head = FailureHead(model=model, version=version)
        self.shards = shards
        self.turns = count()
        self._begin()

    def _begin(self) -> None:
        self._rows: list[tuple[int, str, str, int, float]] = []
        self._waiting = False

    @staticmethod
    def size_of(kind: str, message: str) -> int:
        """Estimate the bytes of one failure."""
        return _FAILURE + len(kind) + len(message)

    def add(self, time: int, kind: str, message: str, status: int | None, latency: float | None) -> bool:
        """Take a failure; False when there is no room."""
        size = self.size_of(kind, message)
        row = (time, kind, message, -1 if status is None else status, nan if latency is None else latency)
        intake = self.intake
        with intake.lock:
            if intake.closed or not intake.has_room(1, size):
                return False
            intake.take_in(1, size)
            self._rows.append(row)
            if not self._waiting:
                self._waiting = True
                intake.dirty.append(self)
        if intake.asleep:
            intake.wake()
        return True

    def take(self) -> "_FailureBatch | None":
        """Hand over what was collected."""
        rows = self._rows
        self._begin()
        return _FailureBatch(self, rows) if rows else None


class _FailureBatch:
    def __init__(self, stack: FailureStack, rows: list[tuple[int, str, str, int, float]]) -> None:
        self.n = len(rows)
        self.size = sum(stack.size_of(kind, message) for _, kind, message, _, _ in rows)
        self._stack = stack
        self._rows = rows

    def pack(self, batch_events: int, batch_bytes: int, source: str) -> Iterator[Packed]:
        """Make records, one a step."""
        for first, end, size in slices(self.n, self.size, batch_events, batch_bytes):
            model, shards = self._stack.head.model, self._stack.shards
            key = model if shards == 1 else f"{model}#{next(self._stack.turns) % shards}"
            yield from pack_block(
                self.block, first, end, size, topic="serving", key=key.encode(), type_=_FAILURES, source=source
            )
            let_go([self._rows], first, end)

    def block(self, first: int, end: int) -> FailureBlock:
        """Make a block of the events ``first`` to ``end``."""
        times, kinds, messages, status, latency = zip(*self._rows[first:end], strict=True)
        return FailureBlock(
            head=self._stack.head,
            n=end - first,
            time=array("q", times).tobytes(),
            kinds=kinds,
            messages=messages if any(messages) else (),
            status=array("q", status).tobytes() if max(status) >= 0 else b"",
            latency=optional(array("d", latency).tobytes(), end - first),
        )
