"""Columns out of single events.

Each column is made in one go; only when that fails are the events looked at one by one, to say which field of which is
wrong.
"""

import struct
from collections.abc import Callable, Sequence
from math import inf, nan
from typing import Any, NamedTuple

from mlmm.events.errors import MalformedEvent
from mlmm.events.faults import check_id, check_text, check_time
from mlmm.events.limits import ID_BYTES, STRING_BYTES, TIME_MAX, TIME_MIN
from mlmm.events.proofs import MISSING

__all__ = ["Group", "coded", "ids", "integers", "metrics", "numbers", "optional", "outputs", "plain", "texts", "times"]

_PLAIN = 500
"""Characters up to which an ASCII text needs no closer look."""
_SPELLED = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}


class Group(NamedTuple):
    """Events that make one block, and where they stand."""

    events: Sequence[Any]
    at: int
    """Place of the first one in the record."""
    alone: bool
    """Whether the record is one event that is no array."""

    def path(self, i: int, field: str) -> str:
        """Path of a field of the ``i``-th event."""
        return field if self.alone else f"[{self.at + i}].{field}"


def _pack(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def numbers(group: Group, rows: Sequence[dict[str, Any]], names: tuple[str, ...], field: str) -> bytes:
    """f64[n, len(names)], row by row: NaN for None and for what is not there."""
    values = [nan if (value := row.get(name)) is None else value for row in rows for name in names]
    try:
        return _pack(values)
    except (struct.error, OverflowError, TypeError, ValueError):
        for place, value in enumerate(values):
            i, column = divmod(place, len(names))
            _number(value, group.path(i, f"{field}.{names[column]}"))
        raise


def _number(value: Any, field: str) -> None:
    try:
        _pack([value])
    except OverflowError:
        raise MalformedEvent("is too large for a float64", field=field) from None
    except (struct.error, TypeError, ValueError):
        raise MalformedEvent(f"{value!r} is not a number", field=field) from None


def plain(value: float | str | bool, field: str) -> float | str | bool:
    """A value of a head: equal numbers as one, for heads are compared by their bytes."""
    if isinstance(value, str):
        return value
    _number(value, field)
    return 1 if value == 1 else float(value)


def optional(group: Group, field: str) -> bytes:
    """f64[n] of a field that may be None; nothing where it always is."""
    rows = [{field: getattr(event, field)} for event in group.events]
    if all(row[field] is None for row in rows):
        return b""
    try:
        return _pack([nan if row[field] is None else row[field] for row in rows])
    except (struct.error, OverflowError, TypeError, ValueError):
        for i, row in enumerate(rows):
            if row[field] is not None:
                _number(row[field], group.path(i, field))
        raise


def integers(group: Group, values: Sequence[int], field: str) -> bytes:
    """i64[n]."""
    try:
        return struct.pack(f"<{len(values)}q", *values)
    except struct.error:
        for i, value in enumerate(values):
            if not -(1 << 63) <= value < 1 << 63:
                raise MalformedEvent("does not fit into 64 bits", field=group.path(i, field)) from None
        raise


def times(group: Group) -> bytes:
    """i64[n] of the field ``time``."""
    values = [event.time for event in group.events]
    if not TIME_MIN <= min(values) <= max(values) < TIME_MAX:
        for i, value in enumerate(values):
            check_time(value, group.path(i, "time"))
    return integers(group, values, "time")


def _utf8(
    values: Sequence[str], longest: int, check: Callable[[str, str], bytes], path: Callable[[int], str]
) -> list[bytes]:
    try:
        encoded = [value.encode() for value in values]
    except UnicodeEncodeError:
        encoded = []
    lengths = [len(each) for each in encoded]
    if not encoded or min(lengths) == 0 or max(lengths) > longest:
        encoded = [check(value, path(i)) for i, value in enumerate(values)]
    return encoded


def ids(group: Group) -> tuple[bytes, bytes]:
    """All prediction ids as UTF-8, and u32[n] of their lengths."""
    values = [event.prediction_id for event in group.events]
    encoded = _utf8(values, ID_BYTES, check_id, lambda i: group.path(i, "prediction_id"))
    return b"".join(encoded), struct.pack(f"<{len(encoded)}I", *map(len, encoded))


def texts(group: Group, field: str) -> tuple[str, ...]:
    """Strings of a field, one an event."""
    values = tuple(getattr(event, field) for event in group.events)
    _utf8(values, STRING_BYTES, check_text, lambda i: group.path(i, field))
    return values


def outputs(group: Group, field: str) -> tuple[bytes, tuple[str | float | bool, ...]]:
    """f64[n] and classes: numbers as they are; as soon as one is a string, indices into the distinct values."""
    values = [getattr(event, field) for event in group.events]
    if not any(isinstance(value, str) for value in values):
        try:
            return _pack(values), ()
        except (struct.error, OverflowError, TypeError, ValueError):
            for i, value in enumerate(values):
                _number(value, group.path(i, field))
            raise
    places: dict[Any, int] = {}  # 1, 1.0 and True are one key, 1 and "1" are two: as in `code_of`
    for i, value in enumerate(values):
        if value not in places:
            (check_text if isinstance(value, str) else _number)(value, group.path(i, field))
            places[value] = len(places)
    classes = tuple(value if isinstance(value, str) else float(value) + 0.0 for value in places)  # -0.0 becomes 0.0
    return _pack([places[value] for value in values]), classes


def coded(
    group: Group, rows: Sequence[dict[str, Any]], names: tuple[str, ...], field: str
) -> tuple[bytes, tuple[tuple[str, ...], ...]]:
    """u32[n, len(names)], row by row, and the dictionary of each column."""
    dictionaries: list[dict[str, int]] = [{} for _ in names]
    codes = [
        MISSING if (value := row.get(name)) is None else dictionary.setdefault(value, len(dictionary))
        for row in rows
        for name, dictionary in zip(names, dictionaries, strict=True)
    ]
    for name, dictionary in zip(names, dictionaries, strict=True):
        for value in dictionary:
            if len(value) > _PLAIN or not value.isascii():
                _check_code(value, group, rows, name, field)
    return struct.pack(f"<{len(codes)}I", *codes), tuple(tuple(dictionary) for dictionary in dictionaries)


def _check_code(value: str, group: Group, rows: Sequence[dict[str, Any]], name: str, field: str) -> None:
    try:
        check_text(value, field)
    except MalformedEvent as error:  # only now is it worth a search which event it is of
        i = next(i for i, row in enumerate(rows) if row.get(name) == value)
        raise MalformedEvent(error.reason, field=group.path(i, f"{field}.{name}")) from None


def metrics(group: Group, names: tuple[str, ...]) -> bytes:
    """f64[n, len(names)] of the field ``values``; numbers that JSON cannot write may be spelled out."""
    rows = [event.values for event in group.events]
    if any(isinstance(value, str) for row in rows for value in row.values()):
        rows = [{name: _spelled(value, group, i, name) for name, value in row.items()} for i, row in enumerate(rows)]
    return numbers(group, rows, names, "values")


def _spelled(value: float | str, group: Group, i: int, name: str) -> float:
    if not isinstance(value, str):
        return value
    if value not in _SPELLED:
        reason = f"{value!r} is no number, nor one of {', '.join(_SPELLED)}"
        raise MalformedEvent(reason, field=group.path(i, f"values.{name}"))
    return _SPELLED[value]
