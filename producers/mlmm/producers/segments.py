"""A segment: one file of the spool, its space taken when it is made, its records checksummed.

Layout, little-endian. Head (32 bytes): ``MLMMSPL1``, u64 offset up to which all is acknowledged, u32 CRC-32 of the 16
bytes before, zeros. Then records: ``F5 4D 4C 52``, u32 length of the body, u32 CRC-32 of length and body, the body.
What follows the last record is zeros.
"""

import os
import struct
import zlib
from collections import deque
from pathlib import Path

from mlmm.events import MlmmError

__all__ = ["FRAME", "HEAD", "Segment", "UnreadableSegment"]

_MAGIC = b"MLMMSPL1"
_MARK = b"\xf5MLR"
_HEAD = struct.Struct("<8sQI")
_FRAME = struct.Struct("<4sII")
_LENGTH = struct.Struct("<I")
HEAD = 32
"""Bytes before the first record."""
FRAME = _FRAME.size
"""Bytes before the body of a record."""


class UnreadableSegment(MlmmError):  # noqa: N818 - says what it is about
    """A file that is no segment, or of a layout that this version does not know."""


class Segment:
    """One file, open while it is used: a spool may have hundreds.

    Parameters
    ----------
    path : Path
    size : int
        Bytes that it takes on the disk.
    acknowledged : int
        Offset up to which all is acknowledged.
    end : int
        Offset behind the last record; for a file that another process left, the file's length.
    """

    def __init__(self, path: Path, size: int, acknowledged: int, end: int) -> None:
        self.path = path
        self.size = size
        self._opened: int | None = None
        self.end = end
        self.acknowledged = acknowledged
        self.at = acknowledged
        """Where the next record to be read begins."""
        self.events = 0
        """Events that were appended and neither read nor kept in hand."""
        self.pending: deque[tuple[int, bool]] = deque()
        """End of each record that was handed out, and whether it is settled."""
        self.damaged = 0

    @classmethod
    def create(cls, path: Path, size: int) -> "Segment":
        """Make a file of ``size`` bytes, all of them taken on the disk; `OSError` where that can't be."""
        segment = cls(path, size, HEAD, HEAD)
        segment._opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(segment._fd, 0, size)
            segment._note()
        except OSError:
            segment.remove()
            raise
        return segment

    @classmethod
    def open(cls, path: Path) -> "Segment":
        """Open what another process left, from the start where its head is damaged.

        Raises
        ------
        UnreadableSegment
            Where its layout is of another version.
        """
        with path.open("rb") as file:
            head = file.read(_HEAD.size).ljust(_HEAD.size, b"\0")
            size = os.fstat(file.fileno()).st_size
        if head[:7] == _MAGIC[:7] and head[7:8].isdigit() and head[:8] != _MAGIC:
            raise UnreadableSegment(f"{path} is of another version's layout ({head[:8]!r}): it is left as it is")
        _, acknowledged, checksum = _HEAD.unpack(head)
        sound = checksum == zlib.crc32(head[:16]) and HEAD <= acknowledged <= size
        segment = cls(path, size, acknowledged if sound else HEAD, size)
        segment.damaged = 0 if sound or not any(head) else 1
        return segment

    @property
    def _fd(self) -> int:
        if self._opened is None:
            self._opened = os.open(self.path, os.O_RDWR)
        return self._opened

    def append(self, body: bytes) -> int | None:
        """Write a record; return the offset of its end, None where there is no room. What fails may be tried again."""
        length = _LENGTH.pack(len(body))
        frame = _FRAME.pack(_MARK, len(body), zlib.crc32(body, zlib.crc32(length))) + body
        if self.end + len(frame) > self.size:
            return None
        if os.pwrite(self._fd, frame, self.end) != len(frame):
            raise OSError(f"{self.path}: a record was written in part")
        self.end += len(frame)
        return self.end

    def read(self) -> tuple[bytes, int] | None:
        """Return the next sound record and the offset of its end; None behind the last. Counts damaged places."""
        if self.at >= self.end:
            return None
        body = self._body(self.at)
        if body is None:
            found = self._search()
            if found is None:
                self.at = self.end
                return None
            self.at, body = found
        self.at += FRAME + len(body)
        return body, self.at

    def _body(self, at: int) -> bytes | None:
        frame = os.pread(self._fd, FRAME, at)
        if len(frame) < FRAME:
            return None
        mark, length, checksum = _FRAME.unpack(frame)
        if mark != _MARK or at + FRAME + length > self.end:
            return None
        body = os.pread(self._fd, length, at + FRAME)
        return body if zlib.crc32(body, zlib.crc32(frame[4:8])) == checksum else None

    def _search(self) -> tuple[int, bytes] | None:
        """Look for the next sound record behind a place that is none."""
        rest = os.pread(self._fd, self.end - self.at, self.at)
        if rest.count(0) == len(rest):
            return None  # the space that was taken and not used
        self.damaged += 1
        place = rest.find(_MARK, 1)
        while place >= 0:
            body = self._body(self.at + place)
            if body is not None:
                return self.at + place, body
            place = rest.find(_MARK, place + 1)
        return None

    def settle(self, end: int) -> None:
        """Note that the record that ends there is done with, and on the disk how far all are."""
        pending = self.pending
        for i, (each, _) in enumerate(pending):
            if each == end:
                pending[i] = (end, True)
                break
        moved = False
        while pending and pending[0][1]:
            self.acknowledged = pending.popleft()[0]
            moved = True
        if moved:
            self._note()

    @property
    def done(self) -> bool:
        """Whether all that was written is read and acknowledged."""
        return self.at >= self.end and not self.pending

    def _note(self) -> None:
        head = _MAGIC + struct.pack("<Q", self.acknowledged)
        os.pwrite(self._fd, head + _LENGTH.pack(zlib.crc32(head)), 0)

    def sync(self) -> None:
        """Force what was written to the disk itself."""
        os.fdatasync(self._fd)

    def seal(self) -> None:
        """Give back the space that was not used."""
        os.ftruncate(self._fd, self.end)
        self.size = self.end

    def close(self) -> None:
        """Close the file until it is used again."""
        fd, self._opened = self._opened, None
        if fd is not None:
            os.close(fd)

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)
