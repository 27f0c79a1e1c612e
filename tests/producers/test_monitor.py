"""What a monitor makes of what it is given. In memory: events come out as a reader of the topics would see them."""

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.events import Failure, Label, MalformedEvent, Prediction, shard_key
from mlmm.producers import Monitor, modes
from mlmm.runtime.errors import SettingsError
from mlmm.runtime.settings import load
from tests.producers.fakes import FakeBroker

MOMENT = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
MICROS = 1_795_230_000_000_000


def memory(**keywords: Any) -> Monitor:
    return Monitor("fraud", **{"mode": "memory", "on_error": "raise", **keywords})


def one(monitor: Monitor) -> Any:
    (event,) = monitor.events
    return event


def test_a_prediction_arrives_with_all_that_was_said() -> None:
    monitor = memory(version="1", task="multiclass", positive="dog", threshold=0.5)
    made = monitor.log_prediction(
        "p", {"amount": 12.5, "new": True, "country": "DE", "age": None}, "dog", score={"dog": 0.7, "cat": 0.3},
        latency=0.004, segments={"site": "B"}, weight=2, value=Decimal("9.5"), version="2", route="shadow", time=MOMENT,
    )  # fmt: skip
    assert made == "p"
    assert one(monitor) == Prediction(
        prediction_id="p", time=MICROS, model="fraud", output="dog", version="2", task="multiclass", positive="dog",
        features={"amount": 12.5, "new": 1.0, "country": "DE", "age": None}, score={"dog": 0.7, "cat": 0.3},
        threshold=0.5, latency=0.004, segments={"site": "B"}, weight=2.0, value=9.5, route="shadow",
    )  # fmt: skip


def test_features_are_copied() -> None:
    monitor, features = memory(), {"a": 1.0, "b": "x"}
    for _ in range(2):
        monitor.log_prediction("p", features, 1)
        features.update(a=7.0, b="y")
    assert [event.features for event in monitor.events] == [{"a": 1.0, "b": "x"}, {"a": 7.0, "b": "y"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (True, 1.0),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(4), 4.0),
        (np.bool_(True), 1.0),
        (np.array(2.5), 2.5),
        ("x", "x"),
        (np.str_("y"), "y"),
        (None, None),
        (math.inf, math.inf),
    ],
)
@pytest.mark.parametrize("calls", [1, 3], ids=["the first call", "later calls"])
def test_numbers_of_every_kind_are_taken(value: Any, expected: Any, calls: int) -> None:
    monitor = memory()
    for _ in range(calls):
        monitor.log_prediction("p", {"f": value, "one": 1.0}, 1)
    assert [event.features["f"] for event in monitor.events] == [expected] * calls


@pytest.mark.parametrize(
    "value", [b"x", [1], {"a": 1}, 1j, MOMENT, object(), np.array([1.0, 2.0]), np.datetime64("2026-01-01"), 10**400]
)
@pytest.mark.parametrize("good_calls", [0, 2], ids=["the first call", "later calls"])
def test_what_is_no_feature_is_refused_by_name(value: Any, good_calls: int) -> None:
    monitor = memory()
    for _ in range(good_calls):
        monitor.log_prediction("p", {"good": 1.0, "bad": 2.0}, 1)
    with pytest.raises(MalformedEvent, match=r"features\.bad: .*expected a number, string"):
        monitor.log_prediction("p", {"good": 1.0, "bad": value}, 1)
    assert monitor.stats().refused == 1
    assert monitor.stats().accepted == good_calls


@pytest.mark.parametrize(
    ("keywords", "field"),
    [
        ({"score": "high"}, "score"), ({"latency": "fast"}, "latency"), ({"weight": []}, "weight"),
        ({"value": "1"}, "value"), ({"route": "backup"}, "route"), ({"version": 3}, "version"),
        ({"segments": {"a": 1.5}}, r"segments\.a"), ({"segments": ["a"]}, "segments"),
        ({"score": {"a": "x"}}, r"score\.a"), ({"time": 1_795_230_000}, "time"),
        ({"time": datetime(2026, 1, 1)}, "time"),  # noqa: DTZ001 - that it has no zone is the point
        ({"time": np.datetime64("NaT")}, "time"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("good_calls", [0, 2], ids=["the first call", "later calls"])
def test_a_wrong_argument_is_refused_by_name(keywords: dict[str, Any], field: str, good_calls: int) -> None:
    monitor = memory()
    for _ in range(good_calls):
        monitor.log_prediction("p", {"a": 1.0}, 1)
    with pytest.raises(MalformedEvent, match=field):
        monitor.log_prediction("p", {"a": 1.0}, 1, **keywords)


@pytest.mark.parametrize("output", [math.nan, np.float32("nan"), Decimal("NaN")])
@pytest.mark.parametrize("good_calls", [0, 1, 3], ids=["the first call", "the second call", "later calls"])
@pytest.mark.parametrize("more", [{}, {"segments": {"site": "B"}}], ids=["fast", "careful"])
def test_no_answer_is_nan(output: Any, good_calls: int, more: dict[str, Any]) -> None:
    monitor = memory()
    for _ in range(good_calls):
        monitor.log_prediction("p", {"a": 1.0}, 1, **more)
    with pytest.raises(MalformedEvent, match="output"):
        monitor.log_prediction("p", {"a": 1.0}, output, **more)
    assert len(monitor.events) == good_calls


@pytest.mark.parametrize("output", [None, [1], MOMENT])
def test_an_answer_is_a_number_string_or_bool(output: Any) -> None:
    with pytest.raises(MalformedEvent, match="output"):
        memory().log_prediction("p", {"a": 1.0}, output)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("x", "x"), (7, "7"), (np.int64(7), "7"), (np.str_("s"), "s"), (UUID(int=5), str(UUID(int=5)))],
)
def test_business_keys_of_every_kind_are_sent_as_they_print(given: Any, expected: str) -> None:
    monitor = memory()
    assert monitor.log_prediction(given, {"a": 1.0}, 1) == expected
    monitor.log_label(given, 1)
    assert [event.prediction_id for event in monitor.events] == [expected, expected]


@pytest.mark.parametrize("given", ["", "x" * 513, 1.5, True, b"x", object()])
def test_what_is_no_id_is_refused(given: Any) -> None:
    with pytest.raises(MalformedEvent, match="prediction_id"):
        memory().log_prediction(given, {"a": 1.0}, 1)


def test_none_makes_an_id_that_is_unique_and_sorts_by_time() -> None:
    monitor = memory()
    made = [monitor.log_prediction(None, {"a": 1.0}, 1) for _ in range(100)]
    assert len(set(made)) == 100
    assert made == sorted(made)
    assert [event.prediction_id for event in monitor.events] == made


def test_a_model_whose_features_change_keeps_its_earlier_predictions_right() -> None:
    monitor = memory()
    given = [{"a": 1.0, "b": 2.0}, {"b": 3.0, "a": 4.0}, {"a": "x", "b": 5.0}, {"a": 6.0}, {"a": None, "b": None}]
    for i, features in enumerate(given * 2):
        monitor.log_prediction(str(i), features, 1)
    got = {event.prediction_id: event.features for event in monitor.events}
    assert got == {str(i): features for i, features in enumerate(given * 2)}


names = st.sampled_from("abcde")
scalars = st.one_of(
    st.none(), st.booleans(), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8"), max_size=5)
)
calls = st.tuples(
    st.dictionaries(names, scalars, max_size=5),
    st.one_of(st.floats(allow_nan=False), st.text("xyz", max_size=2)),
    st.one_of(st.none(), st.floats(0, 1), st.dictionaries(names, st.floats(0, 1), min_size=1)),
)


@given(st.lists(calls, max_size=20))
def test_any_mixture_of_predictions_comes_out_as_it_went_in(given: list[Any]) -> None:
    monitor = memory()
    for i, (features, output, score) in enumerate(given):
        monitor.log_prediction(str(i), features, output, score=score)
    got = {event.prediction_id: event for event in monitor.events}
    assert len(got) == len(given)
    for i, (features, output, score) in enumerate(given):
        event = got[str(i)]
        assert event.features == {k: float(v) if isinstance(v, bool) else v for k, v in features.items()}
        assert (event.output, event.score) == (output, score)


def test_segment_by_makes_segments_of_features() -> None:
    monitor = memory(segment_by=("country", "new", "gone", "tier"))
    monitor.log_prediction("p", {"country": "DE", "new": True, "tier": 2.5}, 1)
    monitor.log_prediction("q", {"country": None, "new": False, "tier": 2.5}, 1, segments={"new": "mine"})
    first, second = sorted(monitor.events, key=lambda event: event.prediction_id)
    assert first.segments == {"country": "DE", "new": "1", "tier": "2.5"}
    assert second.segments == {"tier": "2.5", "new": "mine"}


def test_labels_arrive_as_given() -> None:
    monitor = memory()
    monitor.log_label("p", 0, time=np.datetime64("2026-11-21T03:00:00"), weight=3)
    monitor.log_label("p", "cat", time=MOMENT)
    assert monitor.events == [
        Label(prediction_id="p", time=MICROS, model="fraud", value=0.0, weight=3.0),
        Label(prediction_id="p", time=MICROS, model="fraud", value="cat"),
    ]


@pytest.mark.parametrize("value", [None, [1], b"x"])
def test_what_is_no_label_is_refused(value: Any) -> None:
    with pytest.raises(MalformedEvent, match="value"):
        memory().log_label("p", value)


def test_failures_say_kind_message_and_status_and_are_cut() -> None:
    monitor = memory(version="1")
    monitor.log_failure(TimeoutError("too\ud800 late" + "!" * 5000), latency=2.5, status=504)
    monitor.log_failure("overload", version="2")
    first, second = monitor.events
    assert isinstance(first, Failure)
    assert (first.kind, first.status, first.latency, first.version) == ("TimeoutError", 504, 2.5, "1")
    assert first.message.startswith("too? late")
    assert len(first.message) == 1000
    assert (second.kind, second.message, second.version, second.status) == ("overload", "", "2", None)


def test_predictions_with_their_champions_first_then_labels_then_failures() -> None:
    """Of one batch a champion goes before its shadow of the same id: a second prediction of an id is dropped."""
    monitor = memory()
    monitor.log_failure("x")
    monitor.log_label("p", 1)
    monitor.log_prediction("p", {"a": 1.0}, 1, route="shadow")
    monitor.log_prediction("p", {"a": 1.0}, 0)
    assert [getattr(event, "route", type(event).__name__) for event in monitor.events] == [
        "champion", "shadow", "Label", "Failure",
    ]  # fmt: skip


def test_shards_share_a_model_by_prediction_id(monitor_with: Callable[..., Monitor], broker: FakeBroker) -> None:
    monitor = monitor_with(shards=4)
    for i in range(40):
        monitor.log_prediction(str(i), {"a": float(i), "t": "x"}, "y", score={"y": 0.5})
        monitor.log_label(str(i), 1)
    for _ in range(4):
        monitor.log_failure("x")
    assert monitor.flush(5)
    assert {key for _, key, _, _ in broker.records} <= {f"fraud#{i}".encode() for i in range(4)}
    for record, events in [(record, one_record(record)) for record in broker.records]:
        for event in events:
            if not isinstance(event, Failure):
                assert shard_key("fraud", event.prediction_id, 4) == record[1]
    assert sorted(int(each) for each in broker.ids) == sorted([*range(40), *range(40)])
    assert monitor.stats().queued_bytes == 0


def one_record(record: Any) -> list[Any]:
    broker = FakeBroker()
    broker.records = [record]
    return broker.events


# --- tables --------------------------------------------------------------------------------------------------------


TABLES: dict[str, Any] = {
    "a mapping": {"a": [1.0, 2.0, None], "b": ["x", None, "y"], "c": np.array([True, False, True])},
    "a DataFrame": pd.DataFrame({"a": [1.0, 2.0, math.nan], "b": ["x", None, "y"], "c": [True, False, True]}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_predictions(kind: str) -> None:
    monitor = memory()
    ids = monitor.log_predictions(["1", "2", "3"], TABLES[kind], [1, 0, 1], scores=[0.9, 0.2, 0.8], times=MOMENT)
    assert ids == ["1", "2", "3"]
    assert [event.features for event in monitor.events] == [
        {"a": 1.0, "b": "x", "c": 1.0}, {"a": 2.0, "b": None, "c": 0.0}, {"a": None, "b": "y", "c": 1.0},
    ]  # fmt: skip
    assert [(event.output, event.score, event.time) for event in monitor.events] == [
        (1.0, 0.9, MICROS), (0.0, 0.2, MICROS), (1.0, 0.8, MICROS),
    ]  # fmt: skip


def test_a_matrix_with_names_and_classes() -> None:
    monitor = memory()
    ids = monitor.log_predictions(
        None, np.arange(6.0).reshape(3, 2), np.array(["cat", "dog", "cat"]), names=["a", "b"],
        scores={"cat": [0.9, 0.1, 0.8], "dog": [0.1, 0.9, 0.2]}, latencies=np.array([0.1, 0.2, 0.3]),
        times=np.array(["2026-11-21T03:00:00"] * 3, dtype="datetime64[ms]"), route="challenger", version="7",
    )  # fmt: skip
    events = monitor.events
    assert [event.prediction_id for event in events] == ids
    assert [event.features for event in events] == [{"a": 0.0, "b": 1.0}, {"a": 2.0, "b": 3.0}, {"a": 4.0, "b": 5.0}]
    assert [event.output for event in events] == ["cat", "dog", "cat"]
    assert events[1].score == {"cat": 0.1, "dog": 0.9}
    assert {(event.time, event.route, event.version) for event in events} == {(MICROS, "challenger", "7")}


def test_a_large_table_is_split(monitor_with: Callable[..., Monitor], broker: FakeBroker) -> None:
    monitor = monitor_with(when_full="block", emitter__max_events=3000)
    ids = [str(i) for i in range(10_000)]
    monitor.log_predictions(ids, {"a": np.arange(10_000.0)}, np.zeros(10_000))
    monitor.log_labels(ids, np.ones(10_000))
    assert monitor.flush(20)
    assert broker.ids == [*ids, *ids]


@pytest.mark.parametrize(
    ("features", "outputs", "more", "field"),
    [
        ({"a": [1.0]}, [1, 0], {}, r"features\.a: 1 rows, expected 2"),
        ({"a": [1.0, "x"]}, [1, 0], {}, r"features\.a\[0\]"),
        ({"a": [1.0, 2.0]}, [1, None], {}, "outputs"),
        ({"a": [1.0, 2.0]}, ["x", None], {}, "outputs"),
        ({"a": [1.0, MOMENT]}, [1, 0], {}, r"features\.a\[1\]"),
        ({"a": np.zeros((2, 2))}, [1, 0], {}, r"features\.a: 2 dimensions"),
        (np.zeros((2, 2)), [1, 0], {}, "as many names as columns"),
        ({"a": [1.0, 2.0]}, [1, 0], {"scores": ["x", "y"]}, "scores"),
        ({"a": [1.0, 2.0]}, [1, 0], {"times": [1, 2]}, r"times\[0\]"),
        ({"a": [1.0, 2.0]}, [1, 0], {"times": [MOMENT]}, "times: 1 rows"),
        ({3: [1.0, 2.0]}, [1, 0], {}, "features name"),
    ],
)
def test_a_wrong_table_is_refused_as_a_whole(features: Any, outputs: Any, more: dict[str, Any], field: str) -> None:
    monitor = memory()
    with pytest.raises(MalformedEvent, match=field):
        monitor.log_predictions(["1", "2"], features, outputs, **more)
    assert monitor.stats().accepted == 0


def test_a_table_of_labels() -> None:
    monitor = memory()
    monitor.log_labels(["1", "2"], pd.Series([1, 0]), times=MOMENT, weights=[2.0, math.nan])
    monitor.log_labels(np.array(["3", "4"]), ["cat", "dog"], times=MOMENT)
    got = [(event.prediction_id, event.value, event.weight, event.time) for event in monitor.events]
    assert got == [
        ("1", 1.0, 2.0, MICROS), ("2", 0.0, None, MICROS), ("3", "cat", None, MICROS), ("4", "dog", None, MICROS),
    ]  # fmt: skip


# --- around a call -------------------------------------------------------------------------------------------------


def test_the_context_times_and_logs_its_answer() -> None:
    monitor = memory()
    with monitor.predict({"a": 1.0}, weight=2.0) as p:
        p.output, p.score, p.prediction_id = 1, 0.25, "mine"
    event = one(monitor)
    assert (event.prediction_id, event.output, event.score, event.weight) == ("mine", 1.0, 0.25, 2.0)
    assert event.latency >= 0


def test_the_context_logs_an_exception_as_a_failure_and_lets_it_go_on() -> None:
    monitor = memory()
    with pytest.raises(ZeroDivisionError), monitor.predict({"a": 1.0}, version="2") as p:
        p.output = 1 // 0
    event = one(monitor)
    assert (event.kind, event.version) == ("ZeroDivisionError", "2")


def test_the_context_without_an_answer_is_a_wrong_call() -> None:
    monitor = memory()
    with pytest.raises(MalformedEvent, match="output"), monitor.predict({"a": 1.0}):
        pass


@pytest.mark.parametrize("word", ["colour", "_monitor", "latency", "features_"])
def test_the_context_knows_its_keywords(word: str) -> None:
    with pytest.raises(TypeError, match=word):
        memory().predict({"a": 1.0}, **{word: 1})


def test_the_context_takes_all_that_log_prediction_takes_but_the_latency() -> None:
    monitor = memory()
    said: dict[str, Any] = {
        "output": 1, "score": 0.5, "segments": {"site": "B"}, "weight": 2.0, "value": 3.0, "version": "2",
        "route": "shadow", "time": MOMENT,
    }  # fmt: skip
    with monitor.predict({"a": 1.0}, "p", **said):
        pass
    monitor.log_prediction("p", {"a": 1.0}, **said)
    within, direct = monitor.events
    assert within.latency is not None
    assert msgspec.structs.replace(within, latency=None) == direct


def test_an_output_that_was_given_may_be_set_anew() -> None:
    monitor = memory()
    with monitor.predict({"a": 1.0}, output=0) as p:
        p.output = 1
    assert one(monitor).output == 1.0


def test_a_watched_function_keeps_signature_and_result() -> None:
    monitor = memory()

    @monitor.watch(
        prediction_id=lambda x, **_: x["order_id"], features=lambda x, **_: {"amount": x["amount"]},
        output=lambda result: result["class"], score=lambda result: result["p"],
    )  # fmt: skip
    def answer(x: dict[str, Any], *, extra: int = 0) -> dict[str, Any]:
        """Answer."""
        return {"class": "ok", "p": 0.5, "extra": extra}

    assert answer({"order_id": "o-1", "amount": 3}, extra=2) == {"class": "ok", "p": 0.5, "extra": 2}
    assert (answer.__name__, answer.__doc__) == ("answer", "Answer.")
    event = one(monitor)
    assert (event.prediction_id, event.features, event.output, event.score) == ("o-1", {"amount": 3.0}, "ok", 0.5)


def test_a_watched_coroutine_logs_answers_and_failures() -> None:
    import asyncio

    monitor = memory()

    @monitor.watch()
    async def answer(x: dict[str, float]) -> float:
        return 1 / x["a"]

    assert asyncio.run(answer({"a": 2.0})) == 0.5
    with pytest.raises(ZeroDivisionError):
        asyncio.run(answer({"a": 0.0}))
    prediction, failure = monitor.events
    assert (prediction.output, prediction.features) == (0.5, {"a": 2.0})
    assert failure.kind == "ZeroDivisionError"


def test_a_broken_lambda_of_watch_does_not_break_the_request() -> None:
    monitor = memory(on_error="report")

    @monitor.watch(prediction_id=lambda x: x["absent"])
    def answer(_x: dict[str, float]) -> int:
        return 1

    assert answer({"a": 1.0}) == 1
    assert monitor.stats().refused == 1


# --- modes and errors ----------------------------------------------------------------------------------------------


def test_a_wrong_argument_is_logged_once_a_place_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    monitor = memory(on_error="report")
    for _ in range(5):
        assert monitor.log_prediction("p", {"a": b"x"}, 1) == "p"
    monitor.log_label("p", None)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "Monitor('fraud')" in messages[0]
    assert __file__ in messages[0]
    assert "features.a: bytes b'x'" in messages[0]
    assert monitor.stats().refused == 6


@pytest.mark.parametrize("features", [None, 3, "text", object(), [1, 2], {1: 2.0}])
def test_log_calls_never_raise(features: Any) -> None:
    monitor = memory(on_error="report")
    monitor.log_prediction("ok", {"a": 1.0}, 1)
    assert monitor.log_prediction("p", features, 1) == "p"
    monitor.log_predictions(["p"], features, [1])
    monitor.log_labels(object(), object())
    monitor.log_failure(object(), status="x")  # type: ignore[arg-type]
    assert monitor.stats().accepted == 1
    assert monitor.stats().refused == 4


def test_without_a_broker_it_is_off_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(modes, "_warned", False)
    monkeypatch.delenv("MLMM_MODE", raising=False)
    with caplog.at_level(logging.WARNING):
        monitors = [Monitor("fraud", settings=load(env={}, sections=())) for _ in range(3)]
    assert len(caplog.records) == 1
    assert "MLMM_KAFKA__BOOTSTRAP_SERVERS" in caplog.text
    assert monitors[0].log_prediction("p", {"a": 1.0}, 1) == "p"
    assert monitors[0].log_prediction(None, {"a": 1.0}, 1)
    monitors[0].log_label("p", 1)
    monitors[0].log_failure("x")
    assert monitors[0].log_predictions(["q"], {"a": [1.0]}, [1]) == ["q"]
    assert (monitors[0].stats().accepted, monitors[0].events, monitors[0].flush(), monitors[0].close()) == (
        0,
        [],
        True,
        True,
    )


def test_the_mode_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMM_MODE", "memory")
    monitor = Monitor("fraud")
    monitor.log_prediction("p", {"a": 1.0}, 1)
    assert len(monitor.events) == 1
    monkeypatch.setenv("MLMM_MODE", "loud")
    with pytest.raises(SettingsError, match="kafka, memory, off"):
        Monitor("fraud")


def test_kafka_mode_needs_a_broker_in_the_settings() -> None:
    with pytest.raises(SettingsError, match="bootstrap_servers"):
        Monitor("fraud", mode="kafka", settings=load(env={}, sections=()))


@pytest.mark.parametrize(
    ("keywords", "field"),
    [
        ({"model": ""}, "model"), ({"model": "a#b"}, "model"), ({"model": 3}, "model"), ({"task": "ranking"}, "task"),
        ({"version": 3}, "version"), ({"shards": 0}, "shards"), ({"positive": math.nan}, "positive"),
        ({"threshold": "high"}, "threshold"),
    ],
)  # fmt: skip
def test_the_constructor_raises_for_what_can_not_be(keywords: dict[str, Any], field: str) -> None:
    with pytest.raises(MalformedEvent, match=field):
        Monitor(**{"model": "fraud", "mode": "memory", **keywords})


def test_monitors_of_equal_settings_share_an_emitter() -> None:
    settings = load(env={}, arguments={"kafka.bootstrap_servers": "127.0.0.1:1"})
    again = load(env={}, arguments={"kafka.bootstrap_servers": "127.0.0.1:1"})
    other = load(env={}, arguments={"kafka.bootstrap_servers": "127.0.0.1:2"})
    first, second, third = (Monitor("fraud", settings=each)._outlet.emitter for each in (settings, again, other))
    assert first is second
    assert first is not third
    first.close(1)
    assert Monitor("fraud", settings=settings)._outlet.emitter is not first
