"""A deployment on real services: its settings, its supervised processes, and how to disturb them."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import redis

from mlmm.events import Topics
from mlmm.runtime.processor import Record
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.store import read_cells
from tests.waiting import wait_until

PARTITIONS = 3
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

    ``name`` is the topics' prefix. Commands name the deployment that issued them, so runs that are to be compared share
    ``deployment`` and have a Redis each.
    """

    def __init__(
        self, deployment: str, name: str, folder: Path, *, kafka: str, redis_url: str, tick: str = "500ms"
    ) -> None:
        self.deployment, self.name, self.kafka, self.redis_url = deployment, name, kafka, redis_url
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
        return load(self.config, env={})

    def start(self) -> None:
        """Start two workers and the rules."""
        for command in (["worker", "--workers", "2"], ["alerting"]):
            with (self.folder / f"{command[0]}.log").open("ab") as log:
                line = [sys.executable, "-m", "mlmm.console", *command, "--config", str(self.config)]
                environment = {k: v for k, v in os.environ.items() if not k.startswith("MLMM_")}
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


def read_topic(kafka: str, topic: str) -> dict[int, list[Record]]:
    """Read a topic from its beginning to its end as it is now; partition → records."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=kafka, max_partition_fetch_bytes=16 << 20)
    try:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        read: dict[int, list[Record]] = {p.partition: [] for p in partitions}
        while any(consumer.position(p) < ends[p] for p in partitions):
            for place, records in consumer.poll(timeout_ms=500).items():
                read[place.partition] += [
                    Record(r.offset, r.timestamp * 1000, r.key or b"", r.value or b"", r.headers) for r in records
                ]
        return {p.partition: [r for r in read[p.partition] if r.offset < ends[p]] for p in partitions}
    finally:
        consumer.close()


def deduped(records: Iterable[Record], last: dict[bytes, bytes]) -> list[Record]:
    """Drop what is not higher than the last sequence of its source, as every consumer does."""
    kept = []
    for record in records:
        headers = dict(record.headers)
        source, sequence = headers["ce_source"], headers["ce_sequence"]
        if sequence > last.get(source, b""):
            last[source] = sequence
            kept.append(record)
    return kept
