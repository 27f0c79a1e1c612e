"""Identities, places, headers, topics and signatures: what another language must compute to the bit."""

import hashlib
import hmac
import multiprocessing
import struct
import warnings
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.events import (
    TYPES,
    MalformedEvent,
    Topics,
    check_model,
    cloudevents_headers,
    code_of,
    header,
    new_id,
    partition_of,
    rfc3339,
    shard_key,
    sign,
    verify,
)
from tests.events.samples import TIME

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
@pytest.mark.parametrize("partitions", [1, 3, 7, 1000])
def test_partitions_are_those_of_kafkas_java_client(key, partitions):
    assert partition_of(key, partitions) == (JAVA[key] & 0x7FFFFFFF) % partitions


with warnings.catch_warnings():  # kafka-python's own on Python 3.11
    warnings.simplefilter("ignore")
    from kafka.partitioner.default import murmur2


@given(st.binary(max_size=40), st.integers(1, 50))
def test_partitions_are_those_of_kafka_python(key, partitions):
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_the_shard_is_the_crc32_of_the_prediction_id():
    assert shard_key("fraud", "order-1", 1) == b"fraud"
    assert shard_key("fraud", "é", 8) == b"fraud#%d" % (zlib.crc32("é".encode()) % 8)


@pytest.mark.parametrize("model", ["", "a#b", "é" * 257, "\ud800"])
def test_a_model_that_cannot_be_a_key_is_refused(model):
    with pytest.raises(MalformedEvent, match="model"):
        check_model(model)


@pytest.mark.parametrize("value", [0, 1, -1.5, 1e300, float("inf"), True])
def test_the_code_of_a_number_is_its_bits(value):
    assert code_of(value) == struct.unpack("<Q", struct.pack("<d", value))[0]


def test_codes_of_strings_negative_zero_and_nan():
    low = int.from_bytes(hashlib.blake2b("é".encode(), digest_size=8).digest(), "little") & (1 << 51) - 1
    assert code_of("é") == 0xFFF8 << 48 | low
    assert code_of(-0.0) == code_of(0) == code_of(False) == 0
    assert code_of(float("nan")) == code_of(-float("nan")) == 0x7FF8 << 48
    assert code_of("1") != code_of(1) == code_of(1.0) == code_of(True)


def test_ids_are_unique_and_sort_by_time():
    ids = [new_id() for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert {len(each) for each in ids} == {32}
    assert [each[:14] for each in ids] == sorted(each[:14] for each in ids)


def _send_id(pipe):
    pipe.send(new_id())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_draws_a_prefix_of_its_own():
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe()
    child = context.Process(target=_send_id, args=(writer,))
    child.start()
    assert reader.poll(30)
    assert reader.recv()[14:24] != new_id()[14:24]
    child.join()


def test_headers_are_cloudevents_in_binary_mode_in_a_fixed_order():
    headers = cloudevents_headers(
        "mlmm.command.v1",
        "c-1",
        "mlmm://host/1",
        TIME + 1,
        "application/json",
        sequence="0-1-2",
        causationid="é",
        expirytime=TIME,
        correlationid="",
    )
    assert headers == [
        ("ce_type", b"mlmm.command.v1"),
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"c-1"),
        ("ce_source", b"mlmm://host/1"),
        ("ce_time", b"2026-09-21T14:13:20.000001Z"),
        ("ce_causationid", "é".encode()),
        ("ce_expirytime", b"2026-09-21T14:13:20.000000Z"),
        ("ce_sequence", b"0-1-2"),
    ]
    assert header(headers, "ce_id") == b"c-1"
    assert header(headers, "ce_traceparent") is None


def test_times_before_the_epoch_keep_their_microseconds():
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999Z"


def test_topics_have_full_and_logical_names():
    topics = Topics("prod")
    assert topics.full("findings") == topics.findings == "prod.findings"
    assert topics.logical("prod.notification-outcomes") == "notification-outcomes"
    assert [topics.logical(topics.full(spec.logical)) for spec in topics.ALL] == [spec.logical for spec in Topics.ALL]
    attributes = {value for name, value in vars(topics).items() if name != "prefix"}
    assert attributes == {topics.full(spec.logical) for spec in topics.ALL}
    for wrong in ("mlmm.findings", "prod.nothing", "findings"):
        with pytest.raises(ValueError, match="no topic"):
            topics.logical(wrong)


def test_every_type_has_a_topic_and_only_two_topics_are_compacted():
    assert {name for spec in Topics.ALL for name in spec.types} | {"mlmm.tick.v1"} == set(TYPES)
    assert [spec.logical for spec in Topics.ALL if spec.compacted] == ["incidents", "notification-outcomes"]


RECORD = (b"churn-1", "mlmm.command.v1", "c-1", b"{}")


def test_a_signature_is_hmac_over_length_prefixed_parts():
    parts = [part if isinstance(part, bytes) else part.encode() for part in RECORD]
    message = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    assert sign("k:1", b"secret", *RECORD) == b"k:1:" + hmac.new(b"secret", message, "sha256").hexdigest().encode()


@pytest.mark.parametrize("at", range(4))
def test_a_signature_holds_for_its_record_alone(at):
    signature = sign("k:1", b"secret", *RECORD)
    assert verify(signature, {"k:1": b"secret"}, *RECORD) is None
    other = [part if i != at else part + part[:1] for i, part in enumerate(RECORD)]
    assert "does not match" in verify(signature, {"k:1": b"secret"}, *other)


def test_what_moves_from_one_part_to_the_next_breaks_a_signature():
    signature = sign("k", b"s", b"ab", "c", "d", b"e")
    assert verify(signature, {"k": b"s"}, b"a", "bc", "d", b"e") is not None


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "not signed"),
        (b"", "form"),
        (b"abcdef", "form"),
        (b"\xff:00", "ASCII"),
        (b"other:00", "unknown key 'other'"),
        (b"k:00", "does not match"),
    ],
)
def test_a_signature_that_does_not_hold_says_why(signature, reason):
    assert reason in verify(signature, {"k": b"s"}, *RECORD)
