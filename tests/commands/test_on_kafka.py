"""Commands on a real Kafka: forged, replayed, to partitions that were added, by hand while keys are changed."""

import gc
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmm.console.cli import main
from mlmm.events import Acked, Command, decode_events, header, new_id, partition_of
from mlmm.producers import TrainingRun, reader
from mlmm.producers.voice import now
from mlmm.runtime.connections import kafka_admin, kafka_consumer, kafka_producer
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.topics import create
from tests.commands.world import MODEL, NEW, OLD, SECRETS, STRANGE, Sent, written
from tests.services import unique
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the socket of a refused connection to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]
LONG = 120
"""Seconds: a deadline, not an expectation."""


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """Collect what kafka-python left open while its warnings are still expected."""
    yield
    gc.collect()


def key(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "secret": SECRETS[name].decode(), **fields}


def settings_for(kafka: str, *keys: dict[str, Any], prefix: str = "") -> Settings:
    values = {"kafka.bootstrap_servers": kafka, "topic_prefix": prefix or unique("commands"), "emitter.linger": 0.01}
    return load(env={}, arguments={**values, "kafka.partitions": 3, "alerting.keys": list(keys)})


class Answers:
    """Acknowledgements in the training topic, with their ids."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = kafka_consumer(settings, f"{settings.topic_prefix}.training", auto_offset_reset="earliest")
        self.found: list[tuple[str, Acked]] = []

    def to(self, command_id: str) -> list[tuple[str, Acked]]:
        for records in self._consumer.poll(200).values():
            for record in records:
                if header(record.headers, "ce_type") == b"mlmm.command.acked.v1":
                    (event,) = decode_events("mlmm.command.acked.v1", "application/json", record.value)
                    self.found.append(((header(record.headers, "ce_id") or b"").decode(), event))  # type: ignore[arg-type]
        return [each for each in self.found if each[1].command_id == command_id]

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def answers_of() -> Iterator[Callable[[Settings], Answers]]:
    made: list[Answers] = []

    def make(settings: Settings) -> Answers:
        made.append(Answers(settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def put(settings: Settings, *records: Sent) -> None:
    producer = kafka_producer(settings)
    for sent in records:
        producer.send(f"{settings.topic_prefix}.commands", sent.value, key=sent.key, headers=sent.headers).get(60)
    producer.close()


def order(run: TrainingRun, **fields: Any) -> Command:
    values = {
        "command_id": new_id(), "kind": "stop", "issued_at": now(), "expires_at": now() + 3600 * 10**6,
        "issued_by": "t", "run_id": run.run_id, "reason": "hopeless",
    }  # fmt: skip
    return Command(**{**values, **fields})


def test_among_forgeries_replays_and_rubbish_the_genuine_order_is_obeyed_and_heard(
    kafka: str, answers_of: Callable[[Settings], Answers], tmp_path: Path
) -> None:
    settings = settings_for(kafka, key(NEW, active=True), key(OLD, accepted_until="2020-01-01T00:00:00Z"))
    create(settings)
    answers = answers_of(settings)

    def make() -> TrainingRun:
        return TrainingRun(
            "churn", run_id="run-1", model=MODEL, settings=settings, on_error="raise", checkpoint_dir=tmp_path,
            save=lambda folder: (folder / "w").write_text("w") and None, load=lambda _: None,
        )  # fmt: skip

    with make() as first:
        first.log({"loss": 1.0}, step=0)
        genuine = order(first, attempt=first.attempt)
        expired, older = order(first, expires_at=now()), order(first, attempt="a0")
        retired, stranger = order(first), order(first)
        put(
            settings,
            written(genuine, None),
            written(genuine, signature=f"{NEW}:{'0' * 64}".encode()),
            written(genuine, value=b"\xff" * 1000),
            written(retired, OLD),
            written(stranger, STRANGE),
            written(order(first, run_id="run-2")),
            written(expired),
            written(older),
        )
        wait_until(lambda: answers.to(older.command_id), timeout=LONG, what="the answer to what is for another attempt")
        assert not first.should_stop
        put(settings, written(genuine), written(genuine), written(genuine, None))
        wait_until(lambda: first.should_stop, timeout=LONG, what="the order to be obeyed")
        wait_until(lambda: len(answers.to(genuine.command_id)) >= 5, timeout=LONG, what="the answers")
    assert first.outcome is not None
    assert (first.outcome.status, first.outcome.command_id) == ("stopped", genuine.command_id)
    id_ = genuine.command_id
    said = wait_until(
        lambda: found if (found := answers.to(id_))[-1][1].state == "completed" else None, timeout=LONG, what="the end"
    )
    proven = [(name, each.state) for name, each in said if not each.unproven]
    assert proven == [(f"{id_}:accepted", "accepted")] * 2 + [(f"{id_}:completed", "completed")]
    assert [(name, each.state) for name, each in said if each.unproven] == [(f"{id_}:unproven", "rejected")] * 3
    others = {each.command_id: (each.state, each.unproven, each.reason) for _, each in answers.found}
    assert others[expired.command_id][:2] == ("expired", False)
    assert others[older.command_id][:2] == ("rejected", False)
    assert others[retired.command_id][:2] == ("rejected", True)
    assert f"the retired key '{OLD}'" in others[retired.command_id][2]
    assert f"the unknown key '{STRANGE}'" in others[stranger.command_id][2]
    assert len(others) == 5

    with make() as second:  # it reads everything again, from a day ago on
        wait_until(
            lambda: answers.to(id_)[-1][1].attempt == second.attempt and len(answers.to(older.command_id)) == 2,
            timeout=LONG, what="the next attempt to refuse the old orders",
        )  # fmt: skip
        assert not second.should_stop
    assert second.completed


def partitions(settings: Settings, topic: str) -> list[Any]:
    admin = kafka_admin(settings)
    try:
        return list(admin.describe_topics([topic])[0]["partitions"])
    finally:
        admin.close()


def test_an_order_in_a_partition_that_was_added_is_seen_without_a_reconnect(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_METADATA_MS", 500)
    monkeypatch.setattr(reader, "_LOOK_EVERY", 0.2)
    settings = settings_for(kafka)
    create(settings)
    topic = f"{settings.topic_prefix}.commands"
    run_id = next(name for i in range(1000) if partition_of((name := f"run-{i}").encode(), 6) >= 3)
    with TrainingRun("churn", run_id=run_id, settings=settings, on_error="raise") as run:
        wait_until(lambda: run.stats().sent, timeout=LONG, what="the start to be delivered")
        first = order(run, kind="retrain")
        answers = Answers(settings)
        put(settings, written(first, None))
        wait_until(lambda: answers.to(first.command_id), timeout=LONG, what="an answer before")
        admin = kafka_admin(settings)
        admin.create_partitions({topic: 6})
        admin.close()
        wait_until(lambda: len(partitions(settings, topic)) == 6, timeout=LONG, what="six of them", every=0.2)
        put(settings, written(order(run), None))
        wait_until(lambda: run.should_stop, timeout=LONG, what="the order in the new partition")
        assert len(answers.to(first.command_id)) == 1, "nothing was read again"
        answers.close()


def test_a_key_is_changed_while_a_run_is_on_and_orders_by_hand_are_obeyed_at_every_step(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The steps of docs/commands.md: each with a run that began then, and `mlmm stop` as it is configured then."""
    prefix = unique("rotation")
    create(settings_for(kafka, prefix=prefix))
    old, given = (key(OLD, active=True),), (key(OLD, active=True), key(NEW))
    switched = (key(OLD, accepted_until="2199-01-01T00:00:00Z"), key(NEW, active=True))
    retired = (key(OLD, accepted_until="2020-01-01T00:00:00Z"), key(NEW, active=True))
    monkeypatch.chdir(tmp_path)

    def stop_by_hand(run_id: str, keys: tuple[dict[str, Any], ...], wait: float = LONG) -> tuple[int, list[Any]]:
        monkeypatch.setenv("MLMM_KAFKA__BOOTSTRAP_SERVERS", kafka)
        monkeypatch.setenv("MLMM__TOPIC_PREFIX", prefix)
        monkeypatch.setenv("MLMM_ALERTING__KEYS", json.dumps(keys))
        capsys.readouterr()
        code = main(["stop", run_id, "--reason", "by hand", "--wait", str(wait), "--json"])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def obeyed(trainer: tuple[dict[str, Any], ...], console: tuple[dict[str, Any], ...]) -> list[Any]:
        run_id = unique("run")
        began, gone = threading.Event(), threading.Event()

        def train() -> None:
            with TrainingRun("churn", run_id=run_id, settings=settings_for(kafka, *trainer, prefix=prefix)) as run:
                began.set()
                wait_until(lambda: run.should_stop or gone.is_set(), timeout=2 * LONG, what="an order")

        thread = threading.Thread(target=train)
        thread.start()
        try:
            assert began.wait(LONG)
            code, said = stop_by_hand(run_id, console)
        finally:
            gone.set()
            thread.join(LONG)
        assert (code == 0) == (said[-1]["state"] == "completed")
        return [(each["state"], each["unproven"], each["reason"]) for each in said]

    done = [("accepted", False, "by hand"), ("completed", False, "by hand")]
    assert obeyed(old, old) == done
    assert obeyed(given, old) == done, "trainers got it first"
    assert obeyed(old, given) == done, "alerting got it first"
    assert obeyed(given, switched) == done, "a run that began before the switch"
    assert obeyed(switched, given) == done, "an order that was signed just before the switch"
    assert obeyed(retired, switched) == done
    assert obeyed(old, switched) == [("rejected", True, f"signed with the unknown key '{NEW}'")], "it never got the key"
    assert obeyed(switched, ()) == [("rejected", True, "not signed")]
