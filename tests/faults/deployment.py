"""A deployment on real services: its settings, its supervised processes, and how to disturb them."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import redis
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from mlmm.events import Topics
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.store import read_cells
from tests.waiting import wait_until

PARTITIONS = 3
QUIET_SECONDS = 120.0
"""For which a deployment that is left alone may take to read what it was sent."""
INPUTS = {"serving": "serving", "training": "training", "alerting": "findings"}
"""Processor → logical input topic."""

TOML = """
deployment = "{deployment}"
topic_prefix = "{name}"
[kafka]
bootstrap_servers = "{kafka}"
partitions = {partitions}
session_timeout = "6s"
heartbeat_interval = "1s"
[redis]
url = "{redis}"
[worker]
tick_interval = "{tick}"
[serving]
windows = ["2s"]
allowed_lateness = "1s"
idle_after = "3s"
label_horizon = "20s"
last = 200
[serving.detectors]
baseline = 300
[alerting]
# Longer than the test: these deadlines are in the clock of the findings' causes, and a finding that a killed worker
# holds back may come after one of them in the log. Their own tests hold them.
ack_timeout = "1h"
resolve_after = "1h"
[[rules]]
name = "accuracy fell"
model = "*"
metric = "accuracy"
below = 0.9
window = "2s"
min_count = 50
hold = "1 of 2"
notify = ["on_call"]
[[rules]]
name = "drift"
model = "*"
drift = "*"
notify = ["on_call"]
[[rules]]
name = "hopeless"
run = "*"
trigger = "falling"
notify = ["on_call"]
command = {{ kind = "stop" }}
[[rules]]
name = "not finite"
run = "*"
trigger = "not_finite"
notify = ["on_call"]
[notifiers.on_call]
kind = "email"
to = ["nobody@example.org"]
"""


class Deployment:
    """Workers and alerting under their supervisors.

    Parameters
    ----------
    deployment : str
        Its name. Commands name the deployment that issued them, so runs that are to be compared share it and have a
        Redis each.
    name : str
        Prefix of its topics.
    folder : Path
        Where settings and logs go.
    kafka, redis_url : str
        Where its processes find Kafka and Redis.
    tick : str
        Interval of ticks.
    kafka_aside, redis_aside : str, optional
        Where the test itself finds them, whatever stands before those.
    more : Mapping, optional
        Further settings, as environment variables (``MLMM_REDIS__GIVE_UP_AFTER``).
    """

    def __init__(
        self,
        deployment: str,
        name: str,
        folder: Path,
        *,
        kafka: str,
        redis_url: str,
        tick: str = "500ms",
        kafka_aside: str | None = None,
        redis_aside: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.deployment, self.name, self.more = deployment, name, dict(more or {})
        self.kafka, self.redis_url = kafka_aside or kafka, redis_aside or redis_url
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "mlmm.toml"
        self.config.write_text(
            TOML.format(
                deployment=deployment, name=name, kafka=kafka, redis=redis_url, tick=tick, partitions=PARTITIONS
            )
        )
        self.supervisors: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def settings(self) -> Settings:
        """Settings as its processes have them."""
        return load(self.config, env=self.more)

    def start(self) -> None:
        """Start two workers and the rules."""
        for command in (["worker", "--workers", "2"], ["alerting"]):
            with (self.folder / f"{command[0]}.log").open("ab") as log:
                line = [sys.executable, "-m", "mlmm.console", *command, "--config", str(self.config)]
                environment = {k: v for k, v in os.environ.items() if not k.startswith("MLMM_")} | self.more
                self.supervisors[command[0]] = subprocess.Popen(line, stdout=log, stderr=log, env=environment)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run processors (not their supervisors, not the notifier)."""
        found = []
        for supervisor in self.supervisors.values():
            for child in psutil.Process(supervisor.pid).children():
                try:
                    line = " ".join(child.cmdline())
                except psutil.Error:
                    continue
                if "--slot" in line and not ("alerting" in line and "--slot 1" in line):
                    found.append(child)
        return found

    def shared_out(self) -> bool:
        """Whether each of the two workers and the rules have partitions."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        groups = [f"{self.deployment}.{name}" for name in ("processors", "alerting")]
        try:
            found = admin.describe_groups(groups)
        except KafkaError:  # the topic of the groups' offsets is made with the first group
            return False
        finally:
            admin.close()
        have = [
            sum(bool(member["member_assignment"]["assigned_partitions"]) for member in found[group]["members"])
            for group in groups
            if found[group]["group_state"] == "Stable"
        ]
        return have == [2, 1]

    def kill_one(self, rng: random.Random) -> str:
        """SIGKILL one of them; return which."""
        process = rng.choice(wait_until(self.processes, timeout=60, what="a process to kill"))
        line = " ".join(process.cmdline()[-6:])
        process.kill()
        return line

    def freeze_one(self, rng: random.Random) -> psutil.Process:
        """SIGSTOP one worker."""
        workers = wait_until(
            lambda: [p for p in self.processes() if "worker" in p.cmdline()], timeout=60, what="a worker to freeze"
        )
        process = rng.choice(workers)
        process.suspend()
        return process

    def check(self) -> None:
        """Fail where a supervisor has given up."""
        for supervisor in self.supervisors.values():
            assert supervisor.poll() is None, f"a supervisor of {self.name} ended: {self.log()}"

    def log(self) -> str:
        """Return the last lines of the logs."""
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in self.folder.glob("*.log"))

    def stop(self, *names: str) -> None:
        """End it, or the parts that are named (``worker``, ``alerting``), in good order."""
        ending = [self.supervisors.pop(name) for name in names or tuple(self.supervisors)]
        for supervisor in ending:
            supervisor.send_signal(signal.SIGTERM)
        for supervisor in ending:
            try:
                supervisor.wait(60)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()

    # --- what it came to ---------------------------------------------------------------------------------------------

    def offsets(self) -> dict[tuple[str, int], int]:
        """Return (processor, partition) → next offset, as committed."""
        client = redis.Redis.from_url(self.redis_url)
        try:
            return {
                (processor, partition): int(
                    client.hget(f"{{{self.deployment}:{processor}:{partition}}}:meta", "offset") or 0
                )
                for processor in INPUTS
                for partition in range(PARTITIONS)
            }
        except redis.RedisError:
            return {}

    def outbox(self) -> int:
        """Return how many outputs were committed and not sent yet."""
        client = redis.Redis.from_url(self.redis_url)
        keys = [f"{{{self.deployment}:{processor}:{p}}}:outbox" for processor in INPUTS for p in range(PARTITIONS)]
        return sum(int(client.llen(key)) for key in keys)

    def state(self) -> dict[tuple[str, int], tuple[int | None, dict[bytes, bytes]]]:
        """Return (processor, partition) → offset and cells."""
        client = redis.Redis.from_url(self.redis_url)
        return {(n, p): read_cells(client, self.deployment, n, p) for n in INPUTS for p in range(PARTITIONS)}

    def topic(self, logical: str) -> str:
        """Return a topic's full name."""
        return Topics(self.name).full(logical)


def ends(deployment: Deployment, *processors: str) -> dict[tuple[str, int], int]:
    """Return (processor, partition) → end of its input log."""
    consumer = KafkaConsumer(bootstrap_servers=deployment.kafka)
    try:
        return {
            (processor, place.partition): offset
            for processor in processors
            for place, offset in consumer.end_offsets(
                [TopicPartition(deployment.topic(INPUTS[processor]), p) for p in range(PARTITIONS)]
            ).items()
        }
    finally:
        consumer.close()


def finish(deployment: Deployment) -> None:
    """Wait until all input is read, end the workers, wait until all findings are judged, end the rest."""

    def caught_up(wanted: dict[tuple[str, int], int]) -> None:
        def reached() -> bool:
            deployment.check()
            committed = deployment.offsets()
            return bool(committed) and all(committed[place] >= offset for place, offset in wanted.items())

        what = f"{deployment.name} to read {sorted({name for name, _ in wanted})}"
        wait_until(reached, timeout=QUIET_SECONDS, what=what, every=0.2)
        wait_until(lambda: not deployment.outbox(), timeout=QUIET_SECONDS, what="all output to be sent", every=0.2)

    caught_up(ends(deployment, "serving", "training"))
    deployment.stop("worker")
    caught_up(ends(deployment, "alerting"))
    deployment.stop()
