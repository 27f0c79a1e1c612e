"""A table of the past as records: predictions and their labels in columns, interleaved by time."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlmm.console.replay.columns import check_columns, identities, numbers, read_frame, scores_of, times_of, values_of
from mlmm.console.replay.errors import WrongInput
from mlmm.events import COLUMNS_TYPE, LabelBlock, LabelHead, PredictionBlock, PredictionHead, encode_columns
from mlmm.runtime.processor import Record
from mlmm.runtime.settings import ServingSettings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "TableColumns", "read_table", "records"]

MOST_ROWS: Final = 1_000
"""Rows a record."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class TableColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Which column is what. Numeric columns that are named nowhere are features."""

    model: str
    """Name that the model is to have."""
    output_column: str
    """Its answers: numbers or classes. Rows without one are left out."""
    task: Literal["binary", "multiclass", "regression"] = "binary"
    positive: str | None = None
    """The positive class of a binary model; 1 by default."""
    time_column: str | None = None
    """When each prediction was made; without it rows stand in their order, one second apart, from 2000-01-01."""
    label_column: str | None = None
    """The truth; empty cells are labels that never came."""
    label_time_column: str | None = None
    """When each label became known; without it at the time of its prediction."""
    score_column: str | None = None
    """Probability of the positive class."""
    id_column: str | None = None
    """Prediction ids; without it the rows' numbers, from 0."""


class Table(NamedTuple):
    """A table, sorted by time."""

    head: PredictionHead
    time: Ints
    ids: list[bytes]
    output: Floats
    classes: tuple[str, ...]
    features: Floats
    """float64[rows, features]"""
    score: Floats | None
    label_rows: Ints
    """Row of each label, in the order of their times."""
    label_time: Ints
    label: Floats
    """In the order of ``label_rows``."""
    label_classes: tuple[str, ...]
    left_out: int
    """Rows without an output."""
    unused: tuple[str, ...]
    """Columns that are no numbers and that nothing names."""


def read_table(path: Path, columns: TableColumns) -> Table:
    """Read a table.

    Parameters
    ----------
    path : Path
        ``.parquet``, ``.csv`` or ``.csv.gz``.
    columns : TableColumns
        Which column is what.

    Raises
    ------
    WrongInput
        Naming the file, the column and what exists.
    MissingExtra
        pandas is not installed.
    """
    frame = read_frame(path)
    named = {
        option: name for option, name in msgspec.structs.asdict(columns).items() if option.endswith("_column") and name
    }
    check_columns(path, frame, named)
    score = None if columns.score_column is None else scores_of(path, frame[columns.score_column], columns.score_column)
    time = times_of(path, frame, columns.time_column, "--time-column")
    output, classes = values_of(path, frame[columns.output_column], columns.output_column)
    kept = np.flatnonzero(~np.isnan(output))
    order = kept[np.argsort(time[kept], kind="stable")]
    if not len(order):
        raise WrongInput(f"{path}: no row has a value in {columns.output_column!r} (--output-column)")
    features, unused = _features(frame, set(named.values()))
    label_rows, label_time, label, label_classes = _labels(path, frame, columns, time, order)
    head = PredictionHead(
        model=columns.model,
        task=columns.task,
        positive=_positive(path, columns, classes, label_classes),
        features=tuple(map(str, features)),
    )
    return Table(
        head=head,
        time=time[order],
        ids=identities(path, frame, columns.id_column, order),
        output=output[order],
        classes=classes,
        features=np.column_stack([numbers(frame[name])[order] for name in features])
        if features
        else np.empty((len(order), 0)),
        score=None if score is None else score[order],
        label_rows=label_rows,
        label_time=label_time,
        label=label,
        label_classes=label_classes,
        left_out=len(frame) - len(order),
        unused=unused,
    )


def _features(frame: "pd.DataFrame", named: set[str]) -> tuple[list[Any], tuple[str, ...]]:
    from pandas.api.types import is_bool_dtype, is_complex_dtype, is_numeric_dtype

    numeric = [
        name
        for name in frame.columns
        if is_bool_dtype(frame[name]) or (is_numeric_dtype(frame[name]) and not is_complex_dtype(frame[name]))
    ]
    unused = tuple(str(name) for name in frame.columns if name not in named and name not in numeric)
    return [name for name in numeric if name not in named], unused


def _labels(
    path: Path, frame: "pd.DataFrame", columns: TableColumns, time: Ints, order: Ints
) -> tuple[Ints, Ints, Floats, tuple[str, ...]]:
    none: Ints = np.empty(0, dtype=np.int64)
    if columns.label_column is None:
        return none, none, np.empty(0), ()
    label, classes = values_of(path, frame[columns.label_column], columns.label_column)
    known = np.flatnonzero(~np.isnan(label[order]))
    when = time
    if columns.label_time_column is not None:
        wanted = np.zeros(len(frame), dtype=bool)
        wanted[order[known]] = True
        when = times_of(path, frame, columns.label_time_column, "--label-time-column", wanted=wanted)
    rows = known[np.argsort(when[order[known]], kind="stable")]
    return rows, when[order[rows]], label[order[rows]], classes


def _positive(path: Path, columns: TableColumns, *classes: tuple[str, ...]) -> float | str:
    if columns.task != "binary":
        return 1
    texts = sorted({each for known in classes for each in known})
    if not texts:
        if columns.positive is None:
            return 1
        try:
            return float(columns.positive)
        except ValueError:
            raise WrongInput(
                f"{path}: --positive {columns.positive!r} is no number, but outputs and labels are"
            ) from None
    if columns.positive not in texts:
        there = ", ".join(map(repr, texts[:10])) + (", …" if len(texts) > 10 else "")
        asked = "which class is positive?" if columns.positive is None else f"no class {columns.positive!r}."
        raise WrongInput(f"{path}: {asked} Name it with --positive: {there}")
    return columns.positive


def records(table: Table, settings: ServingSettings) -> Iterator[Record]:
    """Lay a table into the records of one partition.

    A record's log time is that of its last event: a table tells no other. Rows share a record, up to `MOST_ROWS`,
    within a tenth of the smallest window, so no log time is further off than that. Labels of that time follow its
    predictions.
    """
    grain = max(1, round(min(settings.windows) * 1e6 / 10))
    key = table.head.model.encode()
    label_head = LabelHead(model=table.head.model)
    cuts = [(int(bin_), 0, start, end) for bin_, start, end in _cut(table.time, grain)]
    cuts += [(int(bin_), 1, start, end) for bin_, start, end in _cut(table.label_time, grain)]
    log_time = 0
    for offset, (_, kind, start, end) in enumerate(sorted(cuts)):
        rows = slice(start, end)
        if kind == 0:
            name, value = "mlmm.predictions.v1", encode_columns(_predictions(table, rows))
            log_time = max(log_time, int(table.time[end - 1]))
        else:
            name, value = "mlmm.labels.v1", encode_columns(_labels_block(table, label_head, rows))
            log_time = max(log_time, int(table.label_time[end - 1]))
        headers = (("ce_type", name.encode()), ("content-type", COLUMNS_TYPE.encode()), ("ce_id", b"row"))
        yield Record(offset, log_time, key, value, headers)


def _cut(time: Ints, grain: int) -> list[tuple[int, int, int]]:
    """Cut sorted times into (bin, start, end): a bin of ``grain`` microseconds, at most `MOST_ROWS` rows."""
    if not len(time):
        return []
    bins = time // grain
    edges = np.concatenate([[0], np.flatnonzero(np.diff(bins)) + 1, [len(time)]])
    made = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        made += [(int(bins[start]), at, min(at + MOST_ROWS, end)) for at in range(start, end, MOST_ROWS)]
    return made


def _lengths(ids: list[bytes]) -> bytes:
    return np.fromiter(map(len, ids), dtype="<u4", count=len(ids)).tobytes()


def _predictions(table: Table, rows: slice) -> PredictionBlock:
    ids = table.ids[rows]
    return PredictionBlock(
        head=table.head,
        n=len(ids),
        ids=b"".join(ids),
        id_lengths=_lengths(ids),
        time=table.time[rows].tobytes(),
        output=table.output[rows].tobytes(),
        classes=table.classes,
        features=table.features[rows].tobytes(),
        score=b"" if table.score is None else table.score[rows].tobytes(),
    )


def _labels_block(table: Table, head: LabelHead, rows: slice) -> LabelBlock:
    ids = [table.ids[row] for row in table.label_rows[rows].tolist()]
    return LabelBlock(
        head=head,
        n=len(ids),
        ids=b"".join(ids),
        id_lengths=_lengths(ids),
        time=table.label_time[rows].tobytes(),
        value=table.label[rows].tobytes(),
        classes=table.label_classes,
    )
