"""What a decoder may cost: memory and work follow the bytes of the record, whatever the bytes promise."""

import json
import struct
import sys
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from mlmm.events import COLUMNS_TYPE, JSON, MalformedEvent, decode_blocks, decode_events
from tests.events.samples import GOLDEN, SAMPLES, TIME

FACTOR, CONSTANT = 80, 1 << 20
"""The most bytes that are allocated for each byte of a record: an empty list takes 64 of Python's for 3 of JSON's."""


def peak(decode: Callable[[], object]) -> int:
    """Bytes that a call has allocated at most at any time."""
    tracemalloc.start()
    try:
        decode()
    except MalformedEvent:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


_COLUMNS = [name for name in SAMPLES if (GOLDEN / f"{name}.columns").exists()]
_LENGTHS = {0xC6: 4, 0xDB: 4, 0xDD: 4, 0xDF: 4, 0xC5: 2, 0xDA: 2, 0xDC: 2, 0xDE: 2, 0xC4: 1, 0xD9: 1}


@pytest.mark.parametrize("name", _COLUMNS)
def test_a_length_that_promises_more_than_there_is_allocates_nothing(name: str):
    """Every byte of a golden record becomes, in turn, the head of something four thousand million long."""
    value = (GOLDEN / f"{name}.columns").read_bytes()
    allowed = FACTOR * len(value) + CONSTANT
    for at in range(len(value)):
        for head in (0xC6, 0xDB, 0xDD, 0xDF):
            wrong = value[:at] + bytes((head,)) + b"\xff\xff\xff\xff" + value[at + 1 :]
            assert peak(lambda wrong=wrong: decode_blocks(SAMPLES[name][0], COLUMNS_TYPE, wrong)) <= allowed


def _label(number: int) -> dict[str, object]:
    return {"prediction_id": f"{number}", "time": TIME, "model": "m", "value": 1}


LARGE = {
    "lists": ("mlmm.run.started.v1", b'{"params":{"a":[' + b"[]," * 300_000 + b"[]]}}"),
    "maps": ("mlmm.run.started.v1", b'{"params":{"a":[' + b"{}," * 300_000 + b"{}]}}"),
    "labels": ("mlmm.labels.v1", b"[" + b",".join([msgspec.json.encode(_label(1))] * 20_000) + b"]"),
    "missing": ("mlmm.labels.v1", b"[" + b"{}," * 300_000 + b"{}]"),
    "nested": ("mlmm.labels.v1", b"[" * 1_000_000),
    "string": ("mlmm.labels.v1", json.dumps({**_label(1), "model": "\u00e9" * 1_000_000}, ensure_ascii=False).encode()),
    "digits": ("mlmm.labels.v1", b'{"time":' + b"9" * 1_000_000 + b"}"),
    "unknown": ("mlmm.labels.v1", b'{"unknown":"' + b"x" * 1_000_000 + b'"}'),
    "features": ("mlmm.predictions.v1", json.dumps({"features": {f"{n}": n for n in range(60_000)}}).encode()),
}


@pytest.mark.parametrize("name", LARGE)
def test_memory_follows_the_bytes_of_a_record(name: str):
    type_, value = LARGE[name]
    assert peak(lambda: decode_events(type_, JSON, value)) <= FACTOR * len(value) + CONSTANT


def work(decode: Callable[[], object]) -> int:
    """Lines of Python that a call runs: a count, so that it says the same on every machine."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        decode()
    except MalformedEvent:
        pass
    finally:
        sys.settrace(before)
    return count


def _predictions(n: int, feature: Callable[[int], object], **fields: Callable[[int], object]) -> bytes:
    events = [
        {"prediction_id": f"{i}", "time": TIME, "model": "m", "output": 1, "features": {"a": feature(i)}}
        | {name: make(i) for name, make in fields.items()}
        for i in range(n)
    ]
    return json.dumps(events).encode()


def _labels(n: int) -> bytes:
    return json.dumps([_label(i) | {"value": f"é{i}"} for i in range(n)]).encode()


GROWING: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "one head": ("mlmm.predictions.v1", lambda n: _predictions(n, lambda i: i)),
    "a head each": ("mlmm.predictions.v1", lambda n: _predictions(n, lambda i: i, version=lambda i: f"v{i}")),
    "a string each": ("mlmm.predictions.v1", lambda n: _predictions(n, lambda i: f"é{i}")),
    "a long string each": ("mlmm.predictions.v1", lambda n: _predictions(n, lambda i: f"{'x' * 600}{i}")),
    "a segment each": ("mlmm.predictions.v1", lambda n: _predictions(n, int, segments=lambda i: {"s": f"é{i}"})),
    "a class each": ("mlmm.labels.v1", _labels),
    "the last is wrong": ("mlmm.predictions.v1", lambda n: _predictions(n, lambda i: "é" * 4_500 * (i == n - 1))),
    "numbers and strings": ("mlmm.predictions.v1", lambda n: _predictions(n, lambda i: i if i % 2 else f"{i}")),
    "figures": (
        "mlmm.report.v1",
        lambda n: (
            b'{"subject":{"model":"m"},"kind":"service","window":"60s","start":%d,"end":%d,"log_time":%d,"events":1,'
            b'"figures":%b}' % (TIME, TIME, TIME, json.dumps({f"é{i}": i for i in range(n)}).encode())
        ),
    ),
    "steps": (
        "mlmm.run.metrics.v1",
        lambda n: json.dumps(
            [{"run_id": "r", "attempt": "a", "time": TIME, "step": i, "values": {"loss": "NaN"}} for i in range(n)]
        ).encode(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_work_follows_the_events_of_a_record(name: str):
    type_, make = GROWING[name]
    few, many = make(200), make(800)
    assert work(lambda: decode_events(type_, JSON, many)) <= 6 * work(lambda: decode_events(type_, JSON, few)) + 500


def test_what_an_error_quotes_is_cut():
    """A reason travels in a header: it must not be as large as what was sent."""
    for wrong in ({"task": "x" * 1_000_000}, {"model": "#" * 1_000_000}, {"features": {"é" * 1_000_000: []}}):
        event = {"prediction_id": "a", "time": TIME, "model": "m", "output": 1} | wrong
        with pytest.raises(MalformedEvent) as caught:
            decode_events("mlmm.predictions.v1", JSON, msgspec.json.encode(event))
        assert len(str(caught.value)) < 1_100


def test_a_key_is_no_longer_than_the_contract_calls_for():
    value = msgspec.json.encode(_label(1))
    decode_blocks("mlmm.labels.v1", JSON, value, key=b"m#123456")
    for key in (b"m#1234567", b"m#" + b"1" * 100_000, b"m#", b"m#1 ", b"m#\xd9\xa1"):
        with pytest.raises(MalformedEvent, match="key"):
            decode_blocks("mlmm.labels.v1", JSON, value, key=key)


def test_buffers_of_any_numbers_are_only_numbers():
    """NaN, infinities and denormals are values; nothing in a buffer of figures is malformed."""
    raw = msgspec.msgpack.decode((GOLDEN / "predictions-numbers.columns").read_bytes())
    odd = struct.pack("<3d", float("nan"), float("-inf"), 5e-324)
    for field in ("output", "score", "latency", "weight", "value"):
        decode_blocks("mlmm.predictions.v1", COLUMNS_TYPE, msgspec.msgpack.encode(raw | {field: odd}))
