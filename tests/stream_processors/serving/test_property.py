"""The same events give the same bytes, however packed into records and cut into polls, and what plain Python gives."""

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlmm.runtime.settings.sections import DetectorSettings
from mlmm.stream_processors.serving import ServingProcessor

from .makers import Logged, bare, failure, label, packed, polls, prediction, reports, settings, singly, tick
from .oracle import Oracle

EAGER = DetectorSettings(baseline=8, adwin_delta=0.5, page_hinkley_delta=0.05, page_hinkley_threshold=4.0)
FEATURES = [
    {"a": 1.0, "b": 2.5},
    {"a": 9.0, "b": None},
    {"b": -3.0, "c": True},
    {"c": False, "d": 0.25, "text": "x"},
    {},
]

step = st.tuples(
    st.sampled_from([0, 0, 0, 0, 0.3, 1, 5, 20, 40, 100, 130]),  # seconds of log time since the event before
    st.sampled_from("pppplllft"),
    st.sampled_from(["m", "m", "n", "o#1"]),
    st.integers(0, 11),  # which id
    st.sampled_from([0, 0, 0.5, 1.5, 4, 30, -2]),  # how old the event is
    st.sampled_from([0, 1, 1.0, True, "yes", -0.0, 2.5]),
    st.integers(0, len(FEATURES) - 1),
    st.sampled_from([None, 0.0, 0.004, 0.2]),
    st.sampled_from(["binary", "binary", "multiclass", "regression"]),
)


def made(steps: list[tuple[Any, ...]]) -> list[Logged]:
    events: list[Logged] = []
    now = 100.0
    for passed, kind, model, number, age, value, features, latency, task in steps:
        now += passed
        at = now - age
        if kind == "p":
            output = 1.5 if task == "regression" and value == "yes" else value
            events.append(
                prediction(
                    f"id-{number}",
                    at,
                    output,
                    model=model,
                    log=now,
                    features=FEATURES[features],
                    latency=latency,
                    task=task,
                )
            )
        elif kind == "l":
            events.append(label(f"id-{number}", at, value, model=model, log=now))
        elif kind == "f":
            events.append(failure(at, model=model, log=now, latency=latency))
        else:
            events.append(tick(now))
    return events


@pytest.mark.parametrize("max_pending", [1000, 3])
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(step, max_size=80), random=st.randoms(use_true_random=False))
def test_same_bytes_however_packed_and_cut_and_however_often_taken_over(max_pending, steps, random):
    given_settings = settings(windows=(1.0, 10.0), last=10, max_pending=max_pending, max_features=3, detectors=EAGER)
    events = made(steps)
    processor = ServingProcessor(given_settings)
    plain = processor.state()
    expected = [output for each in singly(events) for output in plain.process([each])]

    state = processor.state()
    stored: dict[bytes, bytes] = {}
    outputs = []
    for poll in polls(packed(events, random), random):
        outputs += state.process(poll)
        for name, cell in state.changed().items():
            if cell is None:
                stored.pop(name, None)
            else:
                stored[name] = cell
        assert stored == state.cells()
        if random.random() < 0.3:
            state = processor.state()
            cells = list(stored.items())
            random.shuffle(cells)
            state.load(cells)
            assert state.cells() == stored
    assert bare(outputs) == bare(expected)
    assert state.cells() == plain.cells()
    assert state.deadline() == plain.deadline()
    counts = plain.counters()
    assert {**state.counters(), "records": 0, "dead_letters": 0} == {**counts, "records": 0, "dead_letters": 0}


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(step, max_size=60), max_pending=st.sampled_from([1, 4, 1000]))
def test_join_and_windows_as_in_plain_python(steps, max_pending):
    given_settings = settings(windows=(1.0, 10.0), max_pending=max_pending, last=20)
    # One model, one task: what the figures mean for each task is tested elsewhere.
    events = made([(*s[:2], "m", *s[3:5], int(s[5] == 1), *s[6:8], "binary") for s in steps])
    state = ServingProcessor(given_settings).state()
    found = reports(state.process(singly(events)))
    oracle = Oracle(given_settings)
    for each in events:
        if each.event is None:
            oracle.timers(each.log_time)
        else:
            oracle.take(each)
    assert len(found) == len(oracle.reports)
    for report, expected in zip(found, oracle.reports, strict=True):
        assert {name: report[name] for name in ("kind", "window", "start", "log_time")} == {
            name: expected[name] for name in ("kind", "window", "start", "log_time")
        }
        figures = report["figures"]
        if report["kind"] == "service":
            assert figures["late"] == expected["late"]
            assert (figures["predictions"], figures["failures"]) == (expected["predictions"], expected["failures"])
            assert figures.get("latency_mean") == pytest.approx(expected["latency_mean"])
        else:
            rows = expected["rows"]
            assert report.get("coverage") == expected["coverage"]
            assert report["events"] == len(rows)
            assert figures["accuracy"] == sum(output == value for output, value in rows) / len(rows)
            if not report["window"].startswith("last"):
                assert figures["late"] == expected["late"]
    counts = state.counters()
    assert {name: counts[name] for name in oracle.counts} == oracle.counts


def test_a_long_stream_with_drift_gives_the_same_bytes_packed_and_cut_anew():
    random = Random(5)
    events: list[Logged] = []
    now = 0.0
    for i in range(4000):
        now += random.choice([0, 0, 0, 0.02])
        model = random.choice(["m", "n"])
        shift = 4.0 if i > 2500 else 0.0
        features = {"a": random.gauss(shift, 1), "b": random.random(), "c": 1.0}
        events.append(
            prediction(f"id-{i}", now, random.randint(0, 1), model=model, log=now, features=features, latency=0.01)
        )
        if random.random() < 0.6:
            j = random.randint(max(0, i - 300), i)
            events.append(label(f"id-{j}", now, random.randint(0, 1), model=random.choice(["m", "n"]), log=now))
    processor = ServingProcessor(settings(detectors=DetectorSettings(baseline=100)))
    states, results = [], []
    for seed in range(3):
        random = Random(seed)
        state = processor.state()
        results.append(
            bare(output for poll in polls(packed(events, random), random, 200) for output in state.process(poll))
        )
        states.append(state.cells())
    assert results[0] == results[1] == results[2]
    assert states[0] == states[1] == states[2]
    drifts = [each for each in results[0] if each[2] == "mlmm.drift.v1"]
    assert {each[1] for each in drifts} == {b"m", b"n"}
    assert all(b'"series":"feature:a"' in each[5] for each in drifts)
