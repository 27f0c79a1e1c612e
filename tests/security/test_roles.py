"""Every role with exactly the rights of docs/security.md, on services that deny all else: the loop works, and no more.

The same run holds two more promises: nothing that it prints, writes or passes on shows a secret, and mail goes over TLS
with a logon. Workers and notifier are processes under their supervisors, as in production.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlmm.console.cli import main
from mlmm.events import JSON, Topics, cloudevents_headers
from mlmm.producers import Monitor, TrainingRun, not_finite
from mlmm.runtime.connections import kafka_consumer, kafka_producer, redis_client
from mlmm.runtime.rights import ROLES, page
from mlmm.runtime.settings import Settings, load
from tests.alerting.mailbox import PASSWORD, USER, Mailbox, smtp_server
from tests.security.conftest import Secured
from tests.security.granting import PAGE, grant
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

SIGNING = "hush-signing-key-Zq4-0123456789"
REDIS = {role.name: f"hush-redis-{role.name}-Kp2" for role in ROLES if role.redis}
TOML = """
[kafka]
partitions = 1
[smtp]
host = "localhost"
starttls = true
username = "{user}"
[[rules]]
name = "not finite"
run = "*"
trigger = "not_finite"
command = {{ kind = "stop" }}
notify = ["on_call"]
[notifiers.on_call]
kind = "email"
to = ["on-call@example.org"]
[[alerting.keys]]
id = "k1"
secret_file = "signing"
active = true
[serving]
windows = ["1s"]
allowed_lateness = "100ms"
idle_after = "1s"
"""


class House:
    """A deployment of which each process has the logon of its role, and all secrets stand in files."""

    def __init__(self, secured: Secured, folder: Path, mail: int) -> None:
        self.secured, self.folder, self.mail = secured, folder, mail
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: list[str] = []
        """Command lines and environments of all processes."""
        (folder / "mlmm.toml").write_text(TOML.format(user=USER))
        self.keys = {"signing": SIGNING, "smtp": PASSWORD}
        """Files that hold secrets."""
        self.keys |= {f"redis-{role}": password for role, password in REDIS.items()}
        self.keys |= {f"kafka-{user}": password for user, password in secured.kafka.users.items()}
        for name, secret in self.keys.items():
            (folder / name).write_text(f"{secret}\n")

    @property
    def secrets(self) -> list[str]:
        return list(self.keys.values())

    def environment(self, role: str) -> dict[str, str]:
        values = self.secured.values(role)
        del values["kafka.sasl_password"]
        values["kafka.sasl_password_file"] = str(self.folder / f"kafka-{role}")
        values |= {"smtp.port": self.mail, "smtp.ssl_cafile": self.secured.authority.certificate}
        values["smtp.password_file"] = self.folder / "smtp"
        if role in REDIS:
            values |= {"redis.username": role, "redis.password_file": self.folder / f"redis-{role}"}
        return {f"MLMM_{key.replace('.', '__').upper()}": str(value) for key, value in values.items()}

    def settings(self, role: str) -> Settings:
        return load(self.folder / "mlmm.toml", self.environment(role))

    def run(self, role: str, *command: str) -> tuple[int, str]:
        """Run the command line to its end as a role; return its exit code and all that it said."""
        with (self.folder / f"{role}-{command[0]}.out").open("ab") as out:
            done = subprocess.run(
                self._line(*command), stdout=out, stderr=out, check=False, timeout=180, **self._in(role)
            )
        return done.returncode, Path(out.name).read_text()

    def start(self, role: str, *command: str) -> None:
        with (self.folder / f"{role}.log").open("ab") as log:
            self.processes[role] = subprocess.Popen(self._line(*command), stdout=log, stderr=log, **self._in(role))

    def look(self) -> None:
        """Note the command lines and environments of all processes."""
        for process in self.processes.values():
            for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    self.seen.append(f"{each.cmdline()} {each.environ()}")

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text()

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(120)

    def _line(self, *command: str) -> list[str]:
        return [sys.executable, "-m", "mlmm.console", *command]

    def _in(self, role: str) -> dict[str, Any]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("MLMM_")}
        return {"env": {**others, **self.environment(role)}, "cwd": self.folder}


@pytest.fixture(scope="module")
def mailbox(secured: Secured) -> Iterator[tuple[Mailbox, int]]:
    with smtp_server(tuple(secured.authority.sign("mail", "localhost"))) as found:
        yield found


@pytest.fixture(scope="module")
def house(secured: Secured, mailbox: tuple[Mailbox, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a deployment that runs."""
    grant(PAGE.read_text(), secured.kafka, secured.redis, REDIS)
    house = House(secured, tmp_path_factory.mktemp("house"), mailbox[1])
    code, said = house.run("operator", "topics", "create")
    assert code == 0, said
    house.start("worker", "worker", "--workers", "2", "--name", "w")
    house.start("alerting", "alerting", "--only", "rules", "--name", "a")
    house.start("notifier", "alerting", "--only", "notifier", "--name", "n")
    try:
        yield house
    finally:
        house.stop()


def test_the_page_holds_the_commands_that_are_printed():
    assert page() in PAGE.read_text(), "python -c 'from mlmm.runtime.rights import page; print(page())'"


def test_the_whole_loop_works_with_exactly_these_rights(house: House, mailbox: tuple[Mailbox, int]):
    """Predictions become a report; a NaN becomes an order that the trainer obeys, an incident and a mail."""
    monitor = Monitor("fraud", settings=house.settings("serving"))
    ids = [f"p{i}" for i in range(50)]
    for each in ids:
        monitor.log_prediction(each, {"amount": 1.0}, output=1.0)
    monitor.log_labels(ids, [1.0] * len(ids))
    assert monitor.flush(60), monitor.stats()
    pause = threading.Event()
    arguments = {"triggers": [not_finite()], "checkpoint_dir": house.folder / "checkpoints"}
    with TrainingRun(
        "nan", run_id="doomed", settings=house.settings("trainer"), save=save, load=lambda _: None, **arguments
    ) as run:
        for step in run.steps(60_000):
            run.log({"loss": float("nan") if step == 5 else 1.0}, step=step)
            pause.wait(0.005)
    assert run.outcome is not None
    assert run.outcome.status == "stopped", (run.outcome, house.log("worker")[-3000:], house.log("alerting")[-3000:])
    box, _ = mailbox
    wait_until(lambda: box.mails, timeout=120, what=f"a mail in {house.folder}")
    assert box.logons == [True] * len(box.mails)
    wait_until(
        lambda: types(house, "findings") >= {"mlmm.report.v1", "mlmm.run.state.v1"}, timeout=120, what="findings"
    )
    wait_until(lambda: types(house, "notification-outcomes"), timeout=120, what="an outcome")
    house.look()


@pytest.fixture(scope="module")
def refused_before(house: House) -> list[Any]:
    """What Redis refused to processes of ours until now, that is before tests try what they may not do."""
    import redis

    client = redis.Redis.from_url(house.secured.redis.url)
    log = client.acl_log()
    client.close()
    return [entry for entry in log if entry["username"] in REDIS]


def save(folder: Path) -> None:
    (folder / "model").write_text("weights")


def types(house: House, logical: str) -> set[str]:
    """Return the types of events in a topic, read as the console."""
    from kafka import TopicPartition

    consumer = kafka_consumer(house.settings("console"), enable_auto_commit=False)
    try:
        place = TopicPartition(Topics().full(logical), 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        found: set[str] = set()
        while consumer.position(place) < end:
            for records in consumer.poll(timeout_ms=500).values():
                found |= {dict(record.headers)["ce_type"].decode() for record in records}
        return found
    finally:
        consumer.close()


def test_redis_refused_no_process_of_ours_while_the_loop_ran(house: House, refused_before: list[Any]):
    """The rights are enough: a script that lacked one would have been refused half way."""
    assert [entry for entry in refused_before if entry["object"] != "client|setinfo"] == []
    assert all(process.poll() is None for process in house.processes.values()), house.log("worker")


WRITES = {
    "serving": {"serving"},
    "trainer": {"training"},
    "worker": {"serving", "training", "findings", "dead-letters"},
    "alerting": {"findings", "incidents", "notifications", "commands", "dead-letters"},
    "notifier": {"notification-outcomes"},
    "console": set(),
    "operator": {"commands"},
    "nobody": set(),
}


@pytest.mark.parametrize("role", WRITES)
def test_a_role_writes_what_it_must_and_nothing_else(house: House, role: str):
    """A serving process can write neither findings nor commands; only workers and rules can write findings."""
    from kafka.errors import TopicAuthorizationFailedError

    # An idempotent producer would give up whatever follows its first refusal.
    producer = kafka_producer(house.settings(role), acks="all", enable_idempotence=False, max_block_ms=60_000)
    written = set()
    try:
        for spec in Topics.ALL:
            headers = cloudevents_headers("mlmm.test.v1", "x", "test", 0, JSON)
            try:
                producer.send(Topics().full(spec.logical), b"{}", key=b"k", headers=headers).get(timeout=60)
            except TopicAuthorizationFailedError:
                continue
            written.add(spec.logical)
    finally:
        producer.close()
    assert written == WRITES[role]


READS = {
    "serving": set(),
    "trainer": {"commands"},
    "worker": {"serving", "training"},
    "alerting": {"findings"},
    "notifier": {"notifications", "notification-outcomes"},
    "console": {spec.logical for spec in Topics.ALL},
    "operator": {spec.logical for spec in Topics.ALL},
    "nobody": set(),
}


@pytest.fixture(scope="module")
def filled(house: House) -> None:
    """Let a record stand in each topic."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=house.secured.kafka.address)
    for spec in Topics.ALL:
        producer.send(Topics().full(spec.logical), b"{}", key=b"k").get(timeout=60)
    producer.close()


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("role", READS)
def test_a_role_reads_what_it_must_and_nothing_else(house: House, role: str):
    """A trainer can't read what is served, nor a serving process what is trained."""
    from kafka import TopicPartition
    from kafka.errors import TopicAuthorizationFailedError

    consumer = kafka_consumer(house.settings(role), enable_auto_commit=False)
    readable = set()
    try:
        for spec in Topics.ALL:
            place = TopicPartition(Topics().full(spec.logical), 0)
            if not consumer.partitions_for_topic(place.topic):
                continue  # may not even be seen
            consumer.assign([place])
            consumer.seek(place, 0)
            with contextlib.suppress(TopicAuthorizationFailedError):
                wait_until(lambda: consumer.poll(timeout_ms=500), timeout=60, what=f"{place} to be read or refused")
                readable.add(spec.logical)
    finally:
        consumer.close()
    assert readable == READS[role]


THEIRS = {"worker": "{mlmm:serving:0}:meta", "alerting": "{mlmm:alerting:0}:meta"}
DATA = ("HMGET", "HSET", "HDEL")


def may(role: str, key: str) -> tuple[str, ...]:
    """Return which of `DATA` a role may do to a key."""
    if role == "operator":
        return DATA
    return DATA if THEIRS.get(role) == key else ()


@pytest.mark.parametrize("role", REDIS)
def test_redis_gives_a_role_its_own_keys_and_commands_and_nothing_else(house: House, role: str):
    """A worker can't touch the rules' state, and nobody flushes, lists, configures, or runs a script of his own."""
    from redis.exceptions import NoPermissionError

    client = redis_client(house.settings(role))
    try:
        for key in THEIRS.values():
            for word in DATA:
                command = (word, key, "x", "1") if word == "HSET" else (word, key, "x")
                with contextlib.nullcontext() if word in may(role, key) else pytest.raises(NoPermissionError):
                    client.execute_command(*command)
        for command in (
            "FLUSHALL",
            "KEYS *",
            "CONFIG GET *",
            "GET other",
            "EVAL x 0",
            "ACL LIST",
            "SHUTDOWN",
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())
    finally:
        client.close()


def test_nothing_shows_a_secret(house: House, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Not logs, outputs, files of ours, command lines, environments, settings that print themselves, nor failures."""
    house.look()
    for name, value in house.environment("worker").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLMM_CONFIG", str(house.folder / "mlmm.toml"))
    monkeypatch.setenv("MLMM_KAFKA__CONNECT_TIMEOUT", "4s")
    stolen, key = REDIS["alerting"], {"id": "k1", "secret": SIGNING, "activ": 1}
    for variable, value, code in (
        ("MLMM_KAFKA__SASL_PASSWORD_FILE", str(house.folder / "kafka-nobody"), 3),
        ("MLMM_REDIS__URL", f"rediss://worker:{stolen}@{house.secured.redis.secure}/0", 1),
        ("MLMM_REDIS__URL", f"rediss://worker:{stolen}@{house.secured.redis.secure}/no", 2),
        ("MLMM_REDIS__PASSWORD_FILE", str(house.folder / "redis-alerting"), 3),
        ("MLMM_REDIS__PASSWORD", stolen, 2),
        ("MLMM_SMTP__PASSWORD_FILE", str(house.folder / "signing"), 1),
        ("MLMM_ALERTING__KEYS", json.dumps([key]), 2),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            main(["config", "show"])
            main(["config", "show", "--json"])
            assert main(["doctor"]) == code, variable
    printed = capfd.readouterr()
    assert "********" in printed.out
    assert "refused the log" in printed.out
    ours = [file for file in house.folder.rglob("*") if file.is_file() and file.name not in house.keys]
    assert {"worker.log", "alerting.log", "notifier.log", "mlmm.toml"} <= {file.name for file in ours}
    assert len(house.seen) >= 7  # three supervisors and the four processes below them
    for text in (printed.out, printed.err, *house.seen, *(file.read_text(errors="replace") for file in ours)):
        for secret in house.secrets:
            assert secret not in text, text[max(0, text.find(secret) - 300) : text.find(secret)]
