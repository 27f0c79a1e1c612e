"""What strangers send, record after record, each with something new in it: memory has a bound that it reaches early."""

import gc
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    LabelBlock,
    LabelHead,
    MetricsBlock,
    MetricsHead,
    PredictionBlock,
    PredictionHead,
    RunState,
    encode_columns,
    encode_json,
)
from tests.events.samples import TIME
from tests.fuzz.cases import Case
from tests.fuzz.rig import Rig
from tests.fuzz.seeds import case

MANY = 160
BOUND = 54 << 20
"""Bytes that are held after all of it: caches, tables and states of one process."""
TIMES, ONE, ID = struct.pack("<q", TIME), struct.pack("<d", 0.0), struct.pack("<I", 1)


def _text(number: int, place: int, size: int) -> str:
    return f"{number}-{place}-".ljust(size, "x")


def classes(number: int) -> Case:
    values = tuple(_text(number, place, 8_000) for place in range(50))
    block = LabelBlock(head=LabelHead(model="m"), n=1, ids=b"a", id_lengths=ID, time=TIMES, value=ONE, classes=values)
    return case("serving", b"m", "mlmm.labels.v1", COLUMNS_TYPE, encode_columns(block), "")


def segments(number: int) -> Case:
    names = tuple(_text(number, place, 500) for place in range(800))
    head = PredictionHead(model="m", segments=names)
    block = PredictionBlock(
        head=head, n=1, ids=b"a", id_lengths=ID, time=TIMES, output=ONE, segments=b"\xff" * 4 * len(names),
        segment_values=((),) * len(names),
    )  # fmt: skip
    return case("serving", b"m", "mlmm.predictions.v1", COLUMNS_TYPE, encode_columns(block), "")


def features(number: int) -> Case:
    names = tuple(_text(number, place, 500) for place in range(800))
    block = PredictionBlock(
        head=PredictionHead(model="m", features=names), n=1, ids=b"a", id_lengths=ID, time=TIMES, output=ONE,
        features=ONE * len(names),
    )  # fmt: skip
    return case("serving", b"m", "mlmm.predictions.v1", COLUMNS_TYPE, encode_columns(block), "")


def dictionary(number: int) -> Case:
    values = tuple(_text(number, place, 12) for place in range(20_000))
    block = PredictionBlock(
        head=PredictionHead(model="m", categories=("c",)), n=1, ids=b"a", id_lengths=ID, time=TIMES, output=ONE,
        categories=b"\0" * 4, dictionary=(values,),
    )  # fmt: skip
    return case("serving", b"m", "mlmm.predictions.v1", COLUMNS_TYPE, encode_columns(block), "")


def metrics(number: int) -> Case:
    names = tuple(_text(number, place, 500) for place in range(800))
    run = f"run-{number % 50}"
    block = MetricsBlock(
        head=MetricsHead(run_id=run, attempt="a", names=names), n=1, step=TIMES, time=TIMES, values=ONE * len(names)
    )
    return case("training", run.encode(), "mlmm.run.metrics.v1", COLUMNS_TYPE, encode_columns(block), "")


def findings(number: int) -> Case:
    state = RunState(
        run_id="run", attempt=f"a{number}", experiment="e", status="running", log_time=TIME, event_time=TIME,
        error=_text(number, 0, 8_000), trigger="falling",
        figures={_text(number, place, 500): 1.0 for place in range(800)},
    )  # fmt: skip
    return case("findings", b"run", "mlmm.run.state.v1", JSON, encode_json(state), "")


def keys(number: int) -> Case:
    return case("serving", f"{number}".encode() * 60_000, "mlmm.labels.v1", JSON, b"{}", "")


def sources(number: int) -> Case:
    made = findings(0)
    headers = (*made.headers, ("ce_sequence", b"000001.0000000000000000001.000001"))
    changed = tuple(
        (name, _text(number, 0, 60_000).encode() if name == "ce_source" else each) for name, each in headers
    )
    return Case("findings", made.key, made.value, changed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [classes, segments, features, dictionary, metrics, findings, keys, sources], ids=lambda make: make.__name__
)
def test_memory_has_a_bound(make: Callable[[int], Case]):
    rig = Rig()
    rig.feed([make(0)], TIME // 1_000)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1, MANY):
            rig.feed([make(number)], TIME // 1_000)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sent = sum(len(make(number).value) + len(make(number).key) for number in range(1, 4)) // 3 * MANY
    print(f"{make.__name__}: {sent / 1e6:.0f} MB sent, {held / 1e6:.0f} MB held")
    assert held < BOUND
