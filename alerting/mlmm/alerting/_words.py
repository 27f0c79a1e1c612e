"""Figures, spans and times in words, and names of others made harmless. Deterministic: what is said is in the state."""

import math
import unicodedata
from datetime import UTC, datetime

from mlmm.runtime.masking import mask

__all__ = ["MICROSECONDS", "apart", "clean", "figure", "moment", "period", "span"]

MICROSECONDS = 1_000_000
_READ = 20_000
"""Characters of a text that are looked through for secrets; what lies between its halves is shown in no case."""


def figure(value: float, digits: int = 4) -> str:
    """Write a number as people do: ``0.81``, ``12,340``, ``1.2e-05``.

    Parameters
    ----------
    value : float
        Any number, NaN and infinities included.
    digits : int
        Significant digits.
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("infinity" if value > 0 else "-infinity")
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e15 or size < 1e-4:
        return f"{value:.{digits}g}"
    before_point = max(math.floor(math.log10(size)) + 1, 1)
    text = f"{value:,.{max(digits - before_point, 0)}f}" if size >= 1 else f"{value:.{digits}g}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def apart(value: float, other: float) -> tuple[str, str]:
    """Write two numbers with as many digits as it takes to tell them apart (``0.89996`` is not ``0.9``)."""
    for digits in range(4, 16):
        pair = figure(value, digits), figure(other, digits)
        if pair[0] != pair[1] or value == other:
            return pair
    return repr(value), repr(other)


def span(seconds: float) -> str:
    """Write a span of time: ``90s``, ``10m``, ``1h 30m``, ``2d``."""
    if seconds < 1:
        return f"{seconds * 1000:.4g}ms"
    if seconds < 120:
        return f"{seconds:.4g}s"
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def moment(time: int) -> str:
    """Write a time in microseconds since the epoch: ``2026-11-03 14:05:00 UTC``."""
    return datetime.fromtimestamp(time // MICROSECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def period(start: int, end: int) -> str:
    """Write a span between two times: ``2026-11-03 14:00:00 to 14:10:00 UTC``."""
    first, last = moment(start).removesuffix(" UTC"), moment(end)
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def clean(text: str, limit: int = 200) -> str:
    """Make a stranger's text safe to show on one line.

    Control, format (such as text direction overrides), private and surrogate characters become spaces, runs of spaces
    one space, secrets in it (an exception's text may hold one) become ``********``, and what is longer than ``limit``
    characters is cut in the middle: both ends of a name tell it apart.
    """
    if len(text) > _READ:
        text = text[: _READ // 2] + text[-_READ // 2 :]
    text = mask(text)
    if len(text) > 4 * limit:  # a hostile name of megabytes is not worth a visit to each character
        text = text[: 2 * limit] + text[-2 * limit :]
    harmless = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    line = " ".join(harmless.split())
    if len(line) <= limit:
        return line
    keep = limit - 3
    return f"{line[: keep - keep // 3]}...{line[len(line) - keep // 3 :]}"
