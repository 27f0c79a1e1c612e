"""One file of the spool: what was written is read, what was torn or changed is found, and costs no other record."""

import random
from pathlib import Path

import pytest

from mlmm.producers.segments import FRAME, HEAD, Segment, UnreadableSegment

SIZE = 4096


def bodies(count: int, seed: int = 7) -> list[bytes]:
    stream = random.Random(seed)
    return [stream.randbytes(stream.randrange(1, 60)) for _ in range(count)]


def written(path: Path, records: list[bytes]) -> list[int]:
    """Write a segment; return where its records end."""
    segment = Segment.create(path, SIZE)
    ends = [segment.append(body) for body in records]
    segment.close()
    assert None not in ends
    return [end for end in ends if end is not None]


def read_all(segment: Segment) -> list[bytes]:
    found = []
    while (one := segment.read()) is not None:
        found.append(one[0])
    return found


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = [b"", b"x" * 1000, *bodies(20)]
    written(tmp_path / "s", records)
    segment = Segment.open(tmp_path / "s")
    assert (read_all(segment), segment.damaged, segment.done) == (records, 0, True)


def test_a_segment_takes_its_space_when_it_is_made_and_no_more(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "s", 200)
    assert (tmp_path / "s").stat().st_size == 200
    assert segment.append(b"x" * 100) == HEAD + FRAME + 100
    assert segment.append(b"x" * 100) is None
    assert (tmp_path / "s").stat().st_size == 200


def test_what_was_acknowledged_is_not_read_again(tmp_path: Path) -> None:
    """In whatever order acknowledgements come, none is passed over: what is before the first gap is done with."""
    records = bodies(5)
    ends = written(tmp_path / "s", records)
    segment = Segment.open(tmp_path / "s")
    while (one := segment.read()) is not None:
        segment.pending.append((one[1], False))
    for settled in (1, 0, 3):
        segment.settle(ends[settled])
    assert read_all(Segment.open(tmp_path / "s")) == records[2:]
    segment.settle(ends[2])
    assert read_all(Segment.open(tmp_path / "s")) == records[4:]
    assert not segment.done
    segment.settle(ends[4])
    assert segment.done


def test_a_torn_tail_costs_the_torn_record_alone(tmp_path: Path) -> None:
    """Cut anywhere, as when a process is killed, or a machine before the file was synced."""
    records = bodies(4)
    ends = written(tmp_path / "s", records)
    content = (tmp_path / "s").read_bytes()
    for cut in range(HEAD, ends[-1] + 1):
        (tmp_path / "t").write_bytes(content[:cut].ljust(SIZE, b"\0"))
        segment = Segment.open(tmp_path / "t")
        whole = [body for body, end in zip(records, ends, strict=True) if not any(content[cut:end])]
        assert read_all(segment) == whole
        assert segment.damaged == (
            cut not in [HEAD, *ends] and any(content[ends[len(whole) - 1] if whole else HEAD : cut])
        )
        segment.close()


def test_a_changed_bit_costs_one_record_and_is_counted(tmp_path: Path) -> None:
    """Every bit of a small segment, one after the other: nothing is read that was not written."""
    records = bodies(4)
    ends = written(tmp_path / "s", records)
    content = bytearray((tmp_path / "s").read_bytes()[: ends[-1]])
    for place in range(HEAD, len(content)):
        for bit in range(8):
            content[place] ^= 1 << bit
            (tmp_path / "t").write_bytes(content)
            segment = Segment.open(tmp_path / "t")
            hit = next(i for i, end in enumerate(ends) if place < end)
            assert read_all(segment) == records[:hit] + records[hit + 1 :]
            assert segment.damaged == 1
            segment.close()
            content[place] ^= 1 << bit


def test_a_damaged_head_costs_no_record(tmp_path: Path) -> None:
    records = bodies(4)
    written(tmp_path / "s", records)
    content = bytearray((tmp_path / "s").read_bytes())
    for place in (*range(7), *range(8, 20)):
        for bit in range(8):
            content[place] ^= 1 << bit
            (tmp_path / "t").write_bytes(content)
            segment = Segment.open(tmp_path / "t")
            assert segment.damaged == 1
            assert read_all(segment) == records
            segment.close()
            content[place] ^= 1 << bit


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b"\0" * SIZE, b"MLMMSPL1"], ids=len)
def test_what_a_crash_left_unbegun_is_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    segment = Segment.open(tmp_path / "s")
    assert read_all(segment) == []
    assert segment.done


def test_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"MLMMSPL2".ljust(SIZE, b"x"))
    with pytest.raises(UnreadableSegment, match=r"MLMMSPL2.*left as it is"):
        Segment.open(tmp_path / "s")
    assert (tmp_path / "s").exists()


def test_random_damage_never_makes_a_record_up(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    stream = random.Random(seed)
    records = bodies(20, seed)
    ends = written(tmp_path / "s", records)
    content = (tmp_path / "s").read_bytes()[: ends[-1]]
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(stream.randrange(1, 6)):
            at = stream.randrange(HEAD, len(damaged))
            length = stream.randrange(1, 40)
            damaged[at : at + length] = stream.randbytes(min(length, len(damaged) - at))
        (tmp_path / "t").write_bytes(damaged)
        segment = Segment.open(tmp_path / "t")
        found = read_all(segment)
        rest = iter(records)
        assert all(body in rest for body in found), "in order, and each of them written"
        assert len(found) == len(records) or segment.damaged
        segment.close()
