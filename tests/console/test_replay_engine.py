"""Replaying a log: the same findings, incidents, commands and cells as from folding it by hand, in any form."""

import msgspec
import pytest

from mlmm.console.replay import replay_file, replay_records, to_lines
from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    TYPES,
    FallingStrict,
    Heartbeat,
    Label,
    Metrics,
    Prediction,
    RunStarted,
    Tick,
    blocks_of,
    encode_columns,
    encode_json,
    partition_of,
)
from mlmm.runtime.processor import Record
from mlmm.runtime.settings import Settings, override
from mlmm.stream_processors.serving import ServingProcessor
from mlmm.stream_processors.training import TrainingProcessor

T0 = 1_763_600_000_000_000
SECOND = 1_000_000
NAMES = {of: name for name, of in TYPES.items()}
PARTITIONS = 3


@pytest.fixture
def settings() -> Settings:
    return override(
        Settings(),
        {
            "kafka": {"partitions": PARTITIONS},
            "rules": [
                {"name": "hopeless", "run": "*", "trigger": "falling_strict", "command": {"kind": "stop"}},
                {"name": "inaccurate", "model": "m*", "metric": "accuracy", "below": 0.9, "window": "1m"},
            ],
        },
    )


class Log:
    """Records laid into the partitions where workers would find them."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Record]] = {}

    def add(self, topic, key, seconds, *events, partition=None, columns=True):
        kind = NAMES[type(events[0])]
        if columns and kind in ("mlmm.predictions.v1", "mlmm.labels.v1", "mlmm.run.metrics.v1"):
            (block,) = blocks_of(events)
            content, value = COLUMNS_TYPE, encode_columns(block)
        else:
            content, value = JSON, encode_json(list(events) if len(events) > 1 else events[0])
        at = partition_of(key.encode(), PARTITIONS) if partition is None else partition
        log = self.records.setdefault((topic, at), [])
        headers = [("ce_type", kind.encode()), ("content-type", content.encode())]
        log.append(Record(0, T0 + round(seconds * SECOND), key.encode(), value, headers))
        log.sort(key=lambda record: record.log_time)
        log[:] = [record._replace(offset=3 * place) for place, record in enumerate(log)]

    def ticks(self, topic, seconds):
        for partition in range(PARTITIONS):
            self.add(topic, "", seconds, Tick(time=T0 + round(seconds * SECOND)), partition=partition)


def _story() -> Log:
    """Three models whose answers turn wrong after a minute; five runs whose accuracy falls; all but one fall silent."""
    log = Log()
    for model in ("m0", "m1", "m2"):
        for second in range(150):
            wrong = second > 60
            ids = [f"{model}-{second}-{i}" for i in range(5)]
            time = T0 + second * SECOND
            log.add(
                "serving",
                model,
                second,
                *(Prediction(prediction_id=i, time=time, model=model, output=1, features={"f": 1.0}) for i in ids),
            )
            log.add(
                "serving",
                model,
                second,
                *(Label(prediction_id=i, time=time, model=model, value=0 if wrong else 1) for i in ids),
                columns=second % 2 == 0,
            )
    for run in (f"r{i}" for i in range(5)):
        down = (FallingStrict(metric="acc", count=3),)
        log.add("training", run, 0, RunStarted(run_id=run, attempt="a", time=T0, experiment="e", triggers=down))
        for step in range(20):
            value = step if step < 10 else 20 - step
            event = Metrics(run_id=run, attempt="a", time=T0, step=step, values={"acc": float(value)})
            log.add("training", run, step, event)
            if run != "r4":
                log.add("training", run, step, Heartbeat(run_id=run, attempt="a", time=T0))
    for second in range(20, 300, 10):
        log.add("training", "r0", second, Heartbeat(run_id="r0", attempt="a", time=T0))
    for second in (30, 60, 90, 149, 260):
        log.ticks("training", second)
    log.ticks("serving", 300)
    return log


def _said(made):
    return [(each.processor, each.source, each.output.key, each.output.id, each.output.value) for each in made]


def test_findings_and_cells_are_those_of_the_processors(settings):
    log = _story()
    replay = replay_records(log.records, settings)
    found = {}
    for (topic, partition), records in log.records.items():
        processor = ServingProcessor(settings.serving) if topic == "serving" else TrainingProcessor(settings.training)
        state = processor.state()
        found[topic, partition] = [each.value for each in state.process(records)]
        assert replay.cells[topic, partition] == dict(state.cells())
    for place, values in found.items():
        assert [each.output.value for each in replay.findings if (each.processor, each.source) == place] == values
    assert len(replay.findings) > 20
    assert replay.dead_letters == []


def test_rules_open_incidents_and_give_commands(settings):
    replay = replay_records(_story().records, settings)
    commands = [msgspec.json.decode(each.output.value) for each in replay.commands]
    assert sorted(each["run_id"] for each in commands) == ["r0", "r1", "r2", "r3", "r4"]
    incidents = [msgspec.json.decode(each.output.value) for each in replay.incidents]
    assert {(each["rule"], each["subject"].get("model") or each["subject"]["run"]) for each in incidents} >= {
        ("hopeless", "r0"),
        ("inaccurate", "m0"),
        ("inaccurate", "m1"),
        ("inaccurate", "m2"),
    }


def test_alerting_hears_its_deadlines_though_no_finding_comes(settings):
    """A stop command that nobody answers becomes an incident, at alerting's own deadline before the log's end."""
    replay = replay_records(_story().records, settings)
    rules = [msgspec.json.decode(each.output.value)["rule"] for each in replay.incidents]
    assert "hopeless: command not obeyed" in rules


def test_findings_come_in_the_order_of_their_causes(settings):
    findings = replay_records(_story().records, settings).findings
    times = [each.output.time for each in findings]
    assert times == sorted(times)
    assert len({each.processor for each in findings}) == 2


def test_a_file_of_lines_gives_what_the_records_give(settings, tmp_path):
    log = _story()
    log.records["findings", 0] = log.records["training", 0][:1]  # a topic that no processor reads
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        for place, records in log.records.items():
            file.writelines(line + "\n" for record in records for line in to_lines(*place, record))
    result = replay_file(path, settings, tmp_path / "out")
    replay = replay_records(log.records, settings)
    for name, made in (("findings", replay.findings), ("incidents", replay.incidents), ("commands", replay.commands)):
        lines = [msgspec.json.decode(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_bytes().splitlines()]
        assert [(each["key"], each["id"], each["partition"], each["log_time"]) for each in lines] == [
            (each.output.key.decode(), each.output.id, each.partition, each.output.time) for each in made
        ]
        assert [each["data"] for each in lines] == [msgspec.json.decode(each.output.value) for each in made]
    assert (result.rows, result.commands) == (replay.records, 5)
    assert result.notes == ("passed over, since no processor reads them: findings",)
    assert {each.rule for each in result.incidents} >= {"hopeless", "inaccurate"}


def test_what_lies_in_the_wrong_partition_is_a_dead_letter_as_it_is_to_a_worker(settings):
    log = _story()
    before = replay_records(log.records, settings)
    wrong = (partition_of(b"m0", PARTITIONS) + 1) % PARTITIONS
    log.add("serving", "m0", 301, Label(prediction_id="x", time=T0, model="m0", value=1), partition=wrong)
    after = replay_records(log.records, settings)
    (letter,) = after.dead_letters
    assert b"belongs in partition" in dict(letter.output.headers)["mlmm_error"]
    assert (after.cells, _said(after.findings)) == (before.cells, _said(before.findings))
    assert replay_records(log.records, settings, checked=False).dead_letters == []


def test_a_log_of_another_number_of_partitions_is_replayed_unchecked_and_says_so(settings, tmp_path):
    log = Log()
    for i in range(20):
        log.add("training", f"r{i}", 0, RunStarted(run_id=f"r{i}", attempt="a", time=T0, experiment="e"), partition=0)
    path = tmp_path / "log.jsonl"
    path.write_text(
        "\n".join(line for record in log.records["training", 0] for line in to_lines("training", 0, record))
    )
    result = replay_file(path, settings, tmp_path / "out")
    assert (result.findings, result.dead_letter_count) == ({"mlmm.run.state.v1": 20}, 0)
    assert "3 partitions" in result.notes[0]
