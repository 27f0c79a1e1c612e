"""What batches hold while they are packed."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from mlmm.producers.intake import Intake
from mlmm.producers.outcomes import LabelStack
from mlmm.producers.shapes import Call, ModelTraits, Shapes
from tests.producers.fakes import settings

IDS = [f"a prediction's id {i}" for i in range(100)]


def intake() -> Intake:
    return Intake(1000, 1 << 20, lambda: None)


def predictions(shards: int) -> Any:
    shapes = Shapes(intake(), ModelTraits("fraud", None, "binary", 1.0, None, (), shards))
    for each in IDS:
        call = Call(each, 1_795_230_000_000_000, {"a": 1.0, "b": "x"}, 1, None, None, None, None, None, None, None)
        stack, columns = shapes.capture(call)
        assert stack.add_many(columns)
    return stack.take()


def labels(shards: int) -> Any:
    stack = LabelStack(intake(), "fraud", shards=shards)
    for each in IDS:
        assert stack.add(each, 1_795_230_000_000_000, 1.0, None)
    return stack.take()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("make", [predictions, labels])
def test_what_was_packed_is_let_go_before_the_rest_is(make: Callable[[int], Any], shards: int) -> None:
    """Its place in the queue is free once it is sent: to hold it until the last record would double the memory."""
    batch = make(shards)
    held = [sys.getrefcount(IDS[i]) for i in range(100)]
    options = settings().emitter
    records = batch.pack(20, options.batch_bytes, "mlmm://test")
    packed = 0
    for record in records:
        packed += record.n
        if packed > 60:
            break
    assert all(sys.getrefcount(IDS[i]) < held[i] for i in range(40))
    assert sum(record.n for record in records) == 100 - packed
