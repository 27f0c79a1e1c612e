"""Predictions on their way: captured as columns by the call, packed into blocks by the emitter's thread.

A call costs one ``struct.pack`` (a row of float64: it copies, converts and type-checks in C) and one ``extend``.
Nothing that it leaves behind is tracked by the garbage collector.
"""

import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from mlmm.events import PredictionBlock, PredictionHead
from mlmm.producers.columns import by_shard, classes_of, coded, ids_of, let_go, optional, shares
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed, pack_block, slices

__all__ = ["Columns", "PredictionBatch", "PredictionStack", "Shape"]

TYPE = "mlmm.predictions.v1"
_FIXED = 6
"""Columns of a row before the features: time (int64), output, score, latency, weight, value."""
_OVERHEAD = 33 + 49 + 2 * 8
"""Bytes beside the contents: headers of a ``bytes`` and a ``str`` object and their places in two lists."""


class Shape(NamedTuple):
    """What all predictions of one stack have in common."""

    names: tuple[str, ...]
    """Features in the order in which the caller gives them."""
    kinds: str
    """One letter a feature: ``n`` for a number, ``s`` for a string."""
    version: str | None = None
    route: str = "champion"
    segments: tuple[str, ...] = ()
    answer: str = "n"
    """Kind of the output."""
    classes: tuple[str, ...] = ()
    """Classes of a score that is a mapping."""


class Columns(NamedTuple):
    """Predictions column by column; those that the shape does not have are empty."""

    ids: list[str]
    rows: list[bytes]
    """Time, output, score, latency, weight, value and numeric features of each."""
    texts: list[tuple[str | None, ...]]
    segments: list[tuple[str | None, ...]]
    answers: list[str]
    """Outputs that are strings."""
    scores: list[bytes]
    """Scores by class: float64 of each."""


class PredictionStack:
    """Collects predictions of one `Shape`.

    Parameters
    ----------
    intake : Intake
        Bounds and counts of the emitter.
    shape : Shape
    head : PredictionHead
        Its features, categories and segments are those of the shape.
    shards : int
        Shards of the model's key.
    segment_by : tuple of str
        Features that are segments too.
    """

    __slots__ = (
        "_cells",
        "_waiting",
        "features_of",
        "fixed",
        "head",
        "intake",
        "kept",
        "names",
        "pack",
        "pack_scores",
        "plain",
        "rank",
        "segment_by",
        "shape",
        "shards",
        "simple",
        "texts_of",
        "worded",
    )

    def __init__(
        self, intake: Intake, shape: Shape, head: PredictionHead, *, shards: int = 1, segment_by: tuple[str, ...] = ()
    ) -> None:
        self.intake = intake
        self.shape = shape
        self.head = head
        self.shards = shards
        self.segment_by = segment_by
        self.names = list(shape.names)
        """A list: ``[*features] == names`` takes half of what tuples do."""
        self.rank = ("champion", "challenger", "shadow").index(shape.route)
        numbers = [i for i, kind in enumerate(shape.kinds) if kind == "n"]
        texts = [i for i, kind in enumerate(shape.kinds) if kind == "s"]
        self.pack = struct.Struct(f"<q5d{len(numbers)}d").pack
        self.pack_scores = struct.Struct(f"<{len(shape.classes)}d").pack
        self.features_of = _picker(numbers)
        self.texts_of = _picker(texts)
        self.simple = not shape.segments and not shape.classes
        """Whether id, numbers, strings and answer say all."""
        self.worded = shape.answer == "s"
        """Whether outputs are strings."""
        self.plain = self.simple and not texts and not self.worded
        """Whether id and numbers say all."""
        self.fixed = _OVERHEAD + 8 * (_FIXED + len(numbers)) + 8 * (len(texts) + len(shape.segments))
        if shape.classes:
            self.fixed += 33 + 8 * (1 + len(shape.classes))
        has = (True, True, bool(texts), bool(shape.segments), self.worded, bool(shape.classes))
        self.kept = tuple(place for place, there in enumerate(has) if there)
        """Places in `Columns` of those that this shape has."""
        self._begin()

    def _begin(self) -> None:
        # Id, row and what else there is of one prediction after the other. A single ``extend`` takes one in: a signal
        # handler or finaliser that logs, and may even flush, runs before or after it, never in the middle.
        self._cells: list[Any] = []
        self._waiting = False

    def add(
        self, prediction_id: str, row: bytes, texts: tuple[str | None, ...] = (), answer: str | None = None
    ) -> bool:
        """Take a simple prediction; False when there is no room. The hot path."""
        size = self.fixed + len(prediction_id)
        cells: tuple[Any, ...] = (prediction_id, row)
        if texts:
            size += sum(map(len, filter(None, texts)))
            cells += (texts,)
        if answer is not None:
            size += len(answer)
            cells += (answer,)
        intake = self.intake
        with intake.lock:
            if intake.events >= intake.max_events or intake.bytes + size > intake.max_bytes or intake.closed:
                return False
            intake.accepted += 1
            intake.events += 1
            intake.bytes += size
            self._cells.extend(cells)
            if not self._waiting:
                self._waiting = True
                intake.dirty.append(self)
        if intake.asleep:
            intake.wake()
        return True

    def add_many(self, new: Columns) -> bool:
        """Take predictions, all or none; False when there is no room."""
        n, size = len(new.ids), self.size_of(new)
        cells = tuple(chain.from_iterable(zip(*(new[place] for place in self.kept), strict=True)))
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

    def size_of(self, columns: Columns) -> int:
        """Estimate the bytes of predictions."""
        strings = sum(len(text) for rows in columns[2:4] for row in rows for text in row if text)
        answers = sum(map(len, columns.answers))
        return self.fixed * len(columns.ids) + sum(map(len, columns.ids)) + strings + answers

    def take(self) -> "PredictionBatch | None":
        """Hand over what was collected."""
        cells = self._cells
        self._begin()
        return PredictionBatch(self, cells) if cells else None

    def columns_of(self, cells: list[Any]) -> Columns:
        """Return what `add` and `add_many` took, column by column."""
        width = len(self.kept)
        columns: list[list[Any]] = [[]] * len(Columns._fields)
        for at, place in enumerate(self.kept):
            columns[place] = cells[at::width]
        return Columns(*columns)


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    if not places:
        return lambda _values: ()
    if len(places) == 1:
        place = places[0]
        return lambda values: (values[place],)
    return itemgetter(*places)


class PredictionBatch:
    """What a `PredictionStack` handed over: columns of Python objects, made into blocks slice by slice."""

    def __init__(self, stack: PredictionStack, cells: list[Any]) -> None:
        self.n = len(cells) // len(stack.kept)
        self._stack = stack
        self._cells = cells

    @cached_property
    def _columns(self) -> Columns:
        """Made where it is first used, by the emitter's thread, that is: `take` holds the callers' lock."""
        columns, self._cells = self._stack.columns_of(self._cells), []
        return columns

    @property
    def size(self) -> int:
        """Bytes that they take in the queue: the sum of what each call counted."""
        return self._stack.size_of(self._columns)

    def pack(self, batch_events: int, batch_bytes: int, source: str) -> Iterator[Packed]:
        """Make records, one a step."""
        stack = self._stack
        model = stack.head.model
        for first, end, size in slices(self.n, self.size, batch_events, batch_bytes):
            if stack.shards == 1:
                key = model.encode()
                yield from pack_block(self.block, first, end, size, topic="serving", key=key, type_=TYPE, source=source)
                let_go(self._columns, first, end)
                continue
            parts = list(by_shard(model, self._columns.ids[first:end], stack.shards))
            for (key, places), share in zip(parts, shares(size, [len(places) for _, places in parts]), strict=True):
                part = self._select([first + i for i in places])
                make = partial(self._block, part)
                yield from pack_block(make, 0, len(places), share, topic="serving", key=key, type_=TYPE, source=source)
            let_go(self._columns, first, end)

    def _select(self, places: list[int]) -> Columns:
        columns: list[list[Any]] = [[column[i] for i in places] if column else [] for column in self._columns]
        return Columns(*columns)

    def block(self, first: int, end: int) -> PredictionBlock:
        """Make a block of the events ``first`` to ``end``."""
        return self._block(self._columns, first, end)

    def _block(self, of: Columns, first: int, end: int) -> PredictionBlock:
        columns = Columns(*(column[first:end] for column in of))  # type: ignore[arg-type]  # kinds are kept
        stack, shape = self._stack, self._stack.shape
        rows = columns.rows
        n = len(rows)
        cells = array("d")
        cells.frombytes(b"".join(rows))
        width = len(rows[0]) // 8
        times, output, score, latency, weight, value = (cells[i::width].tobytes() for i in range(_FIXED))
        ids, id_lengths = ids_of(columns.ids)
        classes: tuple[str, ...] = ()
        if columns.answers:
            output, classes = classes_of(columns.answers)
        texts = list(zip(*columns.texts, strict=True))
        categories, dictionary = coded(texts, n)
        segments, segment_values = self._segment_columns(texts, columns)
        return PredictionBlock(
            head=stack.head,
            n=n,
            ids=ids,
            id_lengths=id_lengths,
            time=times,
            output=output,
            classes=classes,
            features=b"".join([row[8 * _FIXED :] for row in rows]),
            categories=categories,
            dictionary=dictionary,
            segments=segments,
            segment_values=segment_values,
            score=optional(score, n),
            scores=b"".join(columns.scores),
            score_classes=shape.classes,
            latency=optional(latency, n),
            weight=optional(weight, n),
            value=optional(value, n),
        )

    def _segment_columns(
        self, texts: list[tuple[str | None, ...]], given: Columns
    ) -> tuple[bytes, tuple[tuple[str, ...], ...]]:
        """Segments that were given, then those that are features."""
        stack = self._stack
        columns: list[Sequence[str | None]] = list(zip(*given.segments, strict=True))
        for name in stack.segment_by:
            if name in stack.head.categories:
                columns.append(texts[stack.head.categories.index(name)])
            elif name in stack.head.features:
                at = 8 * (_FIXED + stack.head.features.index(name))
                columns.append([_spelled(row[at : at + 8]) for row in given.rows])
            else:
                columns.append([None] * len(given.ids))
        return coded(columns, len(given.ids))


def _spelled(cell: bytes) -> str | None:
    """Name of a segment that is a number: ``1`` for 1.0 and True, ``2.5``; None for a missing one."""
    number: float = struct.unpack("<d", cell)[0]
    if number != number:  # noqa: PLR0124 - the fastest test for NaN
        return None
    return str(int(number)) if number.is_integer() else repr(number)
