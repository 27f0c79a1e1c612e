"""Events survive: events → blocks → bytes → blocks → events, and the same through JSON."""

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    TYPES,
    Failure,
    Label,
    Metrics,
    Prediction,
    blocks_of,
    code_of,
    decode_blocks,
    decode_events,
    encode_columns,
    encode_json,
    events_of,
)

TYPE_OF = {of: name for name, of in TYPES.items()}
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
models = st.sampled_from(["fraud", "日本", "a b"])
times = st.integers(946_684_800_000_000, 7_258_118_399_999_999)
numbers = st.floats(allow_nan=False, allow_infinity=False)
answers = st.one_of(numbers, st.booleans(), text, st.integers(-(2**53), 2**53))
maybe = st.none() | numbers
names = st.sampled_from(["a", "b", "é", ""])

predictions = st.builds(
    Prediction,
    prediction_id=ids,
    time=times,
    model=models,
    output=answers,
    features=st.dictionaries(names, st.none() | answers, max_size=3),
    version=st.none() | text,
    score=maybe | st.dictionaries(names, numbers, min_size=1, max_size=2),
    task=st.sampled_from(["binary", "multiclass", "regression"]),
    positive=st.sampled_from([1, True, 1.0, 0.0, "yes"]),
    threshold=maybe,
    latency=maybe,
    segments=st.dictionaries(names, text, max_size=2),
    weight=maybe,
    value=maybe,
    route=st.sampled_from(["champion", "shadow"]),
)
labels = st.builds(Label, prediction_id=ids, time=times, model=models, value=answers, weight=maybe)
statuses = st.none() | st.integers(0, 599)
failures = st.builds(
    Failure, time=times, model=models, kind=text, message=text, version=st.none() | text, status=statuses, latency=maybe
)
metrics = st.builds(
    Metrics,
    run_id=ids,
    attempt=st.sampled_from(["a", "b"]),
    time=times,
    step=st.integers(-(2**63), 2**63 - 1),
    values=st.dictionaries(names, numbers, max_size=3),
    phase=st.sampled_from(["train", "validation"]),
)


def batches(events):
    """Runs of equal events with another in between make heads that repeat and heads that change."""
    return st.lists(st.tuples(events, st.integers(1, 3)), min_size=1, max_size=6).map(
        lambda runs: [event for event, times in runs for _ in range(times)]
    )


records = st.one_of(batches(predictions), batches(labels), batches(failures), batches(metrics))


@given(records)
def test_events_survive_blocks_and_columns(events):
    blocks = blocks_of(events)
    back = []
    for block in blocks:
        raw = encode_columns(block)
        (decoded,) = decode_blocks(TYPE_OF[type(events[0])], COLUMNS_TYPE, raw)
        assert decoded.head is block.head
        assert encode_columns(decoded) == raw
        back += events_of(decoded)
    assert back == events
    assert [block.index for block in blocks] == [sum(b.n for b in blocks[:i]) for i in range(len(blocks))]


@given(records)
def test_events_survive_json(events):
    assert decode_events(TYPE_OF[type(events[0])], JSON, encode_json(events)) == events


@given(records)
def test_json_and_objects_give_the_same_blocks(events):
    type_ = TYPE_OF[type(events[0])]
    of_json = decode_blocks(type_, JSON, encode_json(events))
    assert [msgspec.structs.asdict(b) for b in of_json] == [
        msgspec.structs.asdict(b) for b in blocks_of(_as_read(events))
    ]


def _as_read(events):
    """JSON has one kind of number and keeps it: integers read as floats."""
    return msgspec.json.decode(encode_json(events), type=list[type(events[0])])


@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_a_trainers_nan_and_infinity_survive_both_formats(values):
    event = Metrics(run_id="r", attempt="a", time=10**15, step=0, values={str(i): v for i, v in enumerate(values)})
    (block,) = blocks_of([event])
    for content_type, raw in ((JSON, encode_json(event)), (COLUMNS_TYPE, encode_columns(block))):
        (back,) = decode_events("mlmm.run.metrics.v1", content_type, raw)
        for value, read in zip(values, back.values.values(), strict=True):
            assert read == value or (math.isnan(read) and math.isnan(value))


@given(answers, answers)
def test_two_values_have_one_code_exactly_where_they_are_equal(one, other):
    assert (code_of(one) == code_of(other)) == (one == other)


def test_equal_numbers_of_any_type_are_one_class_beside_strings():
    events = [Label(prediction_id="x", time=10**15, model="m", value=v) for v in (1, "1", True, 1.0, False, -0.0)]
    (block,) = blocks_of(events)
    assert block.classes == (1, "1", False)
    assert [code_of(value) for value in block.classes] == [code_of(1.0), code_of("1"), code_of(0)]


def test_none_goes_with_any_kind_and_a_changed_kind_makes_a_new_block():
    def event(**features):
        return Prediction(prediction_id="x", time=10**15, model="m", output=1, features=features)

    blocks = blocks_of([event(a=None, b=1), event(b=None, a="x"), event(a="y", b=2), event(a=3, b=2), event(a=3)])
    assert [(block.n, block.head.features, block.head.categories) for block in blocks] == [
        (3, ("b",), ("a",)),
        (1, ("a", "b"), ()),
        (1, ("a",), ()),
    ]
    assert [event.features for event in events_of(blocks[0])] == [
        {"a": None, "b": 1},
        {"a": "x", "b": None},
        {"a": "y", "b": 2},
    ]
