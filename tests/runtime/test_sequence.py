"""`sequence`: a function of the input log alone, and the dropping of what is not higher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.runtime.processor import Output, Record
from mlmm.runtime.sequence import SOURCES, WIDTH, Seen, encode, numbered, parse, source

parts = st.tuples(st.integers(0, 999_999), st.integers(0, 2**63 - 1), st.integers(0, 999_999))


@given(parts, parts)
def test_the_order_of_sequences_as_text_is_their_order_as_numbers(one: tuple[int, int, int], two: tuple[int, int, int]):
    assert (encode(*one) < encode(*two)) == (one < two)
    assert parse(encode(*one)) == one


@pytest.mark.parametrize("wrong", [(-1, 0, 0), (0, -1, 0), (0, 0, 1_000_000), (1_000_000, 0, 0)])
def test_a_part_that_does_not_fit_is_an_error(wrong: tuple[int, int, int]):
    with pytest.raises(ValueError, match="does not fit"):
        encode(*wrong)


@pytest.mark.parametrize("wrong", [b"", b"1.2.3", b"x" * WIDTH, b"000001-0000000000000000001-000001"])
def test_what_is_no_sequence_is_an_error(wrong: bytes):
    with pytest.raises(ValueError, match="is not a sequence"):
        parse(wrong)


def output(offset: int, name: str = "o") -> Output:
    return Output(topic="findings", key=b"k", type="mlmm.report.v1", id=name, time=0, value=b"{}", offset=offset)


def test_the_index_counts_within_one_record():
    made = numbered([output(4), output(4), output(9)], epoch=2)
    assert [parse(sequence) for sequence, _ in made] == [(2, 4, 0), (2, 4, 1), (2, 9, 0)]


def test_outputs_out_of_order_are_an_error():
    with pytest.raises(ValueError, match="follows one of offset 9"):
        numbered([output(9), output(4)], epoch=0)


def record(origin: str | None, sequence: bytes | None, offset: int = 0) -> Record:
    headers = [("ce_type", b"mlmm.report.v1")]
    headers += [("ce_source", origin.encode())] if origin is not None else []
    headers += [("ce_sequence", sequence)] if sequence is not None else []
    return Record(offset, 0, b"k", b"{}", headers)


def test_what_is_not_higher_within_its_source_is_dropped():
    a, b = source("d", "serving", "t", 0), source("d", "serving", "t", 1)
    one, two, gap = encode(0, 1, 0), encode(0, 1, 1), encode(0, 70, 0)
    seen = Seen()
    came = [
        record(a, one),
        record(b, one),
        record(a, one),
        record(a, two),
        record(a, gap),
        record(a, two),
        record(b, two),
    ]
    assert seen.fresh(came) == [came[0], came[1], came[3], came[4], came[6]]


def test_a_higher_epoch_is_higher_at_any_offset():
    """`mlmm topics adopt` begins a new log at offset 0: its outputs must not be swallowed."""
    seen = Seen({b"a": encode(0, 10**9, 5)})
    assert seen.fresh([record("a", encode(1, 0, 0))])


def test_records_that_no_worker_made_pass():
    seen = Seen({b"a": encode(0, 5, 0)})
    came = [record(None, None), record("a", None), record(None, encode(0, 1, 0)), record("a", b"17")]
    assert seen.fresh(came) == came
    assert seen.changed() == {}


@pytest.mark.parametrize("wrong", [b"x" * WIDTH, b"~" * WIDTH, b"999999.9999999999999999999.999999", b"9" * WIDTH])
def test_what_only_looks_like_a_sequence_is_neither_dropped_nor_remembered(wrong: bytes):
    """Remembered, it would be higher than every true one, and all that its source still says would be swallowed."""
    seen = Seen()
    came = [record("a", wrong), record("a", encode(0, 1, 0)), record("a", wrong), record("a", encode(0, 2, 0))]
    assert seen.fresh(came) == came
    assert seen.changed() == {b"a": encode(0, 2, 0)}
    restored = Seen({b"a": wrong})
    assert restored.fresh(came[1:2]) == came[1:2]


def test_strangers_do_not_fill_the_memory():
    seen = Seen()
    came = [record(f"stranger {n}", encode(0, 1, 0)) for n in range(SOURCES + 50)]
    assert seen.fresh(came) == came
    assert len(seen.changed()) == SOURCES
    assert seen.fresh(came) == came[SOURCES:]
    long = record("x" * 2_000, encode(0, 1, 0))
    assert Seen().fresh([long, long]) == [long, long]


def test_what_changed_is_told_once():
    seen = Seen()
    seen.fresh([record("a", encode(0, 1, 0)), record("a", encode(0, 2, 0))])
    assert seen.changed() == {b"a": encode(0, 2, 0)}
    assert seen.changed() == {}
    assert not seen.fresh([record("a", encode(0, 2, 0))])
