"""What `decode_blocks` and `decode_events` promise beside what they refuse."""

import struct

import msgspec
import pytest

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    FailureBlock,
    LabelBlock,
    MalformedEvent,
    MetricsBlock,
    PredictionBlock,
    decode_blocks,
    decode_events,
    encode_columns,
)
from mlmm.events.heads import Parsed
from tests.events.samples import GOLDEN, TIME

CLASSES = {
    "predictions-numbers": ("mlmm.predictions.v1", PredictionBlock),
    "predictions-mixed": ("mlmm.predictions.v1", PredictionBlock),
    "labels-mixed": ("mlmm.labels.v1", LabelBlock),
    "failures": ("mlmm.failures.v1", FailureBlock),
    "run-metrics": ("mlmm.run.metrics.v1", MetricsBlock),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_decoded_block_is_of_the_public_class_with_nothing_left_raw(name):
    type_, of = CLASSES[name]
    (block,) = decode_blocks(type_, COLUMNS_TYPE, (GOLDEN / f"{name}.columns").read_bytes())
    assert type(block) is of
    assert not any(isinstance(getattr(block, field), msgspec.Raw) for field in block.__struct_fields__)


@pytest.mark.parametrize("name", CLASSES)
def test_both_formats_lead_to_the_same_block_and_the_same_head_object(name):
    type_, _ = CLASSES[name]
    (columns,) = decode_blocks(type_, COLUMNS_TYPE, (GOLDEN / f"{name}.columns").read_bytes())
    (rows,) = decode_blocks(type_, JSON, (GOLDEN / f"{name}.json").read_bytes())
    assert columns.head is rows.head
    assert repr(columns) == repr(rows)


def test_a_head_written_in_another_way_is_the_same_object():
    raw = (GOLDEN / "labels-mixed.columns").read_bytes()
    other = msgspec.msgpack.encode(msgspec.msgpack.decode(raw) | {"head": {"unknown": 1, "model": "animals"}})
    assert (
        decode_blocks("mlmm.labels.v1", COLUMNS_TYPE, raw)[0].head
        is decode_blocks("mlmm.labels.v1", COLUMNS_TYPE, other)[0].head
    )


def test_unknown_fields_are_ignored_and_index_is_not_read_from_the_wire():
    raw = (GOLDEN / "predictions-mixed.columns").read_bytes()
    more = msgspec.msgpack.encode(msgspec.msgpack.decode(raw) | {"embedding": [1, {"deep": None}], "index": 7})
    assert decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, more)[0].index == 0
    assert repr(decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, more)) == repr(
        decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, raw)
    )
    event = b'{"prediction_id":"a","time":%d,"model":"m","value":1,"unknown":{"x":[]}}' % TIME
    assert len(decode_events("mlmm.labels.v1", JSON, event)) == 1


def test_json_events_that_follow_one_another_with_an_equal_head_share_a_block():
    models = "aabba"
    rows = [{"prediction_id": "x", "time": TIME, "model": model, "value": 1} for model in models]
    blocks = decode_blocks("mlmm.labels.v1", JSON, msgspec.json.encode(rows))
    assert [(block.head.model, block.n, block.index) for block in blocks] == [("a", 2, 0), ("b", 2, 2), ("a", 1, 4)]
    assert blocks[0].head is blocks[2].head


def test_the_index_of_a_block_is_not_written():
    (block,) = decode_blocks("mlmm.labels.v1", COLUMNS_TYPE, (GOLDEN / "labels-mixed.columns").read_bytes())
    before = encode_columns(block)
    block.index = 9
    assert encode_columns(block) == before
    assert block.index == 9


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_parameters_of_a_json_content_type_are_allowed(content_type):
    assert decode_blocks("mlmm.failures.v1", content_type, (GOLDEN / "failures.json").read_bytes())


KEYS = [
    ("predictions-numbers", "mlmm.predictions.v1", b"fraud", True),
    ("predictions-numbers", "mlmm.predictions.v1", b"fraud#12", True),
    ("predictions-numbers", "mlmm.predictions.v1", b"fraud#", False),
    ("predictions-numbers", "mlmm.predictions.v1", b"fraud#x", False),
    ("predictions-numbers", "mlmm.predictions.v1", b"fraud2", False),
    ("predictions-numbers", "mlmm.predictions.v1", b"", False),
    ("run-metrics", "mlmm.run.metrics.v1", b"churn-1", True),
    ("run-metrics", "mlmm.run.metrics.v1", b"churn-1#2", False),
]


@pytest.mark.parametrize("suffix", ["json", "columns"])
@pytest.mark.parametrize(("name", "type_", "key", "right"), KEYS)
def test_a_key_must_be_the_model_a_shard_of_it_or_the_run(name, type_, key, right, suffix):
    raw = (GOLDEN / f"{name}.{suffix}").read_bytes()
    content_type = JSON if suffix == "json" else COLUMNS_TYPE
    if right:
        assert decode_blocks(type_, content_type, raw, key=key)
    else:
        with pytest.raises(MalformedEvent) as caught:
            decode_blocks(type_, content_type, raw, key=key)
        assert caught.value.field == "key"


@pytest.mark.parametrize(
    ("name", "type_", "key"),
    [
        ("run-started", "mlmm.run.started.v1", b"churn-1"),
        ("command-acked", "mlmm.command.acked.v1", b"churn-1"),
        ("command-state", "mlmm.command.state.v1", b"churn-1"),
        ("incident", "mlmm.incident.v1", b"i-1"),
        ("notification", "mlmm.notification.v1", b"on_call"),
        ("notification-outcome", "mlmm.notification.outcome.v1", b"n-1"),
    ],
)
def test_keys_of_single_events_are_checked_too(name, type_, key):
    raw = (GOLDEN / f"{name}.json").read_bytes()
    assert decode_events(type_, JSON, raw, key=key)
    with pytest.raises(MalformedEvent, match="key"):
        decode_events(type_, JSON, raw, key=b"another")


def test_non_finite_values_are_missing_where_a_value_may_be_missing():
    raw = msgspec.msgpack.decode((GOLDEN / "predictions-numbers.columns").read_bytes())
    raw["latency"] = struct.pack("<3d", float("nan"), 1, 2)
    (first, *_) = decode_events("mlmm.predictions.v1", COLUMNS_TYPE, msgspec.msgpack.encode(raw))
    assert first.latency is None


def test_a_cache_keeps_its_bounds_and_does_not_keep_what_failed():
    parsed = []

    def parse(raw):
        parsed.append(raw)
        if raw == b"bad":
            raise MalformedEvent("no")
        return raw.upper()

    cache = Parsed(parse, entries=2, size=64)
    assert cache(b"a") is cache(b"a")
    assert parsed == [b"a"]
    for _ in range(2):
        with pytest.raises(MalformedEvent):
            cache(b"bad")
    assert parsed == [b"a", b"bad", b"bad"]
    cache(b"b")
    cache(b"c")
    assert cache.get(b"a") is None
    assert cache.get(b"c") == b"C"
    assert cache(b"longer than a sixteenth") == b"LONGER THAN A SIXTEENTH"
    assert cache.get(b"longer than a sixteenth") is None
