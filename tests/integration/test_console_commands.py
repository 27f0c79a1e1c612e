"""Commands on real Kafka and Redis, in this process: topics, tail, stop, labels, doctor."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from mlmm.console.cli import main
from mlmm.events import JSON, Topics, cloudevents_headers
from mlmm.producers import Monitor, TrainingRun
from mlmm.runtime.settings import Settings, load
from tests.services import unique

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(
    kafka: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, Topics]]:
    """A deployment of its own, by the environment; nothing of it is left."""
    name = unique("console")
    monkeypatch.chdir(tmp_path)
    for key, value in {
        "MLMM_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "MLMM_REDIS__URL": redis_url,
        "MLMM_KAFKA__PARTITIONS": "2",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "mlmm.toml").write_text(f'deployment = "{name}"\ntopic_prefix = "{name}"\n')
    yield load(), Topics(name)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    made = [topic for topic in admin.list_topics() if topic.startswith(f"{name}.")]
    if made:
        admin.delete_topics(made)
    admin.close()


@pytest.fixture
def made(deployment: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]) -> tuple[Settings, Topics]:
    assert main(["topics", "create"]) == 0
    capsys.readouterr()
    return deployment


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_topics_are_made_once_and_differences_told(
    deployment: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["topics", "check", "--json"]) == 1
    assert {row["state"] for row in lines(capsys)} == {"missing"}
    assert main(["topics", "create", "--json"]) == 0
    assert {row["state"] for row in lines(capsys)} == {"created"}
    assert main(["topics", "create"]) == 0
    assert deployment[1].serving in capsys.readouterr().out
    monkeypatch.setenv("MLMM_KAFKA__PARTITIONS", "3")
    assert main(["topics", "check", "--json"]) == 1
    rows = lines(capsys)
    assert {row["state"] for row in rows} == {"differs"}
    assert "partitions is 2, wanted 3" in rows[0]["details"]


def test_tail_shows_events_and_what_it_writes_can_be_replayed(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings, topics = made
    monitor = Monitor("fraud", settings=settings)
    for number in range(30):
        monitor.log_prediction(f"order-{number}", {"amount": float(number)}, number % 2)
    monitor.log_label("order-3", 1)
    assert monitor.flush(20)
    hostile = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
    headers = cloudevents_headers("mlmm.labels.v1", "i", "s", 1, JSON)
    hostile.send(topics.serving, b"{\x1b[2J", key=b"other", headers=headers).get(10)
    hostile.close()
    base = ["tail", "serving", "--since", "beginning", "--no-follow"]
    assert main(base) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 32
    assert "malformed" in shown
    assert "\x1b" not in shown
    assert main([*base, "--key", "fraud", "-n", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["tail", topics.serving, "--no-follow"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["tail", "serving", "--no-follow", "--since", "1h", "--json"]) == 0
    written = capsys.readouterr().out
    assert len(written.splitlines()) == 32
    (tmp_path / "events.jsonl").write_text(written)
    assert main(["replay", "events.jsonl", "--out", "found", "--json"]) == 0
    (row,) = lines(capsys)
    assert row["dead_letter_count"] == 1


def test_tail_follows(made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]) -> None:
    """It begins at the end of the log and leaves at its limit."""
    settings, _ = made
    done = threading.Event()

    def emit() -> None:
        monitor = Monitor("fraud", settings=settings)
        while not done.wait(0.2):
            monitor.log_prediction(None, {"x": 1.0}, 1)
        monitor.flush(10)

    thread = threading.Thread(target=emit)
    thread.start()
    try:
        assert main(["tail", "serving", "--limit", "3"]) == 0
    finally:
        done.set()
        thread.join()
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_since_in_words_that_it_does_not_know_is_a_fault_of_usage(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tail", "serving", "--since", "yesterday"]) == 2
    assert "10m" in capsys.readouterr().err


def test_a_topic_that_was_not_made_is_named(
    deployment: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tail", "serving", "--no-follow"]) == 2
    assert "mlmm topics create" in capsys.readouterr().err


def test_stop_is_obeyed_with_a_checkpoint_and_followed(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings, _ = made
    began = threading.Event()
    outcomes = []

    def train() -> None:
        with TrainingRun(
            "churn",
            run_id="churn-1",
            save=lambda folder: (folder / "model").write_text("weights"),
            checkpoint_dir=tmp_path / "checkpoints",
            settings=settings,
        ) as run:
            step = 0
            while not run.should_stop:
                run.log({"loss": 1.0}, step=step)
                step += 1
                began.set()
                threading.Event().wait(0.01)
        outcomes.append(run.outcome)

    thread = threading.Thread(target=train)
    thread.start()
    assert began.wait(20)
    code = main(["stop", "churn-1", "--reason", "wrong data", "--wait", "30", "--json"])
    thread.join(30)
    rows = lines(capsys)
    assert code == 0
    assert [row["state"] for row in rows] == ["accepted", "completed"]
    assert rows[-1]["checkpoint"].startswith("file://")
    assert outcomes[0].status == "stopped"
    assert outcomes[0].reason == "wrong data"


def test_a_run_that_is_not_there_does_not_answer(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", "nobody", "--reason", "x", "--wait", "1"]) == 1
    assert "no answer from run nobody within 1 s" in capsys.readouterr().err


def test_without_waiting_an_order_is_merely_given(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", "nobody", "--reason", "x", "--wait", "0", "--json"]) == 0
    capsys.readouterr()
    assert main(["tail", "commands", "--since", "beginning", "--no-follow", "--json"]) == 0
    (row,) = lines(capsys)
    assert row["data"]["kind"] == "stop"
    assert row["key"] == "nobody"


def test_labels_of_a_table_reach_the_topic_with_their_ids_as_written(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``007`` is an id; an empty cell is a label that is not known yet."""
    (tmp_path / "labels.csv").write_text(
        "order,fraud,known\n007,1,2026-11-01T00:00:00Z\n008,,\n009,0,2026-11-02T00:00:00Z\n"
    )
    command = ["labels", "send", "labels.csv", "--model", "fraud", "--id-column", "order", "--label-column", "fraud"]
    assert main([*command, "--time-column", "known", "--json"]) == 0
    assert lines(capsys) == [{"labels": 2, "without_label": 1, "delivered": True, "model": "fraud"}]
    assert main(["tail", "serving", "--since", "beginning", "--no-follow", "--json"]) == 0
    data = [row["data"] for row in lines(capsys)]
    assert [(each["prediction_id"], each["value"]) for each in data] == [("007", 1.0), ("009", 0.0)]
    assert data[0]["time"] == 1_793_491_200_000_000


def test_labels_from_a_column_that_is_not_there_name_those_that_are(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text("order,fraud\n1,1\n")
    command = ["labels", "send", "labels.csv", "--model", "m", "--id-column", "ordr", "--label-column", "fraud"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "--id-column" in said
    assert "order" in said


def test_doctor_finds_all_well_and_topics_missing(
    deployment: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == 1
    rows = {row["what"]: row for row in lines(capsys)}
    assert rows["topics"]["state"] == "wrong"
    assert "mlmm topics create" in rows["topics"]["remedy"]
    assert main(["topics", "create"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 0
    rows = {row["what"]: row for row in lines(capsys)}
    assert rows["Kafka"]["state"] == rows["topics"]["state"] == rows["Redis"]["state"] == "fine"


def test_doctor_warns_of_a_redis_that_evicts(
    made: tuple[Settings, Topics], redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import redis

    real = redis.Redis.info
    monkeypatch.setattr(
        redis.Redis,
        "info",
        lambda *a, **k: {**real(*a, **k), "maxmemory_policy": "allkeys-lru"},  # type: ignore[operator]
    )
    assert main(["doctor", "--json"]) == 1
    rows = {row["what"]: row for row in lines(capsys)}
    assert "noeviction" in rows["Redis memory"]["remedy"]


def test_incidents_say_what_became_of_their_mail(
    made: tuple[Settings, Topics], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, topics = made
    at = 1_790_000_000_000_000
    incident = {
        "incident_id": "i1", "rule": "fell", "state": "firing", "severity": "critical", "started": at, "updated": at,
        "subject": {"model": "m\u001b[2J"}, "reason": "0.4 below 0.9",
    }  # fmt: skip
    notification = {
        "notification_id": "n1",
        "notifier": "on_call",
        "incident": incident,
        "created": 1_790_000_000_000_000,
    }
    outcome = {
        "notification_id": "n1", "notifier": "on_call", "state": "failed", "time": 1_790_000_000_000_001,
        "attempts": 8, "error": "451 greylisted",
    }  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
    for topic, kind, key, event in (
        (topics.incidents, "mlmm.incident.v1", b"i1", incident),
        (topics.notifications, "mlmm.notification.v1", b"on_call", notification),
        (topics.notification_outcomes, "mlmm.notification.outcome.v1", b"n1", outcome),
    ):
        headers = cloudevents_headers(kind, "i", "s", 1, JSON)
        producer.send(topic, json.dumps(event).encode(), key=key, headers=headers).get(10)
    producer.close()
    assert main(["incidents", "--json"]) == 0
    (found,) = lines(capsys)
    assert found["incident_id"] == "i1"
    assert found["told"][0]["state"] == "failed"
    assert main(["incidents"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "failed after 8 tries" in shown
    assert "\x1b[2J" not in shown
    assert main(["incidents", "--since", "soon"]) == 2
