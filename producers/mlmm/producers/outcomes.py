"""Labels and failures on their way: collected by the call, packed into blocks by the emitter's thread."""

import struct
from array import array
from collections.abc import Iterator
from itertools import count
from math import nan

from mlmm.events import FailureBlock, FailureHead, LabelBlock, LabelHead
from mlmm.producers.columns import by_shard, classes_of, ids_of, optional, shares
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
        self._ids: list[str] = []
        self._rows: list[bytes] = []
        self._values: list[str | None] = []
        self.size = 0

    def add(self, prediction_id: str, time: int, value: float | str, weight: float | None) -> bool:
        """Take a label; False when there is no room.

        Raises
        ------
        struct.error
            When value or weight is no number (a value may be a string).
        """
        text = value if isinstance(value, str) else None
        row = _label_row(time, 0.0 if text is not None else value, nan if weight is None else weight)
        return self.add_many([prediction_id], [row], [text])

    def add_many(self, ids: list[str], rows: list[bytes], texts: list[str | None]) -> bool:
        """Take labels, all or none; False when there is no room. ``texts`` has None where the value is a number."""
        size = self.size_of(ids, texts)
        intake = self.intake
        with intake.lock:
            if intake.closed or not intake.has_room(len(ids), size):
                return False
            intake.take_in(self, len(ids), size)
            self.size += size
            self._ids += ids
            self._rows += rows
            self._values += texts
        if intake.asleep:
            intake.wake()
        return True

    def size_of(self, ids: list[str], texts: list[str | None]) -> int:
        """Estimate the bytes of labels."""
        return _OVERHEAD * len(ids) + sum(map(len, ids)) + sum(len(text) for text in texts if text)

    def take(self) -> "_LabelBatch | None":
        """Hand over what was collected."""
        if not self._ids:
            self._begin()
            return None
        batch = _LabelBatch(self, self.size, self._ids, self._rows, self._values)
        self._begin()
        return batch


class _LabelBatch:
    def __init__(
        self, stack: LabelStack, size: int, ids: list[str], rows: list[bytes], values: list[str | None]
    ) -> None:
        self.n = len(ids)
        self.size = size
        self._stack = stack
        self._ids = ids
        self._rows = rows
        self._values = values

    def pack(self, batch_events: int, batch_bytes: int, source: str) -> Iterator[Packed]:
        """Make records, one a step."""
        model = self._stack.head.model
        for first, end, size in slices(self.n, self.size, batch_events, batch_bytes):
            parts = list(by_shard(model, self._ids[first:end], self._stack.shards))
            for (key, places), share in zip(parts, shares(size, [len(places) for _, places in parts]), strict=True):
                part = self._select([first + i for i in places])
                yield from pack_block(
                    part.block, 0, part.n, share, topic="serving", key=key, type_=_LABELS, source=source
                )

    def _select(self, places: list[int]) -> "_LabelBatch":
        ids, rows, values = ([column[i] for i in places] for column in (self._ids, self._rows, self._values))
        return _LabelBatch(self._stack, 0, ids, rows, values)  # type: ignore[arg-type]

    def block(self, first: int, end: int) -> LabelBlock:
        """Make a block of the events ``first`` to ``end``."""
        cells = array("d")
        cells.frombytes(b"".join(self._rows[first:end]))
        time, value, weight = (cells[i::3].tobytes() for i in range(3))
        ids, id_lengths = ids_of(self._ids[first:end])
        texts = self._values[first:end]
        classes: tuple[str | float, ...] = ()
        if any(text is not None for text in texts):
            numbers = cells[1::3]
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
        self.size = 0

    @staticmethod
    def size_of(kind: str, message: str) -> int:
        """Estimate the bytes of one failure."""
        return _FAILURE + len(kind) + len(message)

    def add(self, time: int, kind: str, message: str, status: int | None, latency: float | None) -> bool:
        """Take a failure; False when there is no room."""
        size = self.size_of(kind, message)
        intake = self.intake
        with intake.lock:
            if intake.closed or not intake.has_room(1, size):
                return False
            intake.take_in(self, 1, size)
            self.size += size
            self._rows.append(
                (time, kind, message, -1 if status is None else status, nan if latency is None else latency)
            )
        if intake.asleep:
            intake.wake()
        return True

    def take(self) -> "_FailureBatch | None":
        """Hand over what was collected."""
        if not self._rows:
            self._begin()
            return None
        batch = _FailureBatch(self, self.size, self._rows)
        self._begin()
        return batch


class _FailureBatch:
    def __init__(self, stack: FailureStack, size: int, rows: list[tuple[int, str, str, int, float]]) -> None:
        self.n = len(rows)
        self.size = size
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
