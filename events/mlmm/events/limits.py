"""How large a record may be once decoded."""

import msgspec

__all__ = [
    "DEFAULT_LIMITS",
    "DEPTH",
    "ID_BYTES",
    "NAMES",
    "NAME_BYTES",
    "PHASE_BYTES",
    "STRING_BYTES",
    "TIME_MAX",
    "TIME_MIN",
    "Limits",
]

TIME_MIN = 946_684_800_000_000
"""2000-01-01T00:00:00Z in microseconds: an earlier time is one in another unit."""
TIME_MAX = 7_258_118_400_000_000
"""2200-01-01T00:00:00Z in microseconds, itself excluded."""
ID_BYTES = 512
"""Longest id and model name, in bytes of UTF-8; the shortest has one."""
NAMES = 4_096
"""Most features, categories, segments, score classes or metrics of one event, of each kind."""
NAME_BYTES = 512
"""Longest name of a feature, category, segment, score class, metric or figure: a run's findings repeat all of them."""
PHASE_BYTES = 128
"""Longest phase of a metric, which stands before its name."""
STRING_BYTES = 8_192
"""Longest class, category value, kind, message or other text, in bytes of UTF-8."""
DEPTH = 32
"""Most levels of lists and maps in what a user may fill as they like (``params``, ``evidence``)."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on one record; what exceeds one is a `MalformedEvent` that says which."""

    record_bytes: int = 8 << 20
    """The value as a whole."""
    column_bytes: int = 4 << 20
    """Each buffer, list of strings or dictionary of a block."""
    events: int = 65_536
    """Events a record."""


DEFAULT_LIMITS = Limits()
