"""Identities: of events (`new_id`) and of outputs and classes (`code_of`)."""

import itertools
import os
import struct
from functools import lru_cache
from hashlib import blake2b
from time import time_ns

__all__ = ["code_of", "new_id"]

_BITS = struct.Struct("<d"), struct.Struct("<Q")
_STRINGS = 0xFFF8 << 48
_LOW_51 = (1 << 51) - 1


_REMEMBERED = 256
"""Characters of a string whose code is remembered: classes are short, and strangers' long ones must not fill memory."""


def _string_code_of(value: str) -> int:
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _STRINGS | int.from_bytes(digest, "little") & _LOW_51


_string_code = lru_cache(maxsize=16_384)(_string_code_of)


def code_of(value: float | str | bool) -> int:
    """Identity of a class or an output as an unsigned 64-bit integer.

    Parameters
    ----------
    value : float, str or bool
        Numbers are the bits of their float64; a bool is 0 or 1, -0.0 is 0.0, every NaN is the one positive quiet NaN.
        Strings lie in the space of negative NaNs: ``0xFFF8 << 48``, or'ed with the low 51 bits of their
        BLAKE2b digest of 8 bytes (of the UTF-8, read as a little-endian integer).

    Returns
    -------
    int
        1, 1.0 and True have one identity; 1 and ``"1"`` have two.
    """
    if isinstance(value, str):
        return _string_code(value) if len(value) <= _REMEMBERED else _string_code_of(value)
    number = float(value) + 0.0  # -0.0 + 0.0 is 0.0
    if number != number:  # noqa: PLR0124 - the fastest test for NaN
        return 0x7FF8 << 48
    as_float, as_int = _BITS
    return int(as_int.unpack(as_float.pack(number))[0])


_prefix = ""
_count = itertools.count()


def _renew() -> None:
    """Draw the process's prefix, again in a forked child: the counter alone would repeat the parent's ids."""
    global _prefix, _count  # noqa: PLW0603 - one identity a process is what this is about
    _prefix = os.urandom(5).hex()
    _count = itertools.count()


_renew()
os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """Make an id that is unique and sorts by time.

    Returns
    -------
    str
        32 hexadecimal digits: 14 of the time in microseconds, 10 of the process's random prefix, 8 of its counter.
    """
    return f"{time_ns() // 1000:014x}{_prefix}{next(_count) & 0xFFFFFFFF:08x}"
