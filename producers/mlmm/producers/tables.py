"""Tables: predictions and labels that come as columns. The one module of this room that loads numpy."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import nan
from time import time_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlmm.events import new_id
from mlmm.events.errors import MalformedEvent
from mlmm.events.limits import TIME_MAX, TIME_MIN
from mlmm.producers.capture import feature, identity, moment, number, refuse
from mlmm.producers.predictions import Columns, PredictionStack, Shape
from mlmm.producers.shapes import Shapes

__all__ = ["Table", "TableCall", "read_labels", "read_table"]

_PART = 2000
"""Rows that are offered to the queue at a time: a large table waits or is dropped in parts, never as a whole."""

_OPTIONAL = ("latencies", "weights", "values")
LabelPart = tuple[list[str], list[bytes], list[str | None]]
Floats = NDArray[np.float64]


class TableCall(NamedTuple):
    """What `Monitor.log_predictions` was called with."""

    ids: Any
    features: Any
    outputs: Any
    names: Sequence[str] | None
    scores: Any
    latencies: Any
    weights: Any
    values: Any
    version: str | None
    route: str | None
    times: Any


class Table(NamedTuple):
    """A table of predictions that was read and checked."""

    stack: PredictionStack
    ids: list[str]
    cells: Floats
    """float64[n, columns]: rows as the stack's ``pack`` makes them, the time being the bits of an int64."""
    texts: list[tuple[str | None, ...]]
    """The string features of each row; empty where there are none."""
    answers: list[str]
    """Outputs that are strings; empty where they are numbers."""
    scores: Floats | None
    """float64[n, classes]."""

    def parts(self) -> Iterator[Columns]:
        """Yield what `PredictionStack.add_many` takes, part by part."""
        for first in range(0, len(self.ids), _PART):
            part = slice(first, first + _PART)
            scores = [] if self.scores is None else _rows(self.scores[part])
            yield Columns(self.ids[part], _rows(self.cells[part]), self.texts[part], [], self.answers[part], scores)


def _rows(cells: Floats) -> list[bytes]:
    joined = cells.astype("<f8", copy=False).tobytes()
    width = 8 * cells.shape[1]
    return [joined[at : at + width] for at in range(0, len(joined), width)]


def read_table(shapes: Shapes, call: TableCall) -> Table:
    """Read what `Monitor.log_predictions` was given; `MalformedEvent` names what is wrong."""
    columns = _columns(call.features, call.names)
    said = _column(call.outputs, "outputs")
    n = len(said)
    made = (
        [new_id() for _ in range(n)] if call.ids is None else [identity(each) for each in _sequence(call.ids, "ids", n)]
    )
    read = {name: _column(column, f"features.{name}", n) for name, column in columns.items()}
    if _has_missing(said):
        raise refuse("outputs", None, "an answer in each row")
    classes: tuple[str, ...] = ()
    by_class: Floats | None = None
    score: Floats | float = nan
    if isinstance(call.scores, Mapping):
        classes = tuple(call.scores)
        by_class = np.stack([_numbers(call.scores[name], f"scores.{name}", n) for name in classes], axis=1)
    elif call.scores is not None:
        score = _numbers(call.scores, "scores", n)
    shape = Shape(
        names=tuple(read),
        kinds="".join("s" if isinstance(column, list) else "n" for column in read.values()),
        version=shapes.version(call.version),
        route=shapes.route(call.route),
        answer="s" if isinstance(said, list) else "n",
        classes=classes,
    )
    cells = np.empty((n, 6 + shape.kinds.count("n")))
    cells.view(np.int64)[:, 0] = _times(call.times, n)
    cells[:, 1] = 0.0 if isinstance(said, list) else said
    cells[:, 2] = score
    for at, name in enumerate(_OPTIONAL, 3):
        column = getattr(call, name)
        cells[:, at] = nan if column is None else _numbers(column, name, n)
    for at, column in enumerate((column for column in read.values() if not isinstance(column, list)), 6):
        cells[:, at] = column
    strings = [column for column in read.values() if isinstance(column, list)]
    return Table(
        shapes.stack(shape),
        made,
        cells,
        list(zip(*strings, strict=True)) if strings else [],
        [str(each) for each in said] if isinstance(said, list) else [],
        by_class,
    )


def read_labels(ids: Any, values: Any, times: Any, weights: Any) -> list[LabelPart]:
    """Read what `Monitor.log_labels` was given, as arguments of `LabelStack.add_many`."""
    said = _column(values, "values")
    n = len(said)
    made = [identity(each) for each in _sequence(ids, "ids", n)]
    cells = np.empty((n, 3))
    cells.view(np.int64)[:, 0] = _times(times, n)
    cells[:, 1] = 0.0 if isinstance(said, list) else said
    cells[:, 2] = nan if weights is None else _numbers(weights, "weights", n)
    texts: list[str | None] = said if isinstance(said, list) else [None] * n
    if _has_missing(said):
        raise refuse("values", None, "a label in each row: leave out those that are not known yet")
    rows = _rows(cells)
    return [
        (made[first : first + _PART], rows[first : first + _PART], texts[first : first + _PART])
        for first in range(0, n, _PART)
    ]


def _columns(features: Any, names: Sequence[str] | None) -> dict[str, Any]:
    if isinstance(features, Mapping):
        columns = dict(features)
    elif hasattr(features, "columns") and hasattr(features, "__getitem__"):  # a DataFrame of pandas or polars
        columns = {name: features[name] for name in features.columns}
    else:
        matrix = np.asarray(features)
        if matrix.ndim != 2 or names is None or len(names) != matrix.shape[1]:
            raise refuse(
                "features", type(features), "a mapping, a DataFrame, or a 2-D array with as many names as columns"
            )
        columns = {name: matrix[:, i] for i, name in enumerate(names)}
    for name in columns:
        if not isinstance(name, str):
            raise refuse("features name", name, "a string")
    return columns


def _sequence(values: Any, field: str, n: int) -> list[Any]:
    items = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(items) != n:
        raise MalformedEvent(f"{len(items)} rows, expected {n}", field=field)
    return list(items)


def _column(values: Any, field: str, n: int | None = None) -> Floats | list[str | None]:
    """Return a column as float64[n], or as a list where it holds strings (missing: None)."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise MalformedEvent(f"{array.ndim} dimensions, expected one", field=field)
    if n is not None and len(array) != n:
        raise MalformedEvent(f"{len(array)} rows, expected {n}", field=field)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind in "mM":
        raise refuse(field, array.dtype, "numbers, strings, bools or None (times: pass what the model was given)")
    # `values` and not `array`: of [1, "a"] numpy makes two strings
    items = [_missing_as_none(each) for each in (values.tolist() if hasattr(values, "tolist") else list(values))]
    read = [feature(each, f"{field}[{i}]") for i, each in enumerate(items)]
    if not any(isinstance(each, str) for each in read):
        return np.array([nan if each is None else each for each in read], dtype=np.float64)
    for i, each in enumerate(read):
        if isinstance(each, float):
            raise refuse(f"{field}[{i}]", each, "a string, as elsewhere in this column")
    return read  # type: ignore[return-value]  # there are no floats left


def _missing_as_none(value: Any) -> Any:
    """Return None for what tables say of a missing value: NaN, ``pandas.NA``."""
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - the test for NaN
        return None
    return None if type(value).__name__ == "NAType" else value


def _has_missing(column: Floats | list[str | None]) -> bool:
    return None in column if isinstance(column, list) else bool(np.isnan(column).any())


def _numbers(values: Any, field: str, n: int) -> Floats:
    column = _column(values, field, n)
    if isinstance(column, list):
        first = next(each for each in column if each is not None)
        number(first, field)
    return np.asarray(column, dtype=np.float64)


def _times(times: Any, n: int) -> NDArray[np.int64] | int:
    """Return microseconds: of one time, or of n."""
    if times is None:
        return time_ns() // 1000
    if isinstance(times, datetime) or np.ndim(times) == 0:
        return moment(times)
    dtype = getattr(times, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "M":
        array = np.asarray(times)
        micros = array.astype("datetime64[us]").astype(np.int64)
    else:
        micros = np.array([moment(each, f"times[{i}]") for i, each in enumerate(times)], dtype=np.int64)
    if len(micros) != n:
        raise MalformedEvent(f"{len(micros)} rows, expected {n}", field="times")
    if n and (micros.min() < TIME_MIN or micros.max() >= TIME_MAX):
        raise refuse("times", times, "times in the years 2000..2199")
    return micros
