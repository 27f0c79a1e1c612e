"""Records as JSON lines: lossless for processors, readable by people, refused clearly where they are broken."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmm.console.replay import WrongInput, from_lines, to_lines
from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    Failure,
    Heartbeat,
    Label,
    Metrics,
    Prediction,
    Tick,
    blocks_of,
    decode_blocks,
    decode_events,
    encode_columns,
    encode_json,
)
from mlmm.runtime.processor import Record

T0 = 1_763_600_000_000_000
KINDS = {
    Prediction: "mlmm.predictions.v1",
    Label: "mlmm.labels.v1",
    Failure: "mlmm.failures.v1",
    Metrics: "mlmm.run.metrics.v1",
}
NUMBERS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e308])
FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324])
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
CLASSES = WORDS | FINITE | st.booleans()


def _predictions(draw):
    numeric = draw(st.lists(WORDS, unique=True, max_size=3))
    text = [name for name in draw(st.lists(WORDS, unique=True, max_size=2)) if name not in numeric]
    segments = draw(st.lists(WORDS, unique=True, max_size=2))
    scores = draw(st.sampled_from(["none", "one", "many"]))
    make = CLASSES if draw(st.booleans()) else FINITE
    for i in range(draw(st.integers(1, 5))):
        yield Prediction(
            prediction_id=f"p{i}",
            time=T0 + draw(st.integers(0, 10**9)),
            model="m",
            output=draw(make),
            features={name: draw(st.none() | NUMBERS) for name in numeric}
            | {name: draw(st.none() | WORDS) for name in text},
            segments={name: draw(WORDS) for name in segments},
            score={"none": None, "one": draw(FINITE), "many": {"a": draw(FINITE), "b": draw(FINITE)}}[scores],
            latency=draw(st.none() | FINITE),
            weight=draw(st.none() | FINITE),
        )


def _labels(draw):
    for i in range(draw(st.integers(1, 5))):
        yield Label(prediction_id=f"p{i}", time=T0 + i, model="m", value=draw(CLASSES), weight=draw(st.none() | FINITE))


def _failures(draw):
    for i in range(draw(st.integers(1, 5))):
        yield Failure(
            time=T0 + i, model="m", kind=draw(WORDS), message=draw(WORDS), status=draw(st.none() | st.integers(0, 999))
        )


def _metrics(draw):
    names = draw(st.lists(WORDS, unique=True, max_size=3))
    for i in range(draw(st.integers(1, 5))):
        yield Metrics(run_id="r", attempt="a", time=T0 + i, step=i, values={name: draw(NUMBERS) for name in names})


def _record(kind, content, value, key=b"m", offset=7):
    headers = [("ce_type", kind.encode()), ("content-type", content.encode()), ("ce_id", b"x1")]
    return Record(offset, T0 + 5, key, value, headers)


def _again(record, topic="serving"):
    lines = to_lines(topic, 2, record)
    assert all("\n" not in line for line in lines)
    ((name, partition, again),) = from_lines(lines)
    assert (name, partition, again.offset, again.log_time, again.key) == (
        topic,
        2,
        record.offset,
        record.log_time,
        record.key,
    )
    return lines, again


def _blocks(record):
    headers = dict(record.headers)
    return [
        (block.index, encode_columns(block))
        for block in decode_blocks(headers["ce_type"].decode(), headers["content-type"].decode(), record.value)
    ]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_columns_come_back_as_the_same_blocks(data):
    """Columns to lines to columns: head, ids and every number to the bit, or the block itself beside its events."""
    events = list(data.draw(st.sampled_from([_predictions, _labels, _failures, _metrics]))(data.draw))
    kind = KINDS[type(events[0])]
    for block in blocks_of(events):
        record = _record(kind, COLUMNS_TYPE, encode_columns(block), key=b"r" if kind == KINDS[Metrics] else b"m")
        lines, again = _again(record)
        assert _blocks(again) == _blocks(record)
        assert len(lines) == block.n


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_json_comes_back_as_the_same_events(data):
    events = list(data.draw(st.sampled_from([_labels, _failures, _metrics]))(data.draw))
    kind = KINDS[type(events[0])]
    value = encode_json(events if data.draw(st.booleans()) else events[0])
    _, again = _again(_record(kind, JSON, value))
    # Compared as text: a metric may be NaN, which equals nothing.
    assert repr(decode_events(kind, JSON, again.value)) == repr(decode_events(kind, JSON, value))


def test_a_line_is_what_a_person_expects():
    event = Heartbeat(run_id="r", attempt="a", time=T0, step=3)
    (line,) = to_lines("training", 2, _record("mlmm.run.heartbeat.v1", JSON, encode_json(event), key=b"r"))
    assert json.loads(line) == {
        "topic": "training",
        "key": "r",
        "partition": 2,
        "offset": 7,
        "log_time": T0 + 5,
        "type": "mlmm.run.heartbeat.v1",
        "id": "x1",
        "data": {"run_id": "r", "attempt": "a", "time": T0, "step": 3},
    }


def test_a_number_that_json_has_no_word_for_keeps_the_block_beside_its_events():
    """An infinite feature becomes null for people; the processor still gets what was sent."""
    (block,) = blocks_of([Prediction(prediction_id="p", time=T0, model="m", output=1, features={"f": float("inf")})])
    record = _record("mlmm.predictions.v1", COLUMNS_TYPE, encode_columns(block))
    lines, again = _again(record)
    assert json.loads(lines[0])["data"]["features"] == {"f": None}
    assert again.value == record.value


@pytest.mark.parametrize(
    ("kind", "content", "value", "key"),
    [
        ("mlmm.predictions.v1", COLUMNS_TYPE, b"\x00garbage", b"m"),
        ("mlmm.predictions.v1", JSON, b"{not json", b"m"),
        ("mlmm.predictions.v1", JSON, b"[]", b"m"),
        ("mlmm.predictions.v1", "text/plain", b"\xff\xfe", b"m"),
        ("", "", b"", b""),
        ("what.is.this", COLUMNS_TYPE, b"\x80", b"\xff\xfekey"),
        ("mlmm.labels.v1", JSON, b'[{"prediction_id": 3}]', b"m"),
    ],
)
def test_what_no_processor_can_read_comes_back_unread(kind, content, value, key):
    """A poison record is the same dead letter in a replay: its bytes, or JSON that fails in the same way."""
    record = _record(kind, content, value, key)
    _, again = _again(record)
    assert (dict(again.headers)["ce_type"], again.key) == (kind.encode(), key)
    if again.value != value:
        assert json.loads(again.value) == json.loads(value)[0]


def test_pretty_printed_json_takes_one_line():
    value = b'{\n  "time": %d\n}' % T0
    lines, again = _again(_record("mlmm.tick.v1", JSON, value, key=b""))
    assert len(lines) == 1
    assert decode_events("mlmm.tick.v1", JSON, again.value) == [Tick(time=T0)]


def test_lines_of_one_offset_are_one_record_though_partitions_are_mixed():
    labels = [Label(prediction_id=f"p{i}", time=T0, model="m", value=1) for i in range(3)]
    first = to_lines("mlmm.serving", 0, _record("mlmm.labels.v1", JSON, encode_json(labels)))
    other = to_lines("mlmm.serving", 1, _record("mlmm.labels.v1", JSON, encode_json(labels)))
    mixed = [line for pair in zip(first, other, strict=True) for line in pair]
    assert [(topic, partition, len(json.loads(record.value))) for topic, partition, record in from_lines(mixed)] == [
        ("serving", 0, 3),
        ("serving", 1, 3),
    ]


LINE = '{"topic":"serving","key":"m","partition":0,"offset":%s,"log_time":%s,"type":"t","data":{}}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "f.jsonl, line 1: .*Expected one JSON object with topic"),
        (["", LINE % (1, 5), '{"topic":"serving"}'], "f.jsonl, line 3: .*missing required field `partition`"),
        ([LINE % (2, 5), LINE % (1, 5)], "line 2: offset 1 follows 2 in partition 0 of serving"),
        ([b"\xff\xfe"], "line 1"),
        ([(LINE % (1, 5))[:-1] + ',"raw":"*"}'], "offset 1 of serving: base64"),
    ],
)
def test_a_broken_line_is_named(lines, message):
    with pytest.raises(WrongInput, match=message):
        list(from_lines(lines, name="f.jsonl"))


def test_log_time_never_goes_back():
    """As workers read it: a broker whose clock went back does not take the log's time with it."""
    lines = [LINE % (1, 5), LINE % (2, 4), LINE % (3, 9)]
    assert [record.log_time for _, _, record in from_lines(lines)] == [5, 5, 9]
