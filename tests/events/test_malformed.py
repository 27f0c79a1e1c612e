"""Whatever the bytes are, a `MalformedEvent` that names the field is all that comes out."""

import contextlib
import random
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.events import COLUMNS, COLUMNS_TYPE, JSON, TYPES, Limits, MalformedEvent, decode_blocks, decode_events
from tests.events.samples import GOLDEN, SAMPLES, TIME

LABEL = {"prediction_id": "a", "time": TIME, "model": "m", "value": 1}
PREDICTION = {"prediction_id": "a", "time": TIME, "model": "m", "output": 1}
METRICS = {"run_id": "r", "attempt": "a", "time": TIME, "step": 1, "values": {"loss": 1}}

BEAT = {"run_id": "r", "attempt": "a", "time": TIME}
REPORT = {
    "subject": {"model": "m"}, "kind": "service", "window": "60s", "start": TIME - 60_000_000, "end": TIME,
    "log_time": TIME, "events": 1, "figures": {},
}  # fmt: skip
COMMAND = {"command_id": "c", "kind": "stop", "issued_at": TIME, "expires_at": TIME + 1, "issued_by": "x"}
NESTED: list = []
for _ in range(40):
    NESTED = [NESTED]

JSON_FAULTS = [
    ("mlmm.labels.v1", b"", ""),
    ("mlmm.labels.v1", b"[]", ""),
    ("mlmm.labels.v1", b"7", ""),
    ("mlmm.labels.v1", b"[" * 100_000, "[0]"),
    ("mlmm.labels.v1", b'{"x":' + b"[" * 100_000, ""),
    ("mlmm.labels.v1", b'{"prediction_id":"\xff"}', ""),
    ("mlmm.labels.v1", b'{"prediction_id":"\\ud800"}', ""),
    ("mlmm.labels.v1", LABEL | {"time": None}, "time"),
    ("mlmm.labels.v1", LABEL | {"time": TIME // 1000}, "time"),
    ("mlmm.labels.v1", LABEL | {"time": TIME * 1000}, "time"),
    ("mlmm.labels.v1", LABEL | {"time": 946_684_799_999_999}, "time"),
    ("mlmm.labels.v1", LABEL | {"time": 7_258_118_400_000_000}, "time"),
    ("mlmm.labels.v1", LABEL | {"time": 10**30}, "time"),
    ("mlmm.labels.v1", LABEL | {"value": None}, "value"),
    ("mlmm.labels.v1", LABEL | {"value": {}}, "value"),
    ("mlmm.labels.v1", LABEL | {"value": "x" * 8193}, "value"),
    ("mlmm.labels.v1", LABEL | {"prediction_id": ""}, "prediction_id"),
    ("mlmm.labels.v1", LABEL | {"prediction_id": "é" * 257}, "prediction_id"),
    ("mlmm.labels.v1", LABEL | {"model": ""}, "model"),
    ("mlmm.labels.v1", LABEL | {"model": "m#1"}, "model"),
    ("mlmm.labels.v1", [LABEL, LABEL | {"model": "m#1"}], "[1].model"),
    ("mlmm.labels.v1", [LABEL, {"time": TIME}], "[1].prediction_id"),
    ("mlmm.labels.v1", [LABEL, LABEL | {"prediction_id": ""}], "[1].prediction_id"),
    ("mlmm.labels.v1", [LABEL, LABEL | {"time": 1}], "[1].time"),
    ("mlmm.labels.v1", [LABEL, LABEL | {"weight": "heavy"}], "[1].weight"),
    ("mlmm.predictions.v1", PREDICTION | {"features": {"a": []}}, "features[...]"),
    ("mlmm.predictions.v1", PREDICTION | {"features": {"a": "x" * 8193}}, "features.a"),
    ("mlmm.predictions.v1", PREDICTION | {"features": {"x" * 8193: 1}}, "features"),
    ("mlmm.predictions.v1", PREDICTION | {"features": {str(i): 1 for i in range(4097)}}, "features"),
    ("mlmm.predictions.v1", PREDICTION | {"score": {}}, "score"),
    ("mlmm.predictions.v1", PREDICTION | {"score": {str(i): 0 for i in range(4097)}}, "score"),
    ("mlmm.predictions.v1", PREDICTION | {"segments": {"s": 1}}, "segments[...]"),
    ("mlmm.predictions.v1", PREDICTION | {"segments": {"s": "x" * 8193}}, "segments.s"),
    ("mlmm.predictions.v1", PREDICTION | {"task": "ranking"}, "task"),
    ("mlmm.failures.v1", {"time": TIME, "model": "m", "kind": "k", "status": 2**70}, "status"),
    ("mlmm.failures.v1", {"time": TIME, "model": "m", "kind": "k", "message": "x" * 8193}, "message"),
    ("mlmm.failures.v1", {"time": TIME, "model": "m"}, "kind"),
    ("mlmm.run.metrics.v1", METRICS | {"values": {"loss": "nan"}}, "values.loss"),
    ("mlmm.run.metrics.v1", [METRICS, METRICS | {"values": {"loss": "nan"}}], "[1].values.loss"),
    ("mlmm.run.metrics.v1", METRICS | {"step": 2**64}, "step"),
    ("mlmm.run.metrics.v1", METRICS | {"run_id": ""}, "run_id"),
    ("mlmm.run.started.v1", {"run_id": "r", "attempt": "a", "time": TIME}, "experiment"),
    ("mlmm.run.heartbeat.v1", {"run_id": "r", "attempt": "", "time": TIME}, "attempt"),
    ("mlmm.run.heartbeat.v1", [{"run_id": "r", "attempt": "a", "time": 5}], "[0].time"),
    (
        "mlmm.run.started.v1",
        {"run_id": "r", "attempt": "a", "time": TIME, "experiment": "e", "triggers": [{"kind": "magic"}]},
        "triggers[0].kind",
    ),
    ("mlmm.run.started.v1", b'{"params":{"a":1,"b":[}}', ""),
    ("mlmm.nothing.v1", {}, "ce_type"),
    ("mlmm.run.heartbeat.v1", BEAT | {"step": 2**63}, "step"),
    ("mlmm.run.heartbeat.v1", BEAT | {"step": -(10**30)}, "step"),
    ("mlmm.run.checkpoint.v1", BEAT | {"step": 1, "uri": "u", "size": 2**64, "sha256": ""}, "size"),
    ("mlmm.run.checkpoint.v1", BEAT | {"step": 1, "uri": "u" * 8193, "size": 1, "sha256": ""}, "uri"),
    ("mlmm.run.ended.v1", BEAT | {"status": "failed", "error": "é" * 4097}, "error"),
    ("mlmm.run.ended.v1", BEAT | {"status": "failed", "last_step": 2**70}, "last_step"),
    ("mlmm.run.started.v1", BEAT | {"experiment": "x" * 513}, "experiment"),
    ("mlmm.run.started.v1", BEAT | {"experiment": "", "total_steps": 2**64}, "total_steps"),
    ("mlmm.run.started.v1", BEAT | {"experiment": "", "params": {"a": NESTED}}, "params"),
    (
        "mlmm.run.started.v1",
        BEAT | {"experiment": "", "triggers": [{"kind": "falling", "metric": "x" * 8193}]},
        "triggers[0].metric",
    ),
    ("mlmm.run.metrics.v1", METRICS | {"phase": "x" * 129}, "phase"),
    ("mlmm.run.metrics.v1", METRICS | {"values": {"x" * 513: 1}}, "names"),
    ("mlmm.report.v1", REPORT | {"log_time": 10**30}, "log_time"),
    ("mlmm.report.v1", REPORT | {"log_time": -1}, "log_time"),
    ("mlmm.report.v1", REPORT | {"start": 0}, "start"),
    ("mlmm.report.v1", REPORT | {"end": 253_402_300_799_000_000}, "end"),
    ("mlmm.report.v1", REPORT | {"events": 2**63}, "events"),
    ("mlmm.report.v1", REPORT | {"figures": {"x" * 642: 1}}, "figures"),
    ("mlmm.report.v1", REPORT | {"figures": {f"{i}": 1 for i in range(4097)}}, "figures"),
    ("mlmm.report.v1", REPORT | {"figures": {"a": None}}, "figures[...]"),
    ("mlmm.report.v1", REPORT | {"subject": {"segment": "x" * 8193}}, "subject.segment"),
    ("mlmm.report.v1", REPORT | {"subject": {"model": "a#b"}}, "subject.model"),
    ("mlmm.command.v1", COMMAND | {"expires_at": TIME * 1000}, "expires_at"),
    ("mlmm.command.v1", COMMAND | {"evidence": {"a": NESTED}}, "evidence"),
]


@pytest.mark.parametrize(("type_", "value", "field"), JSON_FAULTS)
def test_what_is_wrong_in_json_is_named(type_, value, field):
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    with pytest.raises(MalformedEvent) as caught:
        decode_events(type_, JSON, raw)
    assert caught.value.field == field


def test_a_number_too_large_for_a_float_is_malformed():
    with pytest.raises(MalformedEvent, match="value"):
        decode_events("mlmm.labels.v1", JSON, b'{"prediction_id":"a","time":%d,"model":"m","value":1e999}' % TIME)


def test_what_a_user_says_of_a_run_is_theirs_to_choose():
    """``params`` may be large and hold any number that JSON can say: nothing is reckoned with it."""
    params = {"seed": 2**64 - 1, "weights": list(range(10_000)), "x" * 9_000: "y" * 9_000}
    (event,) = decode_events(
        "mlmm.run.started.v1", JSON, msgspec.json.encode(BEAT | {"experiment": "", "params": params})
    )
    assert event.params == params


@pytest.mark.parametrize(
    ("subject", "key", "right"),
    [
        ({"model": "m"}, b"m", True),
        ({"model": "m"}, b"m#3", True),
        ({"model": "m", "version": "1"}, b"other", False),
        ({"run": "r"}, b"r", True),
        ({"run": "r"}, b"r#3", False),
        ({"host": "h"}, b"h", True),
        ({}, b"m", False),
    ],
)
def test_the_key_of_a_finding_is_its_subject(subject, key, right):
    """Alerting keeps an island a key: a finding under a foreign one would fire there."""
    value = msgspec.json.encode(REPORT | {"subject": subject})
    decode_events("mlmm.report.v1", JSON, value)
    if right:
        decode_events("mlmm.report.v1", JSON, value, key=key)
    else:
        with pytest.raises(MalformedEvent, match=r"key|subject"):
            decode_events("mlmm.report.v1", JSON, value, key=key)


def f64(*values):
    return struct.pack(f"<{len(values)}d", *values)


def i64(*values):
    return struct.pack(f"<{len(values)}q", *values)


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


GONE = object()

# (file, what replaces which field of its map, field that the error must name)
COLUMN_FAULTS = [
    ("predictions-numbers", {"head": GONE}, "head"),
    ("predictions-numbers", {"head": 1}, "head"),
    ("predictions-numbers", {"head": {}}, "head.model"),
    ("predictions-numbers", {"head": {"model": "a#b"}}, "head.model"),
    ("predictions-numbers", {"head": {"model": "m", "route": "side"}}, "head.route"),
    ("predictions-numbers", {"head": {"model": "m", "positive": float("nan")}}, "head.positive"),
    ("predictions-numbers", {"head": {"model": "m", "threshold": float("inf")}}, "head.threshold"),
    ("predictions-numbers", {"head": {"model": "m", "features": ["a", "a"]}}, "head.features"),
    ("predictions-numbers", {"head": {"model": "m", "features": ["a"], "categories": ["a"]}}, "head.features"),
    ("predictions-numbers", {"head": {"model": "m", "segments": ["a", "a"]}}, "head.segments"),
    ("predictions-numbers", {"head": {"model": "m", "features": ["a"]}}, "features"),
    ("predictions-numbers", {1: 2}, ""),
    ("predictions-numbers", {"n": GONE}, "n"),
    ("predictions-numbers", {"n": 0}, "n"),
    ("predictions-numbers", {"n": -1}, "n"),
    ("predictions-numbers", {"n": 2**63}, "n"),
    ("predictions-numbers", {"n": 2}, "time"),
    ("predictions-numbers", {"time": GONE}, "time"),
    ("predictions-numbers", {"time": i64(TIME, TIME)}, "time"),
    ("predictions-numbers", {"time": i64(TIME, TIME, 0)}, "time[2]"),
    ("predictions-numbers", {"time": i64(TIME, -1, TIME)}, "time[1]"),
    ("predictions-numbers", {"time": i64(TIME, TIME, 7_258_118_400_000_000)}, "time[2]"),
    ("predictions-numbers", {"time": i64(946_684_799_999_999, TIME, TIME)}, "time[0]"),
    ("predictions-numbers", {"ids": b""}, "ids"),
    ("predictions-numbers", {"ids": b"x" * 20, "id_lengths": u32(7, 7, 7)}, "ids"),
    ("predictions-numbers", {"ids": b"x" * 4, "id_lengths": u32(0, 2, 2)}, "id_lengths"),
    ("predictions-numbers", {"ids": b"x" * 515, "id_lengths": u32(513, 1, 1)}, "id_lengths"),
    ("predictions-numbers", {"ids": b"x" * 4, "id_lengths": u32(2**32 - 1, 4, 1)}, "id_lengths"),
    ("predictions-numbers", {"ids": b"xyz", "id_lengths": b"\0" * 11}, "id_lengths"),
    ("predictions-numbers", {"ids": b"x\xffz", "id_lengths": u32(1, 1, 1)}, "ids[1]"),
    ("predictions-numbers", {"ids": "éa".encode(), "id_lengths": u32(1, 1, 1)}, "ids[0]"),
    ("predictions-numbers", {"output": f64(1, 2)}, "output"),
    ("predictions-numbers", {"output": "abc"}, "output"),
    ("predictions-numbers", {"features": b"\0" * 71}, "features"),
    ("predictions-numbers", {"score": f64(1)}, "score"),
    ("predictions-numbers", {"latency": f64(1)}, "latency"),
    ("predictions-numbers", {"weight": f64(1)}, "weight"),
    ("predictions-numbers", {"value": f64(1)}, "value"),
    ("predictions-numbers", {"classes": ["a"]}, "output[1]"),
    ("predictions-numbers", {"classes": ["a", None]}, "classes[1]"),
    ("predictions-numbers", {"classes": ["a", "x" * 8193]}, "classes"),
    ("predictions-numbers", {"classes": 3}, "classes"),
    ("predictions-numbers", {"categories": u32(0)}, "categories"),
    ("predictions-numbers", {"dictionary": [["a"]]}, "dictionary"),
    ("predictions-numbers", {"segments": u32(0)}, "segments"),
    ("predictions-numbers", {"segment_values": [["a"]]}, "segment_values"),
    ("predictions-numbers", {"score_classes": ["a"]}, "scores"),
    ("predictions-numbers", {"scores": f64(1, 2, 3)}, "scores"),
    ("predictions-numbers", {"scores": f64(1, 2, 3), "score_classes": ["a"]}, "scores"),
    ("predictions-mixed", {"score_classes": ["a", "a"]}, "score_classes"),
    ("predictions-mixed", {"scores": f64(1)}, "scores"),
    ("predictions-mixed", {"output": f64(0, 1, 3)}, "output[2]"),
    ("predictions-mixed", {"output": f64(0, 0.5, 1)}, "output[1]"),
    ("predictions-mixed", {"output": f64(float("nan"), 0, 1)}, "output[0]"),
    ("predictions-mixed", {"output": f64(0, -1, 1)}, "output[1]"),
    ("predictions-mixed", {"output": f64(0, 1, 1 + 2**-52)}, "output[2]"),
    ("predictions-mixed", {"categories": u32(0, 2, 0)}, "categories[1, 0]"),
    ("predictions-mixed", {"categories": u32(0, 0xFFFFFFFE, 0)}, "categories[1, 0]"),
    ("predictions-mixed", {"categories": u32(0, 0x01010101, 0)}, "categories[1, 0]"),
    ("predictions-mixed", {"categories": u32(0, 0x000000FF, 0)}, "categories[1, 0]"),
    ("predictions-mixed", {"categories": u32(0, 0xFFFFFF00, 0)}, "categories[1, 0]"),
    ("predictions-mixed", {"categories": u32(0, 0x00010000, 0)}, "categories[1, 0]"),
    ("predictions-mixed", {"dictionary": GONE}, "dictionary"),
    ("predictions-mixed", {"dictionary": ["a"]}, "dictionary[0]"),
    ("predictions-mixed", {"dictionary": [["x" * 8193]]}, "dictionary"),
    ("predictions-mixed", {"segments": u32(0, 1, 2)}, "segments[2, 0]"),
    ("predictions-mixed", {"segments": GONE}, "segments"),
    ("labels-numbers", {"value": f64(1)}, "value"),
    ("labels-numbers", {"value": GONE}, "value"),
    ("labels-numbers", {"weight": f64(1)}, "weight"),
    ("labels-mixed", {"value": f64(0, 1, 2, 9)}, "value[3]"),
    ("failures", {"kinds": GONE}, "kinds"),
    ("failures", {"kinds": ["a"]}, "kinds"),
    ("failures", {"kinds": ["a", 1]}, "kinds[1]"),
    ("failures", {"messages": ["a"]}, "messages"),
    ("failures", {"status": i64(1)}, "status"),
    ("failures", {"latency": f64(1)}, "latency"),
    ("run-metrics", {"head": {"run_id": "r", "attempt": "", "names": []}}, "head.attempt"),
    ("run-metrics", {"head": {"run_id": "r", "attempt": "a", "names": ["x", "x"]}}, "head.names"),
    ("run-metrics", {"head": {"run_id": "r", "attempt": "a"}}, "head.names"),
    ("run-metrics", {"values": f64(1)}, "values"),
    ("run-metrics", {"step": i64(1)}, "step"),
]


@pytest.mark.parametrize(("name", "changes", "field"), COLUMN_FAULTS)
def test_what_is_wrong_in_columns_is_named(name, changes, field):
    raw = msgspec.msgpack.decode((GOLDEN / f"{name}.columns").read_bytes()) | changes
    changed = msgspec.msgpack.encode({key: value for key, value in raw.items() if value is not GONE})
    with pytest.raises(MalformedEvent) as caught:
        decode_blocks(SAMPLES[name][0], COLUMNS_TYPE, changed)
    assert caught.value.field == field


@pytest.mark.parametrize("size", [2, 3, 4, 255, 256, 300])
def test_an_index_is_right_up_to_the_last_value_and_wrong_beyond(size):
    """The proofs by bytes and the look at each value agree where one hands over to the other."""
    raw = msgspec.msgpack.decode((GOLDEN / "predictions-mixed.columns").read_bytes())
    raw |= {"classes": [str(i) for i in range(size)], "dictionary": [[str(i) for i in range(size)]]}
    right = raw | {"output": f64(0, 1, size - 1), "categories": u32(0, size - 1, 0xFFFFFFFF)}
    (block,) = decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, msgspec.msgpack.encode(right))
    assert (len(block.classes), len(block.dictionary[0])) == (size, size)
    for wrong, field in (
        ({"output": f64(0, 1, size)}, "output[2]"),
        ({"categories": u32(0, size, 0)}, "categories[1, 0]"),
    ):
        with pytest.raises(MalformedEvent) as caught:
            decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, msgspec.msgpack.encode(right | wrong))
        assert caught.value.field == field


def test_times_right_at_the_ends_of_the_years_allowed_pass():
    raw = msgspec.msgpack.decode((GOLDEN / "predictions-numbers.columns").read_bytes())
    raw["time"] = i64(946_684_800_000_000, TIME, 7_258_118_399_999_999)
    assert decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, msgspec.msgpack.encode(raw))


def with_field(name, value):
    """A record of labels with a field put before all others; both are msgpack already."""
    raw = (GOLDEN / "labels-mixed.columns").read_bytes()
    assert raw[0] & 0xF0 == 0x80  # a map whose size is in its first byte
    return bytes([raw[0] + 1, 0xA0 | len(name)]) + name.encode() + value + raw[1:]


LONG = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
]


@pytest.mark.parametrize("value", LONG)
@pytest.mark.parametrize("field", ["head", "classes", "unknown", "ids"])
def test_a_length_that_promises_more_than_there_is_fails_before_it_is_allocated(field, value):
    with pytest.raises(MalformedEvent, match=r"truncated|ids: Expected"):
        decode_blocks("mlmm.labels.v1", COLUMNS_TYPE, with_field(field, value))


@pytest.mark.parametrize("field", ["head", "classes", "unknown"])
def test_nesting_without_end_is_malformed(field):
    with pytest.raises(MalformedEvent, match="nested"):
        decode_blocks("mlmm.labels.v1", COLUMNS_TYPE, with_field(field, b"\x91" * 100_000 + b"\xc0"))


@pytest.mark.parametrize(
    ("limits", "name", "word"),
    [
        (Limits(record_bytes=100), "predictions-numbers.columns", "record"),
        (Limits(record_bytes=100), "predictions-numbers.json", "record"),
        (Limits(column_bytes=32), "predictions-numbers.columns", "head"),
        (Limits(column_bytes=32), "predictions-numbers.json", "features"),
        (Limits(column_bytes=20), "labels-mixed.columns", "time"),
        (Limits(events=2), "predictions-numbers.columns", "n"),
        (Limits(events=2), "predictions-numbers.json", "events"),
    ],
)
def test_limits_hold(limits, name, word):
    type_ = SAMPLES[name.rpartition(".")[0]][0]
    with pytest.raises(MalformedEvent, match=word):
        decode_blocks(
            type_, JSON if name.endswith("json") else COLUMNS_TYPE, (GOLDEN / name).read_bytes(), limits=limits
        )


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/cloudevents+json"])
def test_an_unknown_content_type_is_malformed(content_type):
    with pytest.raises(MalformedEvent, match="content-type"):
        decode_blocks("mlmm.labels.v1", content_type, b"{}")
    with pytest.raises(MalformedEvent, match="content-type"):
        decode_events("mlmm.tick.v1", content_type, b"{}")


def test_types_without_columns_say_so():
    with pytest.raises(MalformedEvent, match="has no blocks"):
        decode_blocks("mlmm.tick.v1", JSON, b"{}")
    with pytest.raises(MalformedEvent, match="has no columns"):
        decode_events("mlmm.tick.v1", COLUMNS_TYPE, b"\x80")


def survives(type_, content_type, raw):
    """Decode what may be broken: an event, or a `MalformedEvent`; anything else fails the test."""
    for decode in (decode_events, decode_blocks):
        with contextlib.suppress(MalformedEvent):
            decode(type_, content_type, raw)


FILES = [
    (type_, JSON if suffix == "json" else COLUMNS_TYPE, GOLDEN / f"{name}.{suffix}")
    for name, (type_, _) in SAMPLES.items()
    for suffix in ("json", "columns")
    if suffix == "json" or type_ in COLUMNS
]


@pytest.mark.parametrize(("type_", "content_type", "path"), FILES, ids=[path.name for *_, path in FILES])
def test_truncated_and_bit_flipped_records_are_read_or_malformed(type_, content_type, path):
    raw = path.read_bytes()
    for end in range(len(raw)):
        with pytest.raises(MalformedEvent):
            decode_events(type_, content_type, raw[:end])
    rng = random.Random(path.name)
    for at in range(len(raw)):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << rng.randrange(8)
        survives(type_, content_type, bytes(flipped))
    for _ in range(300):
        broken = bytearray(raw)
        for _ in range(rng.randint(1, 6)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        survives(type_, content_type, bytes(broken))


@given(st.sampled_from(sorted(TYPES)), st.sampled_from([JSON, COLUMNS_TYPE]), st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(type_, content_type, raw):
    survives(type_, content_type, raw)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=24),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({name for block, _ in COLUMNS.values() for name in block.__struct_fields__})


@given(st.sampled_from([file for file in FILES if file[1] == COLUMNS_TYPE]), st.sampled_from(FIELDS), anything)
def test_any_value_in_any_field_is_read_or_malformed(file, field, value):
    type_, content_type, path = file
    survives(type_, content_type, msgspec.msgpack.encode(msgspec.msgpack.decode(path.read_bytes()) | {field: value}))
