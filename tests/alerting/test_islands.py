"""The state as a whole: the same bytes however findings are cut, restored or mixed with those of other keys."""

from itertools import pairwise
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mlmm.alerting import _judges
from mlmm.alerting._judges import FORGOTTEN_AFTER
from mlmm.alerting.processor import AlertingProcessor
from mlmm.events.types import Subject
from mlmm.runtime.settings import Order
from tests.alerting.stories import (
    SECOND,
    STOP,
    Story,
    accuracy_rule,
    at,
    drift,
    falling_rule,
    key_of,
    record,
    report,
    rule,
    run_state,
    said,
    settings,
    trigger,
)

GIVEN = settings(
    accuracy_rule(hold="2 of 3"),
    rule(name="drop", model="*", metric="accuracy", drops_by=0.1, command=Order(kind="retrain")),
    rule(name="drift", model="*", drift="*", command=STOP),
    rule(name="silent", model="*", no_data="20m", notify=("on_call", "chat")),
    falling_rule(),
    rule(name="lost", run="*", no_data="1m"),
    ack_timeout="60s",
    resolve_after="30m",
)
COMMAND_IDS = ["unknown"]


def learn_command_ids() -> None:
    """Ids that the stories below give, so that answers to them can be drawn."""
    story = Story(GIVEN)
    for seconds in range(0, 7200, 600):
        story.tell(drift(seconds), trigger(seconds, attempt="a1"), run_state(seconds + 1, status="completed"))
    COMMAND_IDS.extend(command.command_id for command in story.commands)


learn_command_ids()

MODELS = st.sampled_from(["fraud", "fraud-eu", "churn"])
RUNS = st.sampled_from(["churn-1", "churn-2"])
SECONDS = st.integers(0, 12).map(lambda tens: tens * 600)


@st.composite
def findings(draw):
    kind = draw(st.sampled_from(["report", "service", "drift", "run", "trigger", "answer", "tick"]))
    seconds = draw(SECONDS)
    if kind == "tick":
        return at(seconds + 620)
    if kind in ("report", "service"):
        accuracy = draw(st.sampled_from([0.95, 0.93, 0.91, 0.8, 0.75, None]))
        kind = "performance" if kind == "report" else "service"
        return report(seconds // 600, accuracy, model=draw(MODELS), kind=kind, revision=draw(st.integers(0, 1)))
    if kind == "drift":
        return drift(seconds, model=draw(MODELS), series=draw(st.sampled_from(["error", "feature:amount"])))
    attempt = "a1" if seconds < 3600 else "a2"  # the training processor leaves out what an older attempt says
    if kind == "run":
        status = draw(st.sampled_from(["running", "completed", "failed", "lost", "stopped"]))
        return run_state(seconds, run=draw(RUNS), attempt=attempt, status=status)
    if kind == "trigger":
        return trigger(seconds, run=draw(RUNS), attempt=attempt)
    state = draw(st.sampled_from(["accepted", "completed", "rejected", "expired", "superseded"]))
    target = draw(st.sampled_from(["fraud", "churn-1", "churn-2"]))
    return said(seconds + 30, draw(st.sampled_from(COMMAND_IDS)), state, run=draw(RUNS), target=target)


def log(draw_from: list) -> list:
    """Findings and ticks as records in order of time; the log of one partition has no two findings of one moment."""
    timed = [
        item + i if isinstance(item, int) else msgspec.structs.replace(item, log_time=item.log_time + i)
        for i, item in enumerate(draw_from)
    ]
    timed.sort(key=lambda item: item if isinstance(item, int) else item.log_time)
    return [record(item, offset) for offset, item in enumerate(timed)]


def told(records, cuts=(), restarts=()):
    """Outputs, final cells and accumulated changes of a state that is fed polls cut at ``cuts``."""
    state, outputs, kept = AlertingProcessor(GIVEN).state(), [], {}
    bounds = [0, *sorted(cuts), len(records)]
    for start, end in pairwise(bounds):
        if start in restarts:
            state = AlertingProcessor(GIVEN).state()
            state.load(reversed(kept.items()))
        outputs += state.process(records[start:end])
        for name, cell in state.changed().items():
            if cell is None:
                kept.pop(name, None)
            else:
                kept[name] = cell
        assert kept == dict(state.cells())
    return outputs, state.cells(), state.deadline()


@examples(max_examples=150, deadline=None)
@given(st.lists(findings(), max_size=40), st.data())
def test_the_same_log_gives_the_same_bytes_however_it_is_cut_and_restored(drawn, data):
    records = log(drawn)
    cuts = data.draw(st.lists(st.integers(0, len(records)), max_size=6))
    restarts = data.draw(st.sets(st.sampled_from([*cuts, 0])))
    assert told(records, cuts, restarts) == told(records)


@examples(max_examples=150, deadline=None)
@given(st.lists(findings(), max_size=40))
def test_nothing_depends_on_which_keys_share_the_partition(drawn):
    records = log(drawn)
    together, cells, _ = told(records)
    alone, alone_cells = [], {}
    for key in {each.key for each in records if each.key}:
        outputs, own, _ = told([each for each in records if each.key in (key, b"")])
        alone += outputs
        alone_cells |= own
    assert cells == alone_cells
    assert sorted((o.topic, o.key, o.id, o.value, o.offset) for o in together) == sorted(
        (o.topic, o.key, o.id, o.value, o.offset) for o in alone
    )


@examples(max_examples=100, deadline=None)
@given(st.lists(findings(), max_size=60))
def test_an_incident_is_told_once_as_firing_and_once_as_resolved(drawn):
    """Also: one incident of a rule and subject at a time, and ids that stand for one thing."""
    story = Story(GIVEN)
    story.outputs = story.state.process(log(drawn))
    told_of = [(note.incident.incident_id, note.notifier, note.incident.state) for note in story.of("notifications")]
    assert len(told_of) == len(set(told_of))
    firing = {each[:2] for each in told_of if each[2] == "firing"}
    assert {each[:2] for each in told_of if each[2] == "resolved"} <= firing
    open_incidents: dict = {}
    closed = set()
    for incident in story.incidents:
        place = (incident.rule, repr(incident.subject))
        if incident.incident_id in closed:
            assert incident.state == "resolved"  # an answer that came late
            continue
        assert open_incidents.setdefault(place, incident.incident_id) == incident.incident_id
        if incident.state == "resolved":
            closed.add(open_incidents.pop(place))
    commands = story.commands
    assert len({command.command_id for command in commands}) == len(commands)
    ids = [(output.topic, output.id) for output in story.outputs if output.topic != "incidents"]
    assert len(ids) == len(set(ids))


def test_every_cell_is_named_by_its_finding_key():
    story = Story(GIVEN)
    story.tell(report(0), drift(700, model="churn"))
    assert set(story.state.cells()) == {b"kfraud", b"kchurn"}
    assert all(cell[0] == 1 for cell in story.state.cells().values())
    assert key_of(report(0)) == b"fraud"


def test_a_model_without_an_incident_is_forgotten_after_thirty_days_of_silence():
    story = Story(settings(accuracy_rule()))
    story.tell(report(0, 0.95), report(0, 0.8, model="fraud-eu"))
    story.tell(report(0).log_time + FORGOTTEN_AFTER - SECOND)
    assert len(story.state.cells()) == 2
    story.tell(report(0).log_time + FORGOTTEN_AFTER)
    assert set(story.state.cells()) == {b"kfraud-eu"}


def test_subjects_that_are_long_silent_make_room_for_new_ones(monkeypatch):
    """A model that is always heard of, and whose versions come and go."""
    monkeypatch.setattr(_judges, "WATCHES", 2)
    story = Story(settings(accuracy_rule(version="*")))
    month = FORGOTTEN_AFTER // (600 * SECOND)

    def tell(nth, version, accuracy):
        story.tell(report(nth, accuracy, subject=Subject(model="fraud", version=version)))
        return [incident.subject.version for incident in story.incidents]

    tell(0, "1", 0.95)
    tell(0, "2", 0.95)
    assert tell(1, "3", 0.8) == []
    tell(month // 2, "2", 0.95)
    assert tell(month, "3", 0.8) == ["3"]
    assert tell(month + 1, "4", 0.8) == ["3"]


def test_when_a_model_is_forgotten_does_not_tell_of_a_restart():
    def cells(*, restarted):
        story = Story(settings(accuracy_rule()))
        story.tell(report(0, 0.95), report(1000, 0.95))
        if restarted:
            kept, story = story.state.cells(), Story(settings(accuracy_rule()))
            story.state.load(kept.items())
        story.tell(report(0).log_time + FORGOTTEN_AFTER, report(1000).log_time + FORGOTTEN_AFTER)
        return story.state.cells()

    assert cells(restarted=False) == cells(restarted=True) == {}


def test_the_golden_cells_of_layout_1_are_written_and_read():
    """Bytes that an earlier version left in Redis: where this fails the layout changed and needs a new number."""
    golden = msgspec.json.decode((Path(__file__).parent / "golden_cells.json").read_bytes(), type=dict[str, str])
    given = settings(accuracy_rule(hold="2 of 3"), falling_rule())
    story = Story(given)
    story.tell(report(0, 0.8), trigger(0))
    assert {name.decode(): cell.hex() for name, cell in story.state.cells().items()} == golden
    again = Story(given)
    again.state.load([(name.encode(), bytes.fromhex(cell)) for name, cell in golden.items()])
    assert again.state.cells() == story.state.cells()
