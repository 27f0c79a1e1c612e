"""The stop loop on real services: worker, rules, and trainers that log a NaN; used by a test and by a benchmark."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from mlmm.console.orders import give
from mlmm.events import Acked, Command, Topics, decode_events, header, new_id
from mlmm.producers import TrainingRun, not_finite
from mlmm.runtime import topics
from mlmm.runtime.settings import Settings, load
from mlmm.stream_processors import warm_up
from tests.services import unique
from tests.waiting import wait_until

STEPS = 12_000
STEP_SECONDS = 0.005
DOOM = 40
"""Step at which the NaN is logged."""
TOML = """
deployment = "{name}"
topic_prefix = "{name}"
[kafka]
bootstrap_servers = "{kafka}"
[redis]
url = "{redis}"
[[rules]]
name = "not finite"
run = "doomed-*"
trigger = "not_finite"
command = {{ kind = "stop" }}
[[alerting.keys]]
id = "stop"
secret = "made up for this loop"
active = true
"""


class Stopped(NamedTuple):
    """How one run ended."""

    run_id: str
    seconds: float
    """From the log call (or the order by hand) to when the log took the acknowledgement."""
    ack: Acked
    status: str
    checkpoint: Path | None


class Loop:
    """One worker and the rules on services that are there; follows the acknowledgements."""

    def __init__(self, folder: Path, kafka: str, redis_url: str) -> None:
        self.folder = folder
        config = folder / "mlmm.toml"
        config.write_text(TOML.format(name=unique("stop"), kafka=kafka, redis=redis_url))
        self.settings: Settings = load(config, env={})
        self.answers: dict[str, tuple[float, Acked]] = {}
        """Command's run → when the log took its completion (seconds since the epoch), and the completion."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._config = config

    def __enter__(self) -> Self:
        warm_up()
        topics.create(self.settings)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLMM_")}
        for command in (["worker"], ["alerting"]):
            line = [sys.executable, "-m", "mlmm.console", *command, "--config", str(self._config)]
            with (self.folder / f"{command[0]}.log").open("wb") as log:
                self._processes.append(subprocess.Popen(line, stdout=log, stderr=log, env=environment))
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait(60)
        self._reader.join(10)

    def _follow(self) -> None:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self.settings.kafka.bootstrap_servers)
        training = Topics(self.settings.topic_prefix).training
        places = [TopicPartition(training, p) for p in range(self.settings.kafka.partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        while not self._ended.is_set():
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    if header(record.headers, "ce_type") != b"mlmm.command.acked.v1":
                        continue
                    for event in decode_events("mlmm.command.acked.v1", "application/json", record.value):
                        if isinstance(event, Acked) and event.state == "completed":
                            self.answers.setdefault(event.target, (record.timestamp / 1000, event))
        consumer.close()

    def train(
        self, run_id: str, *, doomed: bool, steps: int = STEPS, began: list[int] | None = None
    ) -> tuple[TrainingRun, float]:
        """Run a training loop to its end; return it and when it logged the NaN; ``began`` takes the first step."""
        state = {"step": -1}
        logged = 0.0

        def save(folder: Path) -> None:
            (folder / "step").write_text(str(state["step"]))

        def load_(folder: Path) -> None:
            state["step"] = int((folder / "step").read_text())

        pause = threading.Event()
        with TrainingRun(
            "stopping", run_id=run_id, triggers=[not_finite()], save=save, load=load_,
            checkpoint_dir=self.folder / "checkpoints", settings=self.settings,
        ) as run:  # fmt: skip
            for step in run.steps(steps):
                state["step"] = step
                if began is not None and not began:
                    began.append(step)
                if doomed and step >= DOOM and not logged:
                    logged = time.time()
                run.log({"loss": float("nan") if doomed and step == DOOM else 1 / (1 + step)}, step=step)
                pause.wait(STEP_SECONDS)
        return run, logged


def measure_runs(loop: Loop, count: int, *, by_hand: bool) -> Iterator[Stopped]:
    """Let ``count`` runs be stopped, one after the other: by their NaN and the rule, or by an order by hand.

    One more before them is not counted: the workers may still be starting.
    """
    _stop_one(loop, by_hand=False)
    for _ in range(count):
        yield _stop_one(loop, by_hand=by_hand)


def _stop_one(loop: Loop, *, by_hand: bool) -> Stopped:
    run_id = unique("by-hand" if by_hand else "doomed")
    ordered = [0.0]
    if by_hand:
        threading.Thread(target=_order, args=(loop, run_id, ordered), daemon=True).start()
    run, logged = loop.train(run_id, doomed=not by_hand)
    began = ordered[0] if by_hand else logged
    at, ack = wait_until(lambda: loop.answers.get(run_id), timeout=60, what=f"{run_id} to answer")
    where = Path(ack.checkpoint.removeprefix("file://")) if ack.checkpoint else None
    return Stopped(run_id, at - began, ack, run.outcome.status if run.outcome else "?", where)


def _order(loop: Loop, run_id: str, ordered: list[float]) -> None:
    threading.Event().wait(DOOM * STEP_SECONDS)
    now = time.time_ns() // 1000
    command = Command(
        command_id=new_id(), kind="stop", run_id=run_id, reason="by hand", issued_by="benchmark", issued_at=now,
        expires_at=now + 60_000_000,
    )  # fmt: skip
    with give(loop.settings, command):
        ordered[0] = command.issued_at / 1e6
