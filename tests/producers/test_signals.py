"""A signal handler or finaliser that logs while its own thread is in the middle of a log call."""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from mlmm.producers import Monitor
from mlmm.producers.intake import Intake
from mlmm.producers.outcomes import FailureStack, LabelStack
from mlmm.producers.predictions import PredictionStack
from tests.producers.fakes import FakeBroker

ADDING = {
    function.__code__
    for function in (
        PredictionStack.add, PredictionStack.add_many, LabelStack.add, LabelStack.add_many, LabelStack._hold,
        FailureStack.add, Intake.take_in,
    )
}  # fmt: skip

Log = Callable[[Monitor, str], object]


def numbers(monitor: Monitor, id_: str) -> None:
    monitor.log_prediction(id_, {"a": float(len(id_))}, 1)


def words(monitor: Monitor, id_: str) -> None:
    monitor.log_prediction(id_, {"a": float(len(id_)), "text": id_}, id_)


def careful(monitor: Monitor, id_: str) -> None:
    monitor.log_prediction(id_, {"text": id_}, id_, segments={"site": id_}, score={"cat": 0.5})


def label(monitor: Monitor, id_: str) -> None:
    monitor.log_label(id_, id_)


def failure(monitor: Monitor, id_: str) -> None:
    monitor.log_failure(id_)


@pytest.fixture
def at_each_line() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Call something between any two lines of what takes an event in: more places than a real handler runs at."""

    def begin(handler: Callable[[], object]) -> None:
        def line(_frame: FrameType, event: str, _value: Any) -> Any:
            if event == "line":
                handler()
            return line

        sys.settrace(lambda frame, event, value: line if frame.f_code in ADDING else None)

    before = sys.gettrace()
    yield begin
    sys.settrace(before)


@pytest.mark.parametrize("flushes", [False, True], ids=["logs", "logs and flushes"])
@pytest.mark.parametrize("log", [numbers, words, careful, label, failure])
def test_a_handler_that_logs_mixes_up_no_two_events(
    monitor_with: Callable[..., Monitor], broker: FakeBroker, at_each_line: Any, log: Log, flushes: bool
) -> None:
    monitor = monitor_with()
    interrupting = (f"c{'x' * (i % 7)}-handler-{i}" for i in range(10_000))
    logged: list[str] = []

    def once(id_: str) -> None:
        log(monitor, id_)
        logged.append(id_)

    def handler() -> None:
        once(next(interrupting))
        if flushes:
            monitor.flush(60)

    once("first")  # the shape is known from here on
    at_each_line(handler)
    for i in range(3):
        once(f"main-{i}")
    sys.settrace(None)
    assert len(logged) > 10
    assert monitor.flush(60)
    for event in broker.events:
        said = vars_of(event)
        assert said["text"] == said["id"]
    assert sorted(vars_of(event)["id"] for event in broker.events) == sorted(logged)
    stats = monitor.stats()
    assert (stats.sent, stats.queued_events, stats.queued_bytes) == (len(logged), 0, 0)


def vars_of(event: Any) -> dict[str, str]:
    """Return an event's id, and the text that was logged with it (for plain numbers, the id of that length)."""
    id_ = getattr(event, "prediction_id", None) or event.kind
    features = getattr(event, "features", {})
    text = features.get("text", getattr(event, "value", id_)) or id_
    if "text" not in features and features:
        text = id_ if features["a"] == len(id_) else f"of length {features['a']}"
    return {"id": id_, "text": text}
