"""Records with header names that are not UTF-8 are read, and all others the way they always were."""

import inspect

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition
from kafka.record.default_records import DefaultRecordBatchBuilder

from mlmm.runtime.harness import lenient

PLACE = TopicPartition("t", 0)


class Name(str):
    """A header's name that is written as these bytes, as a client in C may do."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"n\xff\xfe"


def batch(first: int, *records: tuple[bytes, list[tuple[str, bytes | None]]], compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for n, (value, headers) in enumerate(records):
        builder.append(n, timestamp=1, key=b"k", value=value, headers=headers)
    made = bytearray(builder.build())
    made[:8] = first.to_bytes(8, "big")
    return bytes(made)


def read(data: bytes, offset: int = 0) -> list[tuple[int, bytes, tuple[tuple[str, bytes | None], ...]]]:
    """What a consumer would get, and that it stands behind the last of it."""
    records = fetcher.PartitionRecords(
        PLACE, fetcher.MemoryRecords(data), [], offset, None, None, True, fetcher.READ_UNCOMMITTED
    )
    found = [(each.offset, each.value, each.headers) for each in records]
    assert records.next_fetch_offset == (found[-1][0] + 1 if found else offset)
    return found


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PartitionRecords", "MemoryRecords"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    lenient.install()


@pytest.mark.parametrize("compression", [0, 1])
def test_a_name_that_is_not_utf8_is_spelled_with_escapes(compression: int):
    data = batch(0, (b"a", [("x", b"1")]), (b"b", [(Name("?"), b"2"), ("y", None)]), compression=compression)
    data += batch(2, (b"c", [("é", b"3")]), (b"d", [(Name("?"), b"")]), compression=compression)
    wanted = [
        (0, b"a", (("x", b"1"),)),
        (1, b"b", (("n\\xff\\xfe", b"2"), ("y", None))),
        (2, b"c", (("é", b"3"),)),
        (3, b"d", (("n\\xff\\xfe", b""),)),
    ]
    assert read(data) == wanted
    assert read(data, 1) == wanted[1:]
    assert read(data, 3) == wanted[3:]


def test_what_the_broker_cut_off_comes_with_the_next_fetch():
    one, two = batch(0, (b"a", [(Name("?"), b"1")])), batch(1, (b"b", []))
    for cut in range(1, len(two)):
        assert [offset for offset, *_ in read(one + two[:-cut])] == [0]


def test_the_private_names_are_where_we_replace_them():
    source = inspect.getsource(fetcher.Fetcher)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert "partition_records = PartitionRecords(" in source
    (theirs,) = (base for base in fetcher.PartitionRecords.__mro__[1:2])
    assert "next(self._records_iterator)" in inspect.getsource(theirs.__next__)
    assert "self.next_fetch_offset = record.offset + 1" in inspect.getsource(theirs._unpack_records)
