"""What callers pass, as the contract's values: the careful way, for what the fast way could not take."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Any
from uuid import UUID

from mlmm.events.errors import MalformedEvent
from mlmm.events.limits import ID_BYTES, TIME_MAX, TIME_MIN

__all__ = [
    "answer",
    "feature",
    "identity",
    "mapping",
    "moment",
    "number",
    "optional_number",
    "refuse",
    "segment_value",
    "status_code",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def refuse(field: str, value: object, expected: str) -> MalformedEvent:
    """Make the error that says what was given for ``field`` and what is expected."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return MalformedEvent(f"{type(value).__name__} {shown}: expected {expected}", field=field)


def _python(value: Any) -> Any:
    """Return a numpy scalar as what it is in Python; anything else unchanged."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value


def identity(value: object) -> str:
    """Return a prediction id: a string as it is; integers and UUIDs as they print, as a label job reads them."""
    value = _python(value)
    if isinstance(value, str):
        text = value
    elif isinstance(value, int | UUID) and not isinstance(value, bool):
        text = str(value)
    else:
        raise refuse("prediction_id", value, "a string (or an integer or UUID, sent as it prints)")
    if not 0 < len(text) <= ID_BYTES:
        raise refuse("prediction_id", value, f"1..{ID_BYTES} bytes")
    return str(text)


def number(value: object, field: str) -> float:
    """Return what converts to a float (bool, int, Decimal, Fraction, numpy and torch scalars), but no string."""
    if not isinstance(value, str | bytes | complex) and hasattr(type(value), "__float__"):
        try:
            return float(value)  # type: ignore[arg-type]  # it has __float__
        except (TypeError, ValueError, OverflowError) as error:
            raise refuse(field, value, f"a number ({error})") from None
    raise refuse(field, value, "a number")


def optional_number(value: object, field: str) -> float | None:
    """Return `number`, or None as it is."""
    return None if value is None else number(value, field)


def feature(value: object, field: str) -> float | str | None:
    """Return one feature: a float, a string, or None where missing."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, datetime):
        raise refuse(field, value, "a number, string, bool or None (a time: pass what the model was given)")
    try:
        return number(value, field)
    except MalformedEvent:
        raise refuse(field, value, "a number, string, bool or None") from None


def answer(value: object, field: str) -> float | str:
    """Return an output or label: a float or a string."""
    if isinstance(value, str):
        return str(value)
    try:
        said = number(value, field)
    except MalformedEvent:
        raise refuse(field, value, "a number, string or bool") from None
    if isnan(said):
        raise refuse(field, value, "an answer; NaN is none")
    return said


def segment_value(value: object, field: str) -> str | None:
    """Return the value of a segment: a string; integers and bools as they print."""
    value = _python(value)
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, int):
        return str(int(value))
    raise refuse(field, value, "a string")


def status_code(value: object) -> int | None:
    """Return a status code, or None as it is."""
    if value is None or (isinstance(value, int) and 0 <= value < 1 << 31):
        return value
    raise refuse("status", value, "a status code")


def moment(value: object, field: str = "time") -> int:
    """Return microseconds since the epoch for an aware ``datetime`` or a ``datetime64`` (UTC).

    Integers are refused, since MLflow's are milliseconds and Prometheus' are seconds.
    """
    expected = "an aware datetime or a datetime64"
    if type(value).__module__ == "numpy" and type(value).__name__ == "datetime64":
        micros = int(value.astype("datetime64[us]").astype("int64"))  # type: ignore[attr-defined]  # numpy is not imported here
    elif isinstance(value, datetime):
        if value.utcoffset() is None:
            raise refuse(field, value, f"{expected}; this one has no time zone")
        micros = (value - _EPOCH) // _MICROSECOND
    else:
        raise refuse(field, value, expected)
    if not TIME_MIN <= micros < TIME_MAX:
        raise refuse(field, value, "a time in the years 2000..2199")
    return micros


def mapping(value: object, field: str) -> Mapping[str, Any]:
    """Return a mapping whose keys are strings."""
    if not isinstance(value, Mapping):
        raise refuse(field, value, "a mapping")
    for name in value:
        if not isinstance(name, str):
            raise refuse(f"{field} name", name, "a string")
    return value
