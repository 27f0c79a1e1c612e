"""The frame around a detector's stored state: what it is, in which layout, and a checksum.

::

    "mlmD"  u8 layout  u8 n  n bytes of kind  body  u32 CRC-32 of all before it      (little-endian)

A new layout gets a new number; `unwrap` names the kind and layout that it found where they are not those asked for.
"""

import struct
import zlib

__all__ = ["damaged", "unwrap", "wrap"]

_MAGIC = b"mlmD"
_CRC = struct.Struct("<I")


def wrap(kind: str, layout: int, body: bytes | bytearray | memoryview) -> bytes:
    """Frame a body."""
    name = kind.encode("ascii")
    framed = b"".join((_MAGIC, bytes((layout, len(name))), name, body))
    return framed + _CRC.pack(zlib.crc32(framed))


def unwrap(data: bytes, kind: str, layout: int) -> memoryview:
    """Take the body out of a frame.

    Raises
    ------
    ValueError
        Saying whether the bytes are no detector's state, another detector's, of an unknown layout, or damaged.
    """
    view = memoryview(data).cast("B")
    if len(view) < len(_MAGIC) + 2 + _CRC.size or view[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"not the state of a detector: {len(view)} bytes that begin with {bytes(view[:8])!r}")
    if _CRC.unpack(view[-_CRC.size :])[0] != zlib.crc32(view[: -_CRC.size]):
        raise ValueError(f"damaged state of a detector: the checksum of {len(view)} bytes does not agree")
    start = len(_MAGIC) + 2
    end = start + view[len(_MAGIC) + 1]
    found = bytes(view[start:end])
    if found != kind.encode("ascii"):
        raise ValueError(f"state of {found.decode('ascii', 'replace')!r}, not of {kind!r}")
    if view[len(_MAGIC)] != layout:
        raise ValueError(f"state of {kind!r} has layout {view[len(_MAGIC)]}; this version reads layout {layout}")
    return view[end : -_CRC.size]


def damaged(kind: str, reason: str) -> ValueError:
    """Make the error for a body that passes its checksum and still makes no sense."""
    return ValueError(f"damaged state of {kind!r}: {reason}")
