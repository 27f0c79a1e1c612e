"""How what a decoder says becomes a `MalformedEvent`, and the checks on single values that all formats share."""

import re

import msgspec

from mlmm.events.errors import MalformedEvent
from mlmm.events.limits import ID_BYTES, STRING_BYTES, TIME_MAX, TIME_MIN

__all__ = ["UNDECODABLE", "check_id", "check_model", "check_text", "check_time", "malformed", "under"]

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes it does not like: nesting without end is a ``RecursionError``."""

_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")


def under(path: str, field: str) -> str:
    """Path of a field below another; either may be empty."""
    return f"{path}.{field}" if path and field and not field.startswith("[") else path + field


def malformed(error: Exception, path: str = "") -> MalformedEvent:
    """Turn one of `UNDECODABLE` into the error of the contract, with the path of the field at fault below ``path``."""
    if isinstance(error, UnicodeDecodeError):
        return MalformedEvent("a string is not valid UTF-8", field=path)
    if isinstance(error, RecursionError):
        return MalformedEvent("nested too deeply", field=path)
    reason = str(error)
    if place := _PLACE.search(reason):
        path = under(path, place[1])
        reason = reason[: place.start()]
    if missing := _MISSING.search(reason):
        path = under(path, missing[1])
        reason = "missing required field"
    return MalformedEvent(reason, field=path)


def check_text(text: str, field: str, longest: int = STRING_BYTES) -> bytes:
    """UTF-8 of a string that is at most ``longest`` bytes and holds no lone surrogate."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise MalformedEvent("holds a lone surrogate, which is no character", field=field) from None
    if len(encoded) > longest:
        raise MalformedEvent(f"{len(encoded)} bytes, at most {longest} are allowed", field=field)
    return encoded


def check_id(text: str, field: str) -> bytes:
    """UTF-8 of an id of 1..512 bytes."""
    if not text:
        raise MalformedEvent("is empty", field=field)
    return check_text(text, field, ID_BYTES)


def check_model(model: str, field: str = "model") -> bytes:
    """UTF-8 of a model's name: 1..512 bytes without ``#``, which separates the shard in a record key."""
    if "#" in model:
        raise MalformedEvent(f"{model!r} holds '#', which separates model and shard in record keys", field=field)
    return check_id(model, field)


def check_time(time: int, field: str) -> None:
    """Refuse a time outside the years 2000..2199: it is in another unit than microseconds."""
    if not TIME_MIN <= time < TIME_MAX:
        raise MalformedEvent(
            f"{time} is not in the years 2000..2199; microseconds since the epoch are expected", field=field
        )
