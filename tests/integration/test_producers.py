"""Producers on a real Kafka: what they deliver, where it lies, and orders that come back."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmm.events import (
    Acked,
    Command,
    Event,
    Metrics,
    RunEnded,
    decode_events,
    encode_json,
    header,
    new_id,
    partition_of,
    sign,
)
from mlmm.producers import Monitor, TrainingRun
from mlmm.producers.link import KafkaLink
from mlmm.producers.voice import now
from mlmm.runtime.connections import kafka_consumer, kafka_producer
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.topics import create
from tests.services import KafkaServer, unique
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the socket of a refused connection to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

KEY = {"id": "k1", "secret": "0123456789abcdef", "active": True}


def settings_for(address: str, **more: Any) -> Settings:
    values = {"kafka.bootstrap_servers": address, "topic_prefix": unique("p"), "emitter.linger": 0.01, **more}
    return load(env={}, arguments=values)


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """Collect what kafka-python left open while its warnings are still expected."""
    yield
    gc.collect()


@pytest.fixture
def settings(kafka: str) -> Settings:
    made = settings_for(kafka)
    create(made)
    return made


@pytest.fixture
def log_of() -> Iterator[Callable[..., list[Any]]]:
    """Read a topic from its beginning, again at each call."""
    consumers: dict[str, Any] = {}
    records: dict[str, list[Any]] = {}

    def read(settings: Settings, logical: str) -> list[Any]:
        topic = f"{settings.topic_prefix}.{logical}"
        if topic not in consumers:
            consumers[topic] = kafka_consumer(settings, auto_offset_reset="earliest")
            consumers[topic].subscribe([topic])
            records[topic] = []
        for polled in consumers[topic].poll(200).values():
            records[topic] += polled
        return records[topic]

    yield read
    for consumer in consumers.values():
        consumer.close()


def events_in(records: list[Any]) -> list[Event]:
    found: list[Event] = []
    for record in records:
        type_, content = (header(record.headers, name) or b"" for name in ("ce_type", "content-type"))
        found += decode_events(type_.decode(), content.decode(), record.value)
    return found


def ids_in(records: list[Any]) -> list[str]:
    return [event.prediction_id for event in events_in(records)]  # type: ignore[attr-defined]


def test_predictions_lie_where_murmur2_says_in_order(settings: Settings, log_of: Any) -> None:
    models = [f"model-{i}" for i in range(12)]
    monitors = [Monitor(model, settings=settings, on_error="raise") for model in models]
    for i in range(300):
        for monitor in monitors:
            monitor.log_prediction(str(i), {"a": float(i), "country": "DE"}, i % 2)
    assert monitors[0].flush(30)
    records = wait_until(
        lambda: found if len(events_in(found := log_of(settings, "serving"))) == 3600 else None, timeout=20, what="all"
    )
    for record in records:
        assert record.partition == partition_of(record.key, settings.kafka.partitions)
    for model in models:
        mine = [event for event in events_in(records) if event.model == model]
        assert [event.prediction_id for event in mine] == [str(i) for i in range(300)]


def test_the_client_keeps_the_private_names_that_we_rely_on(settings: Settings) -> None:
    """Hold kafka-python's private surface: its handler at exit, its sender's forced end, its closed flag."""
    link = KafkaLink(settings)
    producer = link._producer
    assert producer._cleanup is None
    assert producer._closed is False
    assert callable(producer._sender.force_close)
    link.close(5)
    wait_until(lambda: not producer._sender.is_alive(), timeout=5, what="the sender's thread to end")


def test_closing_with_records_that_can_not_leave_ends_the_client(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path)
    server.start()
    settings = settings_for(server.address)
    create(settings)
    link = KafkaLink(settings)
    results: list[Any] = []
    link.send(f"{settings.topic_prefix}.serving", b"k", b"v", [], results.append)
    wait_until(lambda: results, timeout=20, what="the first acknowledgement")
    assert results == [None]
    server.kill()
    link.send(f"{settings.topic_prefix}.serving", b"k", b"v", [], results.append)
    link.close(0.2)
    wait_until(lambda: not link._producer._sender.is_alive(), timeout=10, what="the sender's thread to end")
    wait_until(lambda: len(results) == 2, timeout=10, what="the record to fail")
    assert results[1] is not None


@pytest.mark.slow
def test_nothing_is_lost_while_the_broker_is_away(tmp_path: Path, log_of: Any) -> None:
    """Absent at the start and killed midway while eight threads log: each call returns, every event is counted."""
    server = KafkaServer(tmp_path)
    settings = settings_for(server.address, **{"emitter.max_events": 200_000})
    monitor = Monitor("fraud", settings=settings, on_error="raise")

    def work(name: int, count: int) -> None:
        for i in range(count):
            monitor.log_prediction(f"{name}-{i}", {"a": float(i), "b": 1.0}, 1)

    def all_at_once(first: int, count: int) -> None:
        threads = [threading.Thread(target=work, args=(first + name, count)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    all_at_once(0, 2000)
    wait_until(lambda: monitor.stats().last_error, timeout=20, what="the missing broker to be noticed")
    server.start()
    create(settings)
    wait_until(lambda: monitor.stats().sent > 0, timeout=60, what="delivery to begin")
    server.kill()
    all_at_once(8, 2000)
    server.start()
    assert monitor.flush(120), monitor.stats()
    stats = monitor.stats()
    assert (stats.accepted, stats.sent, stats.dropped) == (32_000, 32_000, {})
    ids = wait_until(
        lambda: found if len(set(found := ids_in(log_of(settings, "serving")))) == 32_000 else None,
        timeout=60, what="all ids in the topic",
    )  # fmt: skip
    for name in range(16):
        first_seen = list(dict.fromkeys(each for each in ids if each.startswith(f"{name}-")))
        assert first_seen == [f"{name}-{i}" for i in range(2000)]
    server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("ever_there", [False, True], ids=["absent from the start", "gone later"])
def test_waiting_for_a_broker_opens_no_files(tmp_path: Path, ever_there: bool) -> None:
    """kafka-python alone loses a file descriptor a second here, until the garbage collector's next full round."""
    server = KafkaServer(tmp_path)
    if ever_there:
        server.start()
        create(settings_for(server.address, topic_prefix="p"))
    code = f"""
    import gc, os, sys, time, signal
    gc.disable()
    from mlmm.producers import Monitor
    from mlmm.runtime.settings import load
    from tests.waiting import wait_until
    monitor = Monitor("fraud", settings=load(env={{}}, arguments={{
        "kafka.bootstrap_servers": "{server.address}", "topic_prefix": "p", "emitter.exit_timeout": 0.1}}))
    monitor.log_prediction("a", {{"a": 1.0}}, 1)
    if {ever_there}:
        assert monitor.flush(30)
        os.kill({server.process.pid if server.process else 0}, signal.SIGKILL)
        monitor.log_prediction("b", {{"a": 1.0}}, 1)
    wait_until(lambda: monitor.stats().last_error, timeout=30, what="the trouble to be told")
    before, until, most = len(os.listdir("/proc/self/fd")), time.monotonic() + 8, 0
    def watched():
        global most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return time.monotonic() > until
    wait_until(watched, timeout=20, what="eight seconds")
    assert most <= before + 4, (before, most)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    server.kill()


def test_an_emitter_whose_topic_comes_late_delivers(kafka: str, log_of: Any) -> None:
    settings = settings_for(kafka)
    monitor = Monitor("fraud", settings=settings, on_error="raise")
    monitor.log_prediction("a", {"x": 1.0}, 1)
    wait_until(lambda: "topic" in (monitor.stats().last_error or ""), timeout=20, what="the missing topic to be told")
    create(settings)
    assert monitor.flush(30), monitor.stats()
    assert wait_until(lambda: ids_in(log_of(settings, "serving")), timeout=20, what="the event") == ["a"]


@pytest.mark.parametrize("used_before", [True, False])
def test_preforked_workers_each_deliver_their_own(settings: Settings, log_of: Any, used_before: bool) -> None:
    code = f"""
    import os, sys
    from mlmm.producers import Monitor
    from mlmm.runtime.settings import load
    monitor = Monitor("fraud", on_error="raise", settings=load(env={{}}, arguments={{
        "kafka.bootstrap_servers": {settings.kafka.bootstrap_servers!r}, "topic_prefix": {settings.topic_prefix!r},
        "emitter.exit_timeout": 60}}))
    if {used_before}:
        monitor.log_prediction("parent", {{"a": 1.0}}, 1)
        assert monitor.flush(20)
    children = []
    for worker in range(4):
        pid = os.fork()
        if pid == 0:
            for i in range(50):
                monitor.log_prediction(f"{{worker}}-{{i}}", {{"a": 1.0}}, 1)
            sys.exit(0)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    monitor.log_prediction("parent again", {{"a": 1.0}}, 1)
    sys.exit(max(codes))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = {f"{worker}-{i}" for worker in range(4) for i in range(50)} | {"parent again"}
    expected |= {"parent"} if used_before else set()
    ids = wait_until(
        lambda: found if len(found := ids_in(log_of(settings, "serving"))) >= len(expected) else None,
        timeout=20, what="all",
    )  # fmt: skip
    assert sorted(ids) == sorted(expected)


def send(settings: Settings, command: Command, *, secret: str | None = None) -> None:
    key = (command.run_id or command.model or "").encode()
    value = encode_json(command)
    headers = [("ce_type", b"mlmm.command.v1"), ("ce_id", command.command_id.encode())]
    if secret is not None:
        signature = sign("k1", secret.encode(), key, "mlmm.command.v1", command.command_id, value)
        headers.append(("mlmm_signature", signature))
    producer = kafka_producer(settings)
    producer.send(f"{settings.topic_prefix}.commands", key=key, value=value, headers=headers).get(10)
    producer.close()


def order(run: TrainingRun, **fields: Any) -> Command:
    values = {"command_id": new_id(), "kind": "stop", "issued_at": now(), "expires_at": now() + 10**8, "issued_by": "t"}
    return Command(**{**values, "run_id": run.run_id, **fields})


def test_a_run_obeys_a_signed_order_and_the_next_attempt_goes_on(kafka: str, log_of: Any, tmp_path: Path) -> None:
    settings = settings_for(kafka, **{"alerting.keys": [KEY]})
    create(settings)
    state: dict[str, int] = {}

    def train(run: TrainingRun, steps: int, at: dict[int, Callable[[], None]]) -> None:
        for step in run.steps(steps):
            state["step"] = step
            run.log({"loss": 1.0 / (step + 1)}, step=step)
            if step in at:
                at[step]()

    def make() -> TrainingRun:
        return TrainingRun(
            "churn", run_id="churn-1", settings=settings, checkpoint_dir=tmp_path, on_error="raise",
            heartbeat_every=0.5,
            save=lambda folder: (folder / "step").write_text(str(state["step"])) and None,
            load=lambda folder: state.update(step=int((folder / "step").read_text())),
        )  # fmt: skip

    with make() as first:
        wanted = order(first, attempt=first.attempt, reason="hopeless")

        def forge_then_order() -> None:
            send(settings, order(first, command_id="forged"))
            wait_until(lambda: acks("forged"), timeout=20, what="the unsigned order to be refused")
            send(settings, wanted, secret=KEY["secret"])  # type: ignore[arg-type]
            wait_until(lambda: first.should_stop, timeout=20, what="the order to be obeyed")

        def acks(command_id: str) -> list[Acked]:
            found = events_in(log_of(settings, "training"))
            return [event for event in found if isinstance(event, Acked) and event.command_id == command_id]

        train(first, 1000, {5: forge_then_order})
    assert first.outcome is not None
    assert (first.outcome.status, first.outcome.command_id, first.outcome.step) == ("stopped", wanted.command_id, 5)
    wait_until(lambda: len(acks(wanted.command_id)) == 2, timeout=20, what="both answers")
    assert [(each.state, each.step) for each in acks(wanted.command_id)] == [("accepted", None), ("completed", 5)]
    assert (acks("forged")[0].state, acks("forged")[0].reason) == ("rejected", "not signed")
    found = log_of(settings, "training")
    kinds = [header(record.headers, "ce_type").decode().split(".", 1)[1] for record in found]
    assert kinds[0] == "run.started.v1"
    assert kinds[-3:] == ["run.checkpoint.v1", "command.acked.v1", "run.ended.v1"]
    assert {record.key for record in found} == {b"churn-1"}
    assert header(found[-2].headers, "ce_id") == f"{wanted.command_id}:completed".encode()

    with make() as second:
        assert state["step"] == 5
        # The second attempt reads the old orders from a day ago on: both must be refused before it goes on.
        wait_until(
            lambda: [each.state for each in acks(wanted.command_id)] == ["accepted", "completed", "rejected"],
            timeout=20, what="the old order to be refused",
        )  # fmt: skip
        train(second, 10, {})
    assert second.completed
    logged = [event.step for event in events_in(log_of(settings, "training")) if isinstance(event, Metrics)]
    assert logged == list(range(10))


def test_an_order_that_came_while_the_trainer_started_is_seen(settings: Settings, log_of: Any) -> None:
    run = TrainingRun("churn", settings=settings, model="fraud", on_error="raise")
    send(settings, order(run, run_id=None, model="fraud", issued_at=now() + 10**7))
    with run:
        wait_until(lambda: run.should_stop, timeout=20, what="the order to be obeyed")
    assert run.outcome is not None
    assert run.outcome.status == "stopped"


@pytest.mark.slow
def test_orders_are_read_again_soon_after_the_broker_is_back(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path)
    server.start()
    settings = settings_for(server.address)
    create(settings)
    with TrainingRun("churn", settings=settings, on_error="raise") as run:
        wait_until(lambda: run.stats().sent, timeout=20, what="the start to be delivered")
        server.kill()
        server.start()
        send(settings, order(run))
        wait_until(lambda: run.should_stop, timeout=15, what="the order after the restart")
    server.kill()


def test_a_run_without_a_broker_trains_and_ends_in_time(tmp_path: Path) -> None:
    settings = settings_for("127.0.0.1:1", **{"emitter.exit_timeout": 0.5})
    with TrainingRun("churn", settings=settings, on_error="raise") as run:
        assert list(run.steps(100)) == list(range(100))
    assert run.completed


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_trainer_that_is_told_to_go_leaves_a_checkpoint(
    settings: Settings, log_of: Any, tmp_path: Path, number: str
) -> None:
    code = f"""
    import os, signal, sys
    from pathlib import Path
    from mlmm.producers import TrainingRun
    from mlmm.runtime.settings import load
    settings = load(env={{}}, arguments={{
        "kafka.bootstrap_servers": {settings.kafka.bootstrap_servers!r}, "topic_prefix": {settings.topic_prefix!r}}})
    save = lambda folder: (folder / "x").write_text("x") and None
    with TrainingRun("churn", save=save, checkpoint_dir={str(tmp_path)!r}, settings=settings) as run:
        for step in run.steps(10):
            if step == 3:
                os.kill(os.getpid(), signal.{number})
    sys.exit(0 if run.outcome.status == "interrupted" and not run.completed else 1)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ended = wait_until(
        lambda: [event for event in events_in(log_of(settings, "training")) if isinstance(event, RunEnded)],
        timeout=20, what="the end in the topic",
    )  # fmt: skip
    assert (ended[0].status, ended[0].resumable_from) == ("interrupted", 3)
