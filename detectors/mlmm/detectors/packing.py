"""Kernels that write numbers into bytes and read them back: little-endian on every machine."""

import numpy as np
import numpy.typing as npt

from .compiled import kernel

__all__ = ["get_f64", "get_u32", "put_f64", "put_u32"]


@kernel(inline=True)
def put_u32(buffer: npt.NDArray[np.uint8], position: int, value: int) -> int:
    """Write an integer of 0 to 2**32 - 1; return the position after it."""
    number = np.int64(value)
    for k in range(4):
        buffer[position + k] = np.uint8((number >> (8 * k)) & 0xFF)
    return position + 4


@kernel(inline=True)
def get_u32(buffer: npt.NDArray[np.uint8], position: int) -> int:
    """Read what `put_u32` wrote at a position."""
    number = np.int64(0)
    for k in range(4):
        number |= np.int64(buffer[position + k]) << np.int64(8 * k)
    return number  # type: ignore[return-value]


@kernel(inline=True)
def put_f64(buffer: npt.NDArray[np.uint8], position: int, value: float) -> int:
    """Write a float64; return the position after it."""
    bits = np.float64(value).view(np.int64)
    for k in range(8):
        buffer[position + k] = np.uint8((bits >> (8 * k)) & 0xFF)
    return position + 8


@kernel(inline=True)
def get_f64(buffer: npt.NDArray[np.uint8], position: int) -> float:
    """Read what `put_f64` wrote at a position."""
    bits = np.int64(0)
    for k in range(8):
        bits |= np.int64(buffer[position + k]) << np.int64(8 * k)
    return np.int64(bits).view(np.float64)
