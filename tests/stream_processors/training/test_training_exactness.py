"""The same events give the same bytes, however they were packed, cut, saved and loaded; and the cells' layout stays."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmm.events import Falling, FallingStrict, Metrics, NotFinite, Plateau, blocks_of
from mlmm.runtime.processor import Output, Record
from mlmm.stream_processors.training import Bounds, TrainingState
from tests.stream_processors.training.making import (
    acked,
    beat,
    checkpoint,
    columns,
    ended,
    log,
    metrics,
    record,
    started,
    state,
    tick,
)

BOUNDS = Bounds(max_metrics=3, forget_after=40.0)
TRIGGERS = (
    FallingStrict(metric="acc", count=2),
    Falling(metric="acc", alpha=0.5, drop=0.1, patience=2),
    Plateau(metric="loss", evaluations=3, mode="min"),
    NotFinite(),
)
VALUES = st.sampled_from([0.1, 0.2, 0.5, 0.9, -0.0, 1e308, -1e308, float("nan"), float("inf")])
RUNS = st.sampled_from(["r", "s", "t"])
ATTEMPTS = st.sampled_from(["a1", "a1", "a1", "a2"])


@st.composite
def _metric(draw, run, attempt):
    names = draw(st.sampled_from([("acc",), ("acc", "loss"), ("loss", "x", "y")]))
    return metrics(
        draw(st.integers(0, 50)),
        run,
        attempt,
        draw(st.sampled_from(["train", "train", "validation"])),
        **{name: draw(VALUES) for name in names},
    )


@st.composite
def _event(draw):
    run, attempt = draw(RUNS), draw(ATTEMPTS)
    kind = draw(st.sampled_from(["metrics"] * 12 + ["start", "beat", "checkpoint", "end", "ack", "tick"]))
    match kind:
        case "metrics":
            return draw(_metric(run, attempt))
        case "start":
            return started(run, attempt, triggers=TRIGGERS, heartbeat_every=2, model=draw(st.sampled_from([None, "m"])))
        case "beat":
            return beat(run, attempt, draw(st.none() | st.integers(0, 99)))
        case "checkpoint":
            return checkpoint(draw(st.integers(0, 3)), run, attempt)
        case "end":
            return ended(run, attempt)
        case "ack":
            what = draw(st.sampled_from(["accepted", "completed", "rejected"]))
            return acked(draw(st.sampled_from("cd")), what, run, draw(st.none() | ATTEMPTS))
        case _:
            return None


@st.composite
def _story(draw):
    """Events with the log time of each; many share one, so that they can share a record."""
    now, story = 0.0, []
    for event in draw(st.lists(_event(), min_size=1, max_size=60)):
        now += draw(st.sampled_from([0, 0, 0, 0, 0.5, 3, 7, 45]))
        story.append((now, event))
    return story


def _pack(draw, story) -> list[Record]:
    """Lay events into records: neighbours of one type, key and log time may share one; metrics may go in columns."""
    made: list[Record] = []
    group: list = []
    group_time = 0.0

    def close():
        if not group:
            return
        offset = made[-1].offset + draw(st.sampled_from([1, 1, 5])) if made else 0
        if isinstance(group[0], Metrics) and len(blocks_of(group)) == 1 and draw(st.booleans()):
            made.append(record(offset, group_time, columns(*group)))
        else:
            made.append(record(offset, group_time, *group))
        group.clear()

    for now, event in story:
        same = group and type(event) is type(group[0]) and now == group_time and _key(event) == _key(group[0])
        if not (same and draw(st.booleans())):
            close()
        if event is None:
            made.append(tick(made[-1].offset + 1 if made else 0, now))
        else:
            group.append(event)
            group_time = now
    close()
    return made


def _key(event) -> str:
    return getattr(event, "run_id", None) or event.target


def _plain(outputs: list[Output]) -> list[tuple]:
    return [(each.key, each.type, each.id, each.time, each.value, each.causation) for each in outputs]


def _run(draw, records: list[Record], *, reload: bool) -> tuple[list[tuple], dict[bytes, bytes]]:
    """Cut records into polls, hold what `changed` tells against `cells`, and start anew from the cells now and then."""
    runs: TrainingState = state(BOUNDS, lost_after=3)
    stored: dict[bytes, bytes] = {}
    outputs: list[tuple] = []
    at = 0
    while at < len(records):
        size = draw(st.integers(1, 20))
        made = runs.process(records[at : at + size])
        assert [each.offset for each in made] == sorted(each.offset for each in made)
        outputs += _plain(made)
        at += size
        for cell, value in runs.changed().items():
            if value is None:
                stored.pop(cell, None)
            else:
                stored[cell] = value
        if draw(st.booleans()):
            assert dict(runs.cells()) == stored
        if reload and draw(st.booleans()):
            deadline = runs.deadline()
            runs = state(BOUNDS, lost_after=3)
            cells = draw(st.permutations(sorted(stored.items())))
            half = len(cells) // 2
            runs.load(cells[:half])
            runs.load(cells[half:])
            assert runs.deadline() == deadline
    assert dict(runs.cells()) == stored
    return outputs, stored


@settings(max_examples=150, deadline=None)
@given(story=_story(), data=st.data())
def test_packing_cutting_and_loading_change_nothing(story, data):
    plain = [tick(i, now) if event is None else record(i, now, event) for i, (now, event) in enumerate(story)]
    whole = state(BOUNDS, lost_after=3)
    expected = _plain(whole.process(plain))
    assert _run(data.draw, _pack(data.draw, story), reload=True) == (expected, dict(whole.cells()))


def test_a_long_log_gives_the_same_bytes_in_polls_of_any_size():
    """Twenty runs that improve, fall and break, 40,000 events: one poll, polls of 7 records, and one record a poll."""
    rng = np.random.default_rng(3)
    records, offset = [], 0
    for i in range(20):
        records.append(record(offset, 0, started(f"r{i}", triggers=(*TRIGGERS, Falling(metric="acc", drop=0.02)))))
        offset += 1
    for round_ in range(20):
        for i in range(20):
            events = [
                metrics(
                    round_ * 100 + j,
                    f"r{i}",
                    acc=float(rng.normal(0.8 - 0.002 * round_, 0.01)),
                    loss=float(rng.random()),
                )
                for j in range(100)
            ]
            records.append(record(offset, round_, columns(*events)))
            offset += 1
    results = []
    for size in (len(records), 7, 1):
        runs = state()
        outputs = [each for at in range(0, len(records), size) for each in runs.process(records[at : at + size])]
        results.append(([(each.offset, each.id, each.value) for each in outputs], dict(runs.cells())))
    assert results[0] == results[1] == results[2]
    assert len(results[0][0]) > 60


def _golden_state() -> TrainingState:
    runs = state()
    runs.process(
        log(
            (0, started(triggers=TRIGGERS, model="m", total_steps=9)),
            (1, columns(metrics(1, acc=0.5, loss=1.0), metrics(2, acc=0.75, loss=0.5))),
            (2, beat(step=3)),
            (3, checkpoint(2)),
            (4, acked("c", "accepted")),
        )
    )
    return runs


GOLDEN = Path(__file__).with_name("golden") / "training_cells_v1.hex"


def test_the_layout_of_cells_stays():
    """Bytes that a released version wrote must be read; a change of layout is a new version beside this one."""
    written = {}
    for line in GOLDEN.read_text().splitlines():
        name, value = line.split()
        written[bytes.fromhex(name)] = bytes.fromhex(value)
    assert dict(_golden_state().cells()) == written
    again = state()
    again.load(written.items())
    assert dict(again.cells()) == written


def _loaded(cells) -> TrainingState:
    again = state()
    again.load(cells.items())
    again.cells()
    return again


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda cells: cells | {b"ir": b"\x02" + cells[b"ir"][1:]}, "b'ir'.*layout b'.x02' is not known"),
        (lambda cells: cells | {b"sr": b"\x02" + cells[b"sr"][1:]}, "b'sr'.*layout"),
        (lambda cells: cells | {b"ir": cells[b"ir"][:-3]}, "b'ir'"),
        (lambda cells: cells | {b"sr": cells[b"sr"][:-3]}, "b'sr'.*whole words"),
        (lambda cells: cells | {b"sr": cells[b"sr"][:-8]}, "b'sr'"),
        (lambda cells: cells | {b"sr": cells[b"sr"] + bytes(8)}, "b'sr'.*its series need"),
        (lambda cells: {b"sr": cells[b"sr"]}, "b'sr' has no cell b'ir'"),
        (lambda cells: {b"ir": cells[b"ir"]}, "b'ir' has no cell b'sr'"),
        (lambda cells: cells | {b"zr": b""}, "b'zr' is not known"),
    ],
)
def test_a_damaged_or_newer_cell_is_refused_by_name(damage, message):
    cells = damage(dict(_golden_state().cells()))
    with pytest.raises(ValueError, match=message):
        _loaded(cells)
