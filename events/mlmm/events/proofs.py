"""Checks on the values inside buffers, without numpy: its calls cost more than a small record does.

Each check first tries a proof by operations on whole byte strings, which holds for nearly every record there is; only
where the proof fails are the values looked at one by one, to find the fault or to find none.
"""

import struct
from collections.abc import Callable
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
_each_u32 = struct.Struct("<I").iter_unpack


def check_times(times: bytes, n: int) -> None:
    """Refuse a time outside the years 2000..2199. ``times`` is i64[n]."""
    if n == 1:
        check_time(_i64(times)[0], "time")
        return
    # Bytes 7 and 6 of a time: 0x0004 to 0x0018 are the years 2005 to 2193.
    high = times[6::8]
    if 0x04 <= high[0] <= 0x18 and high.count(high[0]) == n and times[7::8].count(0) == n:
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


# Bytes 7 and 6 of 0.0, 1.0 and 2.0, whose other bytes are zero: each byte 7 calls for one byte 6; 1 is none of them.
_SIX_OF_SEVEN = [bytes({0x00: 0x00, 0x3F: 0xF0, 0x40: 0x00}.get(high, 1) for high in range(256))]
_SIX_OF_SEVEN.insert(0, bytes({0x00: 0x00, 0x3F: 0xF0}.get(high, 1) for high in range(256)))


def check_classes(values: bytes, classes: tuple[str | float | bool, ...], n: int, field: str) -> None:
    """Refuse a value that is no index into ``classes``. ``values`` is f64[n]."""
    count = len(classes)
    if not count:
        return
    if n == 1:
        value = _f64(values)[0]
        if 0 <= value < count and value.is_integer():
            return
    elif 1 < count <= 3:
        high, low = values[7::8], values[6::8]
        rest = values.count(0) - high.count(0) - low.count(0)
        if rest == 6 * n and 1 not in low and high.translate(_SIX_OF_SEVEN[count - 2]) == low:
            return
    for i, value in enumerate(struct.unpack(f"<{n}d", values)):
        if not (0 <= value < count and value.is_integer()):
            raise MalformedEvent(f"{value} is no index into {count} classes", field=f"{field}[{i}]")


@lru_cache(maxsize=256)
def _row_of(width: int) -> Callable[[bytes], tuple[int, ...]]:
    return struct.Struct(f"<{width}I").unpack


@lru_cache(maxsize=256)
def _high_of_low(size: int) -> bytes:
    """Lowest byte of a code → its other bytes: 00 for an index, FF for `MISSING`, 01 for what is neither."""
    return bytes(0x00 if low < size else 0xFF if low == 0xFF else 0x01 for low in range(256))


def _codes_hold(codes: bytes, dictionaries: tuple[tuple[str, ...], ...]) -> bool:
    """Proof for dictionaries of up to 255 values; False proves nothing."""
    width = len(dictionaries)
    high = codes[1::4]
    if high != codes[2::4] or high != codes[3::4] or 0x01 in high:
        return False
    low = codes[::4]
    return all(
        low[column::width].translate(_high_of_low(min(len(values), 255))) == high[column::width]
        for column, values in enumerate(dictionaries)
    )


CATEGORIES = ("categories", "dictionary")
SEGMENTS = ("segments", "segment_values")


def check_codes(
    codes: bytes, dictionaries: tuple[tuple[str, ...], ...], n: int, width: int, fields: tuple[str, str]
) -> None:
    """Refuse a code that is neither an index into its column's dictionary nor `MISSING`.

    Parameters
    ----------
    codes : bytes
        u32[n, width]
    dictionaries : tuple of tuple of str
        One a column.
    n, width : int
        Events; columns that the head names.
    fields : tuple of str
        Names of the two fields: `CATEGORIES` or `SEGMENTS`.
    """
    codes_field, values_field = fields
    if len(dictionaries) != width:
        raise MalformedEvent(
            f"{len(dictionaries)} lists, expected {width} as in head.{codes_field}", field=values_field
        )
    if len(codes) != 4 * n * width:
        raise MalformedEvent(f"{len(codes)} bytes, expected {4 * n * width} for {n} events", field=codes_field)
    if n == 1:
        for code, values in zip(_row_of(width)(codes), dictionaries, strict=True):
            if code >= len(values) and code != MISSING:
                break
        else:
            return
    elif _codes_hold(codes, dictionaries):
        return
    for place, (code,) in enumerate(_each_u32(codes)):
        size = len(dictionaries[place % width])
        if size <= code != MISSING:
            where = f"{codes_field}[{place // width}, {place % width}]"
            raise MalformedEvent(f"{code} is no index into {size} values", field=where)
