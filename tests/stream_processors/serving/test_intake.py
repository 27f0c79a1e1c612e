"""Intake: what is taken, what leaves as a dead letter, and how ids and values are told apart."""

import json
from random import Random

import numpy as np
import pytest

from mlmm.events import JSON, Acked, cloudevents_headers, encode_json
from mlmm.runtime.processor import Record
from mlmm.stream_processors.serving import ServingProcessor
from mlmm.stream_processors.serving._ids import murmur3_128
from mlmm.stream_processors.serving._table import delete, find, insert, tag_of

from .makers import T0, S, failure, label, packed, prediction, record, run, settings, singly


def raw(value: bytes, kind: str = "mlmm.predictions.v1", *, key: bytes = b"m", content: str = JSON) -> Record:
    return Record(7, T0, key, value, cloudevents_headers(kind, "id", "test", T0, content))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (raw(b"{"), ""),
        (raw(b'{"model":"m"}'), "prediction_id"),
        (raw(b"{}", "mlmm.weather.v1"), "mlmm.weather.v1"),
        (raw(b"{}", "mlmm.run.metrics.v1"), "mlmm.run.metrics.v1"),
        (raw(b"{}", content="text/plain"), "text/plain"),
        (raw(b"{}", "mlmm.command.acked.v1"), ""),
        (Record(7, T0, b"m", b"{}", []), "ce_type"),
        (Record(7, T0, b"m", b"{}", [("ce_type", None), ("content-type", None)]), "ce_type"),
        (Record(7, T0, b"m", b"{}", [("ce_type", b"mlmm.labels.v1"), ("content-type", None)]), "content-type"),
        (Record(7, T0, b"m", b"{}", [("ce_type", b"mlmm.command.acked.v1"), ("content-type", None)]), "content-type"),
        (record(7, [prediction("a", 1, model="m")])._replace(key=b"n"), "key"),
        (record(7, [prediction("a", 300.000001, log=0)]), "ahead"),
        (record(7, [prediction("b", 0, log=0), prediction("a", 301, log=0)]), "ahead"),
        (record(7, [prediction(f"{i}", 1 + 300 * (i == 99), log=0) for i in range(100)]), "ahead"),
    ],
)
def test_a_malformed_record_leaves_as_a_dead_letter_and_counts_in_nothing_else(bad, reason):
    state = ServingProcessor(settings()).state()
    (output,) = state.process([bad])
    assert (output.topic, output.key, output.value, output.offset) == ("dead-letters", bad.key, bad.value, 7)
    assert reason in dict(output.headers)["mlmm_error"].decode()
    assert not state.cells()
    assert state.counters()["dead_letters"] == 1
    assert state.counters()["events"] == 0


def test_an_event_five_minutes_ahead_is_taken():
    state, outputs = run([prediction("a", 300, log=0)])
    assert not outputs
    assert state.counters()["predictions"] == 1


def test_one_model_too_many_is_a_dead_letter_that_names_the_setting():
    state, outputs = run([prediction("a", 0, model=f"m{i}") for i in range(4)], settings(max_models=3))
    (output,) = outputs
    assert output.key == b"m3"
    assert b"serving.max_models" in dict(output.headers)["mlmm_error"]
    assert state.counters()["predictions"] == 3


def test_outputs_come_in_the_order_of_offsets():
    events = singly([prediction("a", 0), prediction("b", 50), prediction("c", 100)])
    events.insert(1, raw(b"{")._replace(offset=1))
    events = [each._replace(offset=10 + i) for i, each in enumerate(events)]
    state = ServingProcessor(settings()).state()
    assert [each.offset for each in state.process(events)] == [11, 12, 13]


def test_headers_in_another_order_are_understood():
    shuffled = raw(encode_json(prediction("a", 0).event))
    Random(1).shuffle(shuffled.headers)
    state = ServingProcessor(settings()).state()
    assert not state.process([shuffled])


def test_a_deployers_acknowledgement_becomes_a_finding():
    acked = Acked(command_id="c1", state="completed", time=T0, target="m", reason="done")
    state = ServingProcessor(settings()).state()
    (output,) = state.process([raw(encode_json(acked), "mlmm.command.acked.v1")])
    assert (output.topic, output.type, output.key) == ("findings", "mlmm.command.state.v1", b"m")
    found = json.loads(output.value)
    assert found == {"command_id": "c1", "state": "completed", "log_time": T0, "target": "m", "reason": "done"}


def test_ids_of_outputs_are_unique_and_a_function_of_content():
    events = []
    for i in range(400):
        events += [prediction(f"{i}", i, i % 2, model=f"m{i % 2}"), label(f"{i}", i, 1, model=f"m{i % 2}"), failure(i)]
    given = settings(windows=(1.0, 10.0), last=10)
    _, outputs = run(events, given)
    ids = [each.id for each in outputs]
    assert len(ids) == len(set(ids)) > 500
    assert [each.id for each in run(events, given)[1]] == ids


@pytest.mark.parametrize(("output", "value", "equal"), [
    (1, True, True), (0, -0.0, True), (1, "1", False), ("a", "a", True), (2.0, 2, True), (True, "true", False),
])  # fmt: skip
@pytest.mark.parametrize("columns", [True, False])
def test_values_are_equal_as_numbers_or_as_strings(output, value, equal, columns):
    state = ServingProcessor(settings(last=10)).state()
    first = record(0, [prediction("a", 0, output, task="multiclass")], columns=columns)
    (report,) = state.process([first, record(1, [label("a", 0, value)], columns=columns)])
    assert json.loads(report.value)["figures"]["accuracy"] == float(equal)


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # reference values of MurmurHash3_x64_128, seed 0
        ("", "00000000000000000000000000000000"),
        ("hello", "cbd8a7b341bd9b025b1e906a48ae1d19"),
        ("hello, world", "342fac623a5ebc8e4cdcbc079642414d"),
        ("19 Jan 2038 at 3:14:07 AM", "b89e5988b737affc664fc2950231b2cb"),
        ("The quick brown fox jumps over the lazy dog.", "cd99481f9ee902c9695da1a38987b6e7"),
    ],
)
def test_murmur3(text, expected):
    data = np.frombuffer(bytearray(b"xy" + text.encode() + b"z"), np.uint8)
    h1, h2 = murmur3_128(data, 2, len(text))
    assert f"{int(h1) & (1 << 64) - 1:016x}{int(h2) & (1 << 64) - 1:016x}" == expected


def test_the_table_finds_what_is_in_it_and_nothing_else():
    """Few homes and many rows: long probes, wrapped ones too, against a dict."""
    random = Random(3)
    rows = np.zeros((4096, 9), np.int64)
    chunks = np.zeros((64, 3), np.int64)
    table = np.zeros(64, np.int64)
    there: dict[int, int] = {}
    for _ in range(5000):
        h1 = random.randrange(60)
        if h1 in there:
            assert find(table, rows, chunks, 0, h1, h1) == there[h1]
            if random.random() < 0.6:
                delete(table, tag_of(0, h1), there.pop(h1))
        else:
            assert find(table, rows, chunks, 0, h1, h1) == -1
            row = random.choice([r for r in range(64) if r not in there.values()])
            rows[row, :2] = h1
            insert(table, tag_of(0, h1), row)
            there[h1] = row
    assert np.count_nonzero(table) == len(there)


def test_a_poll_of_many_events_needs_no_room_beforehand():
    """More emissions and open windows in one poll than the arrays have room for at first."""
    given = settings(windows=(1.0, 2.0, 5.0), last=10, allowed_lateness=20.0)
    events = []
    for i in range(3000):
        events += [prediction(f"{i}", i, 1, model=f"m{i % 5}"), label(f"{i}", i, 1, model=f"m{i % 5}")]
    state, outputs = run(events, given)
    parts = ServingProcessor(given).state()
    records = singly(events)
    again = [output for at in range(0, len(records), 97) for output in parts.process(records[at : at + 97])]
    assert again == outputs
    assert parts.cells() == state.cells()
    assert len(outputs) > 6000
    assert state.deadline() == min(T0 + (2995 + 20) * S, T0 + 100 * S + 2900 * S) or state.deadline() > T0


def test_formats_mean_the_same():
    events = [prediction(f"{i}", 0, i % 2, features={"x": float(i)}, latency=0.1) for i in range(50)]
    states = []
    for columns in (True, False):
        state = ServingProcessor(settings()).state()
        state.process([record(0, events, columns=columns)])
        states.append(state.cells())
    assert states[0] == states[1]
    assert packed(events, Random(1))
