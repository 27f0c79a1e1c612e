"""Dead letters: whole where they can be, bounded always, and nothing in them that a stranger could have said."""

import pytest

from mlmm.events import MalformedEvent, header
from mlmm.runtime import outbox
from mlmm.runtime.deadletters import HEADERS_MOST, KEY_MOST, OURS, VALUE_MOST, dead_letter
from mlmm.runtime.processor import Record
from mlmm.runtime.sequence import encode

HEADERS = (("ce_type", b"mlmm.labels.v1"), ("ce_id", b"1"), ("ce_source", b"s"), ("tracing", None), ("tracing", b"2"))


def sent(record: Record, reason: str = "bad") -> outbox.Message:
    """What is sent to the topic for a record."""
    entry = outbox.encode(encode(0, record.offset, 0), dead_letter(record, MalformedEvent(reason)), "serving", 2)
    return outbox.message(entry, "mlmm/serving/mlmm.serving/2", None)


def size(message: outbox.Message) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in message.headers)
    return len(message.key) + len(message.value) + headers


def test_a_letter_is_the_record_as_received_with_the_reason_and_the_place():
    made = sent(Record(7, 1, b"m", b"raw", HEADERS))
    assert (made.topic, made.key, made.value) == ("dead-letters", b"m", b"raw")
    assert tuple(made.headers[:5]) == HEADERS
    assert dict(made.headers[5:]) == {
        "mlmm_error": b"bad",
        "mlmm_offset": b"7",
        "mlmm_topic": b"serving",
        "mlmm_partition": b"2",
        "mlmm_sequence": encode(0, 7, 0),
        "mlmm_source": b"mlmm/serving/mlmm.serving/2",
    }


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_record_does_not_say_itself_where_it_came_from(name: str):
    """It would be sent there by `mlmm dead-letters retry`: to the commands, for example."""
    made = sent(Record(7, 1, b"m", b"raw", [(name, b"commands"), *HEADERS]))
    assert all(value != b"commands" for _, value in made.headers)
    assert header(made.headers, "mlmm_topic") == b"serving"


def test_a_large_value_stays_where_it_was_read():
    made = sent(Record(7, 1, b"m", bytes(VALUE_MOST + 1), HEADERS))
    assert made.value == b""
    assert header(made.headers, "mlmm_truncated") == b"%d" % (VALUE_MOST + 1)
    assert sent(Record(7, 1, b"m", bytes(VALUE_MOST), HEADERS)).value == bytes(VALUE_MOST)


def test_no_letter_is_larger_than_a_topic_takes():
    many = [*HEADERS, *((f"h{n}", b"x" * 100) for n in range(5_000))]
    long = [*HEADERS, ("n" * 500_000, b""), ("ce_id", b"x" * 500_000)]
    repeated = [("ce_id", b"x" * 1_000)] * 900
    for headers in (many, long, repeated):
        made = sent(Record(7, 1, b"k" * 1_000_000, bytes(1_000_000), headers), "x" * 1_000_000)
        assert header(made.headers, "mlmm_left_out") == b"headers key"
        assert size(made) <= VALUE_MOST + HEADERS_MOST + KEY_MOST
    assert header(sent(Record(7, 1, b"m", b"", many)).headers, "ce_id") == b"1"


def test_a_reason_of_any_characters_can_be_written():
    assert header(sent(Record(7, 1, b"m", b"", []), "a \ud800").headers, "mlmm_error") == b"a \\ud800"
