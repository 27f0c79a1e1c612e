"""Columns of a data frame as the arrays that blocks are made of. What is wrong names file, column and what exists."""

from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlmm.console.replay.errors import WrongInput
from mlmm.events.limits import ID_BYTES, TIME_MAX, TIME_MIN
from mlmm.runtime.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_columns", "identities", "numbers", "read_frame", "scores_of", "times_of", "values_of"]


def read_frame(path: Path) -> "pd.DataFrame":
    """Read ``.parquet``, ``.csv`` or ``.csv.gz``."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("pandas", extra="console", purpose=f"Reading {path.name}") from error
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' and Arrow's own errors are ValueErrors
        raise WrongInput(f"{path}: {error}") from error
    if not len(frame):
        raise WrongInput(f"{path}: the table has no rows")
    return frame


def check_columns(path: Path, frame: "pd.DataFrame", named: Mapping[str, str]) -> None:
    """Refuse names of columns that are not there, or there twice."""
    there = [str(name) for name in frame.columns]
    for option, name in named.items():
        if there.count(name) == 1:
            continue
        flag = f"--{option.replace('_', '-')}"
        if name in there:
            raise WrongInput(f"{path}: {there.count(name)} columns are called {name!r} ({flag})")
        close = get_close_matches(name, there, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise WrongInput(f"{path}: no column {name!r} ({flag}).{hint} There are: {', '.join(there)}")


def times_of(
    path: Path, frame: "pd.DataFrame", name: str | None, flag: str, *, wanted: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Times in microseconds; those of rows that are not ``wanted`` may be missing and are 0."""
    if name is None:
        return TIME_MIN + 1_000_000 * np.arange(len(frame), dtype=np.int64)
    import pandas as pd

    column = frame[name]
    if pd.api.types.is_numeric_dtype(column):
        raise WrongInput(
            f"{path}: column {name!r} ({flag}) holds numbers, which could be seconds, milliseconds or anything: "
            "dates and times are expected, such as 2026-11-21T03:20:00Z"
        )
    try:
        # Text is ISO 8601, so that no day is taken for a month; writers leave out fractions of a second that are 0.
        parsed = pd.to_datetime(column, utc=True, format=None if column.dtype.kind == "M" else "ISO8601")
    except (ValueError, TypeError, OverflowError) as error:
        raise WrongInput(
            f"{path}: column {name!r} ({flag}): {str(error).partition('.')[0]}. "
            "Dates and times are expected as in 2026-11-21T03:20:00Z"
        ) from error
    missing = parsed.isna().to_numpy()
    if wanted is not None:
        missing = missing & wanted
    if missing.any():
        raise WrongInput(
            f"{path}: column {name!r} ({flag}) is empty in {missing.sum()} rows, the first is row {missing.argmax()}"
        )
    filled = parsed.fillna(pd.Timestamp(0, tz="UTC"))
    times: NDArray[np.int64] = filled.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    wrong = (times < TIME_MIN) | (times >= TIME_MAX)
    if wanted is not None:
        wrong = wrong & wanted
    if wrong.any():
        row = int(wrong.argmax())
        when = datetime.fromtimestamp(int(times[row]) / 1e6, UTC) if abs(int(times[row])) < 2**55 else column.iloc[row]
        raise WrongInput(f"{path}: column {name!r} ({flag}), row {row}: {when} is not in the years 2000 to 2199")
    return times


def numbers(column: "pd.Series") -> NDArray[np.float64]:
    """Numbers and bools as float64, NaN where missing."""
    made: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.ascontiguousarray(made)


def scores_of(path: Path, column: "pd.Series", name: str) -> NDArray[np.float64]:
    """Probabilities as float64, NaN where missing."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        raise WrongInput(f"{path}: column {name!r} (--score-column): numbers are expected, found {column.dtype}")
    return numbers(column)


def values_of(path: Path, column: "pd.Series", name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Outputs or labels: numbers as they are, or indices into classes; NaN where missing."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        made = numbers(column)
        if np.isinf(made).any():
            raise WrongInput(f"{path}: column {name!r}, row {np.isinf(made).argmax()}: infinite")
        return made, ()
    codes, classes = pd.factorize(column.astype("string"))
    values = codes.astype(np.float64)
    values[codes < 0] = np.nan
    return values, tuple(map(str, classes))


def identities(path: Path, frame: "pd.DataFrame", name: str | None, order: NDArray[np.int64]) -> list[bytes]:
    """Prediction ids of the rows in ``order``."""
    if name is None:
        return [b"%d" % row for row in order.tolist()]
    column = frame[name].iloc[order]
    if column.isna().any():
        raise WrongInput(f"{path}: column {name!r} (--id-column) is empty in {column.isna().sum()} rows")
    made = [str(value).encode("utf-8", "replace") for value in column.tolist()]
    if not 0 < min(map(len, made)) <= max(map(len, made)) <= ID_BYTES:
        raise WrongInput(f"{path}: column {name!r} (--id-column): ids of 1 to {ID_BYTES} bytes are expected")
    return made
