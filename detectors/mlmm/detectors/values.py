"""Which values a detector may see."""

from .compiled import kernel

__all__ = ["LARGEST", "usable"]

LARGEST = 1e100
"""A value beyond this is missing to us: its square, or the sum of many, could overflow and leave a detector deaf."""


@kernel(inline=True)
def usable(x: float) -> bool:
    """Whether a detector may see a value: not NaN, not infinite, not beyond `LARGEST`."""
    return abs(x) <= LARGEST
