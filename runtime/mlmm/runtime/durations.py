"""Durations and sizes as people write them: ``"250ms"``, ``"1h30m"``, ``"64MiB"``."""

import math
import re

__all__ = ["format_duration", "format_size", "parse_duration", "parse_size", "window_name"]

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)\s*")
_SIZE = re.compile(r"\s*(\d+)[\s_]*(B|kB|MB|GB|KiB|MiB|GiB)?\s*")


def parse_duration(value: str | float) -> float:
    """Return seconds for a text such as ``"250ms"``, ``"10m"``, ``"1h30m"``, ``"30d"`` or a number of seconds.

    Raises
    ------
    ValueError
        For what is no duration, negative or not finite; the message says what is allowed.
    """
    expected = 'expected a duration such as "250ms", "10s", "5m", "1h30m" or "7d", or a number of seconds'
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(expected)  # noqa: TRY004 - one error for every wrong value: callers show it with the key
    if isinstance(value, str):
        seconds = _parse_text(value)
        if seconds is None:
            raise ValueError(expected)
    else:
        seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{expected}; not negative")
    return seconds


def _parse_text(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    position, seconds = 0, 0.0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return None
        seconds += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    return seconds if position else None


def format_duration(seconds: float) -> str:
    """Return a short text that `parse_duration` reads back: ``90.0`` is ``"90s"``, ``3600.0`` is ``"1h"``."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count = round(seconds / _SECONDS[unit])
        if count and math.isclose(count * _SECONDS[unit], seconds, rel_tol=1e-12):
            return f"{count}{unit}"
    return repr(seconds)


def window_name(seconds: float) -> str:
    """Return the name that reports give to a window of that length, to the microsecond: ``"600s"``, ``"1.5s"``."""
    exact = round(seconds * 1e6) / 1e6
    return f"{int(exact) if exact.is_integer() else exact!r}s"


def parse_size(value: str | int) -> int:
    """Return bytes for a text such as ``"512KiB"``, ``"64MiB"`` or ``"1MB"``, or a number of bytes.

    Raises
    ------
    ValueError
        For what is no size; the message says what is allowed.
    """
    expected = 'expected a size such as "512KiB", "64MiB" or "1MB", or a number of bytes'
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(expected)
    return int(match[1]) * _BYTES[match[2] or "B"]


def format_size(count: int) -> str:
    """Return ``count`` bytes in the largest binary unit that divides it: ``65536`` is ``"64KiB"``."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"
