"""From the records of a poll to columns: decode, refuse what is malformed, find models and their series."""

from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from mlmm.events import Block, MalformedEvent, code_of, decode_blocks, header
from mlmm.runtime.processor import Record

from ._arrays import Batch
from ._fields import (
    B_CLASSES,
    B_FEATURES,
    B_IDS,
    B_KIND,
    B_LATENCY,
    B_LOG,
    B_MODEL,
    B_PLACE,
    B_POSITIVE,
    B_ROWS,
    B_SERIES,
    B_TASK,
    B_TIMES,
    B_VALUES,
    B_WIDTH,
    BLOCK_COLUMNS,
    FAILURES,
    LABELS,
    PREDICTIONS,
    TASKS,
    TICK,
)
from ._models import Growing, Model, Models

__all__ = ["Intake", "Poll"]

_TYPES = {
    b"mlmm.predictions.v1": ("mlmm.predictions.v1", PREDICTIONS),
    b"mlmm.labels.v1": ("mlmm.labels.v1", LABELS),
    b"mlmm.failures.v1": ("mlmm.failures.v1", FAILURES),
}
_CONTENT = {kind.encode(): kind for kind in ("application/json", "application/vnd.mlmm.columns+msgpack")}
_TICK = b"mlmm.tick.v1"
_ACKED = b"mlmm.command.acked.v1"
_KEPT = 1 << 18
"""Codes of classes that are kept between polls."""
_KEPT_CHARACTERS = 4 << 20
"""Characters of classes that are kept between polls."""
_FACTS = 8
"""What Python notes of each block; all else follows from it, for all blocks of a poll at once."""


class Poll(NamedTuple):
    """A poll, ready for the kernels."""

    batch: Batch
    order: np.ndarray
    """int64: blocks that hold feature values, by model, then as they came."""
    rows: int
    models: int
    """At most so many models have events in it."""
    records: list[int]
    """Of each block its record's place in the poll."""
    dead: list[tuple[int, MalformedEvent]]
    """Records that do not keep the contract, by place in the poll."""
    acked: list[int]
    """Records that hold acknowledgements."""


def _signed(code: int) -> int:
    return code - (1 << 64) if code >> 63 else code


def _latest(block: Block) -> int:
    if block.n == 1:
        return int.from_bytes(block.time, "little", signed=True)
    if block.n < 64:
        return max(memoryview(block.time).cast("q"))
    return int(np.frombuffer(block.time, "<i8").max())


class Intake:
    """Turns polls into columns.

    Parameters
    ----------
    models : Models
        Finds models and the series of their features, and makes them.
    ahead : int
        Microseconds by which an event's time may exceed its record's log time.
    """

    def __init__(self, models: Models, ahead: int) -> None:
        self._models = models
        self._ahead = ahead
        self._codes = Growing()
        self._starts: dict[tuple[Any, ...], int] = {}
        self._characters = 0

    def __call__(self, records: Sequence[Record]) -> Poll:
        """Decode a poll. A record is taken whole or not at all."""
        columns = _Columns()
        dead: list[tuple[int, MalformedEvent]] = []
        acked: list[int] = []
        owners: list[int] = []
        find = self._models.get
        for place, (_, log_time, key, value, headers) in enumerate(records):
            try:
                (first, ce_type), (second, content) = headers[0], headers[1]
            except (IndexError, ValueError):
                first = second = ""
            if first != "ce_type" or second != "content-type":
                ce_type = header(headers, "ce_type") or b""
                content = header(headers, "content-type") or b""
            known = _TYPES.get(ce_type)
            if known is None:
                if ce_type == _TICK:
                    columns.facts.extend((TICK, 0, 1, log_time, 0, 0, -1, 0))
                    owners.append(place)
                elif ce_type == _ACKED:
                    acked.append(place)
                else:
                    dead.append((place, MalformedEvent(f"{ce_type!r} is no type of this topic", field="ce_type")))
                continue
            type_, kind = known
            try:
                blocks = decode_blocks(
                    type_, _CONTENT.get(content) or (content or b"").decode("utf-8", "replace"), value, key=key
                )
                for block in blocks:
                    if _latest(block) > log_time + self._ahead:
                        self._refuse(block, log_time)
                model = find(key) or self._make(key, blocks[0].head)
            except MalformedEvent as error:
                dead.append((place, error))
                continue
            for block in blocks:
                self._take(columns, kind, block, model, log_time)
                owners.append(place)
        return columns.poll(self._codes.array(), self._models, owners, dead, acked)

    def _refuse(self, block: Block, log_time: int) -> NoReturn:
        raise MalformedEvent(
            f"{_latest(block)} is more than {self._ahead / 1e6:g} s ahead of the log's {log_time}", field="time"
        )

    def _make(self, key: bytes, head: Any) -> Model:
        return self._models.make(key, head.model)

    def _take(self, columns: "_Columns", kind: int, block: Any, model: Model, log_time: int) -> None:
        """Note one block: its facts, and its buffers as they are."""
        columns.times.append(block.time)
        if kind == FAILURES:
            columns.facts.extend((FAILURES, model.slot, block.n, log_time, 0, block.latency != b"", -1, 0))
            if block.latency:
                columns.latencies.append(block.latency)
            return
        classes = self._classes(block.classes) if block.classes else -1
        ids = block.ids
        columns.ids.append(ids)
        columns.lengths.append(block.id_lengths)
        if kind == LABELS:
            columns.facts.extend((LABELS, model.slot, block.n, log_time, len(ids), 0, classes, 0))
            columns.values.append(block.value)
            return
        head = model.heads.get(block.head)
        if head is None:
            head = self._head(model, block.head)
        latency = block.latency
        if latency:
            columns.latencies.append(latency)
            columns.facts.extend((PREDICTIONS, model.slot, block.n, log_time, len(ids), 1, classes, head))
        else:
            columns.facts.extend((PREDICTIONS, model.slot, block.n, log_time, len(ids), 0, classes, head))
        columns.values.append(block.output)
        columns.features.append(block.features)

    def _head(self, model: Model, head: Any) -> int:
        return self._models.head(model, head, TASKS[head.task], _signed(code_of(head.positive)))

    def _classes(self, classes: tuple[Any, ...]) -> int:
        # Equal tuples have equal codes: 1, 1.0 and True are one class.
        start = self._starts.get(classes)
        if start is None:
            start = self._starts[classes] = len(self._codes)
            self._codes.extend([_signed(code_of(each)) for each in classes])
            self._characters += sum(len(each) for each in classes if isinstance(each, str))
        return start

    def forget(self) -> None:
        """Between polls: let go of what was kept for speed when it has become too much."""
        if len(self._codes) > _KEPT or self._characters > _KEPT_CHARACTERS:
            self._codes = Growing()
            self._starts.clear()
            self._characters = 0
        self._models.forget()


class _Columns:
    """The columns of a poll being gathered."""

    def __init__(self) -> None:
        self.facts = array("q")
        """Of each block: kind, model, rows, log time, bytes of ids, whether latencies were given, classes, head."""
        self.times: list[bytes] = []
        self.values: list[bytes] = []
        self.lengths: list[bytes] = []
        self.ids: list[bytes] = []
        self.latencies: list[bytes] = []
        self.features: list[bytes] = []

    def poll(
        self,
        codes: np.ndarray,
        models: Models,
        owners: list[int],
        dead: list[tuple[int, MalformedEvent]],
        acked: list[int],
    ) -> Poll:
        """Put the buffers one behind the other and say where each block's part of them begins."""
        facts = np.frombuffer(self.facts, np.int64) if self.facts else np.zeros(0, np.int64)
        kind, model, rows, log_time, id_bytes, latency, classes, head = facts.reshape(-1, _FACTS).T
        predictions = kind == PREDICTIONS
        heads = (
            models.described.array().reshape(-1, 4)[head] if len(models.described) else np.zeros((len(kind), 4), int)
        )
        blocks = np.zeros((len(kind), BLOCK_COLUMNS), np.int64)
        blocks[:, B_KIND] = kind
        blocks[:, B_MODEL] = model
        blocks[:, B_ROWS] = rows
        blocks[:, B_LOG] = log_time
        blocks[:, B_CLASSES] = classes
        blocks[:, (B_TASK, B_POSITIVE, B_SERIES, B_WIDTH)] = heads * predictions[:, None]
        blocks[:, B_PLACE] = _starts(rows)
        blocks[:, B_TIMES] = _starts(rows * (kind != TICK))
        blocks[:, B_VALUES] = _starts(rows * (kind <= LABELS))
        blocks[:, B_IDS] = _starts(id_bytes)
        blocks[:, B_LATENCY] = np.where(latency, _starts(rows * latency), -1)
        features = np.zeros(0) if not blocks[:, B_WIDTH].any() else _joined(self.features, np.float64)
        blocks[:, B_FEATURES] = _starts(rows * blocks[:, B_WIDTH])
        watched = np.flatnonzero(blocks[:, B_WIDTH])
        if len(watched) > 1:
            of = model[watched]
            if (of != of[0]).any():
                watched = watched[np.argsort(of, kind="stable")]
        batch = Batch(
            blocks=blocks,
            times=_joined(self.times, np.int64),
            values=_joined(self.values, np.float64),
            id_lengths=_joined(self.lengths, np.uint32),
            ids=_joined(self.ids, np.uint8),
            latencies=_joined(self.latencies, np.float64),
            features=features,
            classes=codes,
            series=models.table.array(),
            counted=np.zeros(int(rows.sum()), np.uint8),
        )
        return Poll(batch, watched, len(batch.counted), len(blocks), owners, dead, acked)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.cumsum(lengths) - lengths  # type: ignore[no-any-return]


_join: Callable[[list[bytes]], bytearray] = bytearray().join


def _joined(parts: list[bytes], dtype: Any) -> np.ndarray:
    # A bytearray, so that arrays are writable: numba would compile every kernel once more for those that are not.
    return np.frombuffer(_join(parts), dtype) if parts else np.zeros(0, dtype)
