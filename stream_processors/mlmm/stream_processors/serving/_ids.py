"""128-bit identities of prediction ids: MurmurHash3_x64_128 with seed 0, over the id's UTF-8.

Two different ids of one model that meet while both wait (n of them at once) share a hash with probability n² / 2¹²⁹.
Source: Appleby, "MurmurHash3", 2011 (public domain reference implementation).
"""

from typing import Any

import numpy as np

from mlmm.detectors import kernel

__all__ = ["murmur3_128"]

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_M1 = np.uint64(0xFF51AFD7ED558CCD)
_M2 = np.uint64(0xC4CEB9FE1A85EC53)
_ADD1 = np.uint64(0x52DCE729)
_ADD2 = np.uint64(0x38495AB5)
_FIVE = np.uint64(5)


@kernel
def _rotl(x: Any, by: int) -> Any:
    return (x << np.uint64(by)) | (x >> np.uint64(64 - by))


@kernel
def _mix(x: Any) -> Any:
    x ^= x >> np.uint64(33)
    x *= _M1
    x ^= x >> np.uint64(33)
    x *= _M2
    x ^= x >> np.uint64(33)
    return x


@kernel
def _word(data: np.ndarray, at: int) -> Any:
    word: Any = np.uint64(0)
    for k in range(8):
        word |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return word


@kernel
def _partial(data: np.ndarray, at: int, count: int) -> Any:
    word: Any = np.uint64(0)
    for k in range(count):
        word |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return word


@kernel
def murmur3_128(data: np.ndarray, start: int, length: int) -> tuple[Any, Any]:
    """Hash ``data[start:start + length]`` (uint8) to two halves, as int64."""
    h1: Any = np.uint64(0)
    h2: Any = np.uint64(0)
    at = start
    for _ in range(length >> 4):
        h1 ^= _rotl(_word(data, at) * _C1, 31) * _C2
        h1 = (_rotl(h1, 27) + h2) * _FIVE + _ADD1
        h2 ^= _rotl(_word(data, at + 8) * _C2, 33) * _C1
        h2 = (_rotl(h2, 31) + h1) * _FIVE + _ADD2
        at += 16
    tail = length & 15
    if tail > 8:
        h2 ^= _rotl(_partial(data, at + 8, tail - 8) * _C2, 33) * _C1
    if tail > 0:
        h1 ^= _rotl(_partial(data, at, min(tail, 8)) * _C1, 31) * _C2
    h1 ^= np.uint64(length)
    h2 ^= np.uint64(length)
    h1 += h2
    h2 += h1
    h1 = _mix(h1)
    h2 = _mix(h2)
    h1 += h2
    h2 += h1
    return np.int64(h1), np.int64(h2)
