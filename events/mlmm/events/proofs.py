"""Checks on the values inside buffers, without numpy: its calls cost more than a small record does.

Each check first tries a proof by operations on whole byte strings, which holds for nearly every record there is; only where
the proof fails are the values looked at one by one, to find the fault or to find none.
"""

import struct
from functools import lru_cache

from mlmm.events.errors import MalformedEvent
from mlmm.events.faults import check_time
from mlmm.events.limits import ID_BYTES

__all__ = ["MISSING", "check_classes", "check_codes", "check_ids", "check_times"]

MISSING = 0xFFFFFFFF
"""Dictionary code of a missing value."""

_u32 = struct.Struct("<I").unpack
_i64 = struct.Struct("<q").unpack
_f64 = struct.Struct("<d").unpack


def check_times(times: bytes, n: int) -> None:
    """Refuse a time outside the years 2000..2199. ``times`` is i64[n]."""
    if n == 1:
        check_time(_i64(times)[0], "time")
        return
    # Bytes 7 and 6 of a time: 0x0004 to 0x0018 are the years 2005 to 2193.
    high = times[6::8]
    if 0x04 <= high[0] <= 0x18 and high.count(high[0]) == n and not any(times[7::8]):
        return
    for i, time in enumerate(struct.unpack(f"<{n}q", times)):
        check_time(time, f"time[{i}]")


def check_ids(ids: bytes, lengths: bytes, n: int) -> None:
    """Refuse ids that are not each 1..512 bytes of valid UTF-8. ``lengths`` is u32[n]."""
    if len(lengths) != 4 * n:
        raise MalformedEvent(f"{len(lengths)} bytes, expected {4 * n} for {n} events", field="id_lengths")
    if n == 1:
        total = _u32(lengths)[0]
        short = 0 < total <= ID_BYTES
    else:
        low = lengths[::4]
        if lengths.count(0) == 3 * n and 0 not in low:  # so all high bytes are zero, and no low one
            total = sum(low)
            short = True
        else:
            every = struct.unpack(f"<{n}I", lengths)
            total = sum(every)
            short = min(every) > 0 and max(every) <= ID_BYTES
    if not short:
        raise MalformedEvent(f"each id has 1..{ID_BYTES} bytes", field="id_lengths")
    if total != len(ids):
        raise MalformedEvent(f"{len(ids)} bytes, expected {total} as in id_lengths", field="ids")
    if not ids.isascii():
        _check_utf8(ids, lengths, n)


def _check_utf8(ids: bytes, lengths: bytes, n: int) -> None:
    at = 0
    for i, length in enumerate(struct.unpack(f"<{n}I", lengths)):
        try:
            ids[at : at + length].decode()
        except UnicodeDecodeError:
            raise MalformedEvent("is not valid UTF-8", field=f"ids[{i}]") from None
        at += length


@lru_cache(maxsize=64)
def _indices(count: int) -> frozenset[float]:
    return frozenset(map(float, range(count)))


def check_classes(values: bytes, classes: tuple[str | float | bool, ...], n: int, field: str) -> None:
    """Refuse a value that is no index into ``classes``. ``values`` is f64[n]."""
    valid = _indices(len(classes))
    found = _f64(values) if n == 1 else struct.unpack(f"<{n}d", values)
    if not classes or valid.issuperset(found):
        return
    i = next(i for i, value in enumerate(found) if value not in valid)
    raise MalformedEvent(f"{found[i]} is no index into {len(classes)} classes", field=f"{field}[{i}]")


def check_codes(codes: bytes, dictionaries: tuple[tuple[str, ...], ...], n: int, field: str) -> None:
    """Refuse a code that is neither an index into its column's dictionary nor `MISSING`. ``codes`` is u32[n, columns]."""
    width = len(dictionaries)
    found = struct.unpack(f"<{n * width}I", codes)
    for column, values in enumerate(dictionaries):
        size = len(values)
        of_column = found[column::width]
        if max(of_column) < size:
            continue
        for i, code in enumerate(of_column):
            if size <= code != MISSING:
                raise MalformedEvent(f"{code} is no index into {size} values", field=f"{field}[{i}, {column}]")
