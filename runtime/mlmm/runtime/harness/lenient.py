"""Reading a record whose header has a name that is not UTF-8.

Brokers take such a record, aiokafka raises for it, at each try: the partition would stand still for ever, and no dead
letter would say why. Here such a name is spelled with escapes, and what the record says is judged as always. Records
that aiokafka can read go its own, compiled, way.

The private surface, held by a contract test: ``aiokafka.consumer.fetcher.PartitionRecords`` (``_records_iterator``,
``_consumer_record``, ``next_fetch_offset``), ``MemoryRecords`` and the batch in Python, ``_DefaultRecordBatchPy``.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

__all__ = ["install"]

_LENGTH = struct.Struct(">i").unpack_from
_LENGTH_AT, _BATCH_AT = 8, 12
"""Where a batch says its length, and where what that counts begins."""


def install() -> None:
    """Let all consumers of this process read such records."""
    fetcher.MemoryRecords = _Records
    fetcher.PartitionRecords = _PartitionRecords


class _Records(MemoryRecords):
    """What a fetch gave, and its bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _PartitionRecords(fetcher.PartitionRecords):
    """Goes on with the lenient reader where aiokafka's own gives up."""

    next_fetch_offset: int
    _records_iterator: Iterator[Any] | None

    def __next__(self) -> Any:
        try:
            return next(self._records_iterator)  # type: ignore[arg-type]  # None only after the end
        except StopIteration:
            self._records_iterator = None
            raise
        except UnicodeDecodeError:
            self._records_iterator = self._leniently()
            return next(self._records_iterator)

    def _leniently(self) -> Iterator[Any]:
        """Yield the records from where the other reader stood; the next fetch begins behind what is yielded here."""
        for batch in _batches(self._records.data):
            if not batch.is_control_batch:
                for record in batch:
                    if record.offset >= self.next_fetch_offset:
                        made = self._consumer_record(self._tp, record)
                        self.next_fetch_offset = record.offset + 1
                        yield made
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)


def _batches(data: bytes) -> Iterator["_Batch"]:
    at = 0
    while at + _BATCH_AT <= len(data):
        end = at + _BATCH_AT + _LENGTH(data, at + _LENGTH_AT)[0]
        if end > len(data):  # the broker cuts the last one off where the fetch is full
            return
        yield _Batch(data[at:end])
        at = end


class _Text(bytearray):
    """Bytes whose parts decode whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Text(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _Batch(_DefaultRecordBatchPy):
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)
