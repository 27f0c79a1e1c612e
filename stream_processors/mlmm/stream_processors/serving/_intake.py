"""From the records of a poll to columns: decode, refuse what is malformed, find models and their series."""

from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from mlmm.events import Block, FailureBlock, LabelBlock, MalformedEvent, PredictionBlock, code_of, decode_blocks, header
from mlmm.runtime.processor import Record

from ._arrays import Batch
from ._fields import B_MODEL, B_WIDTH, BLOCK_COLUMNS, FAILURES, LABELS, PREDICTIONS, TASKS, TICK
from ._models import Growing, Model, Models

__all__ = ["Intake", "Poll"]

_TYPES = {kind.encode(): kind for kind in ("mlmm.predictions.v1", "mlmm.labels.v1", "mlmm.failures.v1")}
_CONTENT = {kind.encode(): kind for kind in ("application/json", "application/vnd.mlmm.columns+msgpack")}
_TICK = b"mlmm.tick.v1"
_ACKED = b"mlmm.command.acked.v1"
_KEPT = 1 << 18
"""Codes of classes that are kept between polls."""


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

    def __call__(self, records: Sequence[Record]) -> Poll:
        """Decode a poll. A record is taken whole or not at all."""
        columns = _Columns()
        dead: list[tuple[int, MalformedEvent]] = []
        acked: list[int] = []
        owners: list[int] = []
        get = self._models.get
        for place, record in enumerate(records):
            headers = record.headers
            try:
                (first, ce_type), (second, content) = headers[0], headers[1]
            except (IndexError, ValueError):
                first = second = ""
            if first != "ce_type" or second != "content-type":
                ce_type = header(headers, "ce_type") or b""
                content = header(headers, "content-type") or b""
            kind = _TYPES.get(ce_type)
            if kind is None:
                if ce_type == _TICK:
                    columns.tick(record.log_time)
                    owners.append(place)
                elif ce_type == _ACKED:
                    acked.append(place)
                else:
                    dead.append((place, MalformedEvent(f"{ce_type!r} is no type of this topic", field="ce_type")))
                continue
            try:
                blocks = decode_blocks(
                    kind, _CONTENT.get(content) or content.decode("utf-8", "replace"), record.value, key=record.key
                )
                for block in blocks:
                    if _latest(block) > record.log_time + self._ahead:
                        self._refuse(block, record.log_time)
                model = get(record.key) or self._make(record.key, blocks[0].head)
            except MalformedEvent as error:
                dead.append((place, error))
                continue
            for block in blocks:
                self._take(columns, block, model, record.log_time)
                owners.append(place)
        return columns.poll(self._codes.array(), self._models.table.array(), owners, dead, acked)

    def _refuse(self, block: Block, log_time: int) -> NoReturn:
        raise MalformedEvent(
            f"{_latest(block)} is more than {self._ahead / 1e6:g} s ahead of the log's {log_time}", field="time"
        )

    def _make(self, key: bytes, head: Any) -> Model:
        return self._models.make(key, head.model)

    def _take(self, columns: "_Columns", block: Any, model: Model, log_time: int) -> None:
        kind = type(block)
        if kind is PredictionBlock:
            head = block.head
            seen = model.heads.get(head)
            if seen is None:
                seen = self._models.head(model, head, TASKS[head.task], _signed(code_of(head.positive)))
            columns.predictions(
                block, model.slot, log_time, self._classes(block.classes) if block.classes else -1, seen
            )
        elif kind is LabelBlock:
            columns.labels(block, model.slot, log_time, self._classes(block.classes) if block.classes else -1)
        elif kind is FailureBlock:
            columns.failures(block, model.slot, log_time)

    def _classes(self, classes: tuple[Any, ...]) -> int:
        # Equal tuples have equal codes: 1, 1.0 and True are one class.
        start = self._starts.get(classes)
        if start is None:
            start = self._starts[classes] = len(self._codes)
            self._codes.extend(_signed(code_of(each)) for each in classes)
        return start

    def forget(self) -> None:
        """Between polls: let go of what was kept for speed when it has become too much."""
        if len(self._codes) > _KEPT:
            self._codes = Growing()
            self._starts.clear()
        self._models.forget()


class _Columns:
    """The columns of a poll being gathered."""

    def __init__(self) -> None:
        self._blocks = array("q")
        self._times: list[bytes] = []
        self._values: list[bytes] = []
        self._lengths: list[bytes] = []
        self._ids: list[bytes] = []
        self._latencies: list[bytes] = []
        self._features: list[bytes] = []
        self._rows = 0
        self._time_rows = 0
        self._value_rows = 0
        self._id_bytes = 0
        self._latency_rows = 0
        self._feature_values = 0

    def tick(self, log_time: int) -> None:
        self._blocks.extend((TICK, 0, 1, log_time, self._rows, 0, 0, 0, -1, -1, 0, 0, 0, 0, 0))
        self._rows += 1

    def predictions(
        self, block: PredictionBlock, model: int, log_time: int, classes: int, seen: tuple[int, int, int, int]
    ) -> None:
        n = block.n
        task, positive, series, width = seen
        latency = -1
        if block.latency:
            latency = self._latency_rows
            self._latencies.append(block.latency)
            self._latency_rows += n
        self._blocks.extend((
            PREDICTIONS, model, n, log_time, self._rows, self._time_rows, self._value_rows, self._id_bytes,
            latency, classes, task, positive, self._feature_values, width, series,
        ))  # fmt: skip
        self._rows += n
        self._time_rows += n
        self._value_rows += n
        self._times.append(block.time)
        self._values.append(block.output)
        self._lengths.append(block.id_lengths)
        self._ids.append(block.ids)
        self._id_bytes += len(block.ids)
        if width:
            self._features.append(block.features)
            self._feature_values += n * width

    def labels(self, block: LabelBlock, model: int, log_time: int, classes: int) -> None:
        n = block.n
        self._blocks.extend((
            LABELS, model, n, log_time, self._rows, self._time_rows, self._value_rows, self._id_bytes,
            -1, classes, 0, 0, 0, 0, 0,
        ))  # fmt: skip
        self._rows += n
        self._time_rows += n
        self._value_rows += n
        self._times.append(block.time)
        self._values.append(block.value)
        self._lengths.append(block.id_lengths)
        self._ids.append(block.ids)
        self._id_bytes += len(block.ids)

    def failures(self, block: FailureBlock, model: int, log_time: int) -> None:
        n = block.n
        latency = -1
        if block.latency:
            latency = self._latency_rows
            self._latencies.append(block.latency)
            self._latency_rows += n
        self._blocks.extend(
            (FAILURES, model, n, log_time, self._rows, self._time_rows, 0, 0, latency, -1, 0, 0, 0, 0, 0)
        )
        self._rows += n
        self._time_rows += n
        self._times.append(block.time)

    def poll(
        self,
        codes: np.ndarray,
        table: np.ndarray,
        owners: list[int],
        dead: list[tuple[int, MalformedEvent]],
        acked: list[int],
    ) -> Poll:
        blocks = np.frombuffer(self._blocks, np.int64).reshape(-1, BLOCK_COLUMNS) if self._blocks else _NO_BLOCKS
        watched = np.flatnonzero(blocks[:, B_WIDTH])
        by_model = blocks[watched, B_MODEL]
        if len(watched) > 1 and (by_model[0] != by_model).any():
            watched = watched[np.argsort(by_model, kind="stable")]
        batch = Batch(
            blocks=blocks,
            times=_joined(self._times, np.int64),
            values=_joined(self._values, np.float64),
            id_lengths=_joined(self._lengths, np.uint32),
            ids=_joined(self._ids, np.uint8),
            latencies=_joined(self._latencies, np.float64),
            features=_joined(self._features, np.float64),
            classes=codes,
            series=table,
            counted=np.zeros(self._rows, np.uint8),
        )
        return Poll(batch, watched, self._rows, len(blocks), owners, dead, acked)


_NO_BLOCKS = np.zeros((0, BLOCK_COLUMNS), np.int64)
_join: Callable[[list[bytes]], bytearray] = bytearray().join


def _joined(parts: list[bytes], dtype: Any) -> np.ndarray:
    # A bytearray, so that arrays are writable: numba would compile every kernel once more for those that are not.
    return np.frombuffer(_join(parts), dtype) if parts else np.zeros(0, dtype)
