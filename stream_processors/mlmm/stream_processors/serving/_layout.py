"""The layout of the cells by its number, and whose a cell is: known without loading what reads them."""

__all__ = ["LAYOUT", "key_of"]

LAYOUT = 1
_NUMBER = {b"s"[0]: 4, b"r"[0]: 8}
"""Kind of cell → bytes of the number between kind and key."""


def key_of(cell: bytes) -> bytes:
    """Return the record key in a cell's name."""
    return cell[1 + _NUMBER.get(cell[0], 0) :]
