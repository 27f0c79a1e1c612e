"""One deployment under load, what is done to its services, and the proof that nothing came of it."""

import gc
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from mlmm.runtime import topics
from mlmm.stream_processors import warm_up
from tests.faults.comparison import differences, read_topic, replayed, said_and_dropped
from tests.faults.deployment import INPUTS, Deployment, ends, finish
from tests.faults.proxy import Proxy
from tests.faults.workload import Workload, send
from tests.services import KafkaServer, RedisServer, unique
from tests.waiting import wait_until

__all__ = ["FAULT_SECONDS", "Services", "Story"]

FAULT_SECONDS = float(os.environ.get("MLMM_FAULT_SECONDS", "60"))
"""For which a service is unreachable."""
RECOVERY_SECONDS = 300.0
"""In which a deployment must have caught up; how long it took is printed."""
ROUND_SECONDS = 0.9
PLAN = 40
"""Rounds of load in which all happens that a workload has: drift, falling accuracy, a NaN."""
MOST_ROUNDS = 10_000
RSS_LIMIT = 700 << 20
FD_LIMIT = 200


class Services(NamedTuple):
    """Kafka and Redis, each behind a proxy that the deployment dials; tests go around them."""

    kafka: KafkaServer
    kafka_proxy: Proxy
    redis: RedisServer
    redis_proxy: Proxy


class Sizes:
    """Watches the processes of a deployment from a thread: most memory and most descriptors of one."""

    def __init__(self, deployment: Deployment) -> None:
        self.rss, self.fds, self.seen = 0, 0, 0
        self._deployment = deployment
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for supervisor in tuple(self._deployment.supervisors.values()):
                try:
                    for process in psutil.Process(supervisor.pid).children():
                        self.rss = max(self.rss, process.memory_info().rss)
                        self.fds = max(self.fds, process.num_fds())
                        self.seen += 1
                except psutil.Error:
                    continue  # it ended meanwhile


class Story:
    """A deployment under load from its start; `suffer` faults, then `prove`.

    Parameters
    ----------
    services : Services
        Run already.
    folder : Path
        Where its files go.
    """

    def __init__(self, services: Services, folder: Path) -> None:
        self.seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(1_000_000)))
        print(f"seed: MLMM_TEST_SEED={self.seed}")
        self.rng = random.Random(self.seed)
        self.services = services
        warm_up()  # a worker that compiles while its services are away shows nothing
        self.deployment = Deployment(
            unique("fault"), unique("fault"), folder,
            kafka=services.kafka_proxy.address, kafka_aside=services.kafka.aside,
            redis_url=f"redis://{services.redis_proxy.address}/0", redis_aside=services.redis.url,
        )  # fmt: skip
        topics.create(self.deployment.settings)
        self._done = threading.Event()
        self._sent: list[int] = []
        self._failed: list[BaseException] = []
        self._workload = Workload(self.seed, MOST_ROUNDS, plan=PLAN)
        self._sender = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self.deployment.start()
        self.sizes = Sizes(self.deployment)
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sender.join(120)
        self.sizes.close()
        self.deployment.stop()
        gc.collect()  # what clients left open is found here, not in the next test

    def _send(self) -> None:
        try:
            self._sent.append(send(self.deployment, self._workload, MOST_ROUNDS * ROUND_SECONDS, self._done))
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            self._failed.append(error)

    def hold(self, seconds: float) -> None:
        """Let time pass under load."""
        self._done.wait(seconds)
        self.deployment.check()

    def suffer(
        self,
        name: str,
        harm: Callable[[], object],
        mend: Callable[[], object],
        *,
        seconds: float,
        says: tuple[str, ...] = (),
    ) -> None:
        """Do harm once all works, mend it, and measure until what was in the log by then is committed.

        Parameters
        ----------
        name : str
            For the line that is printed.
        harm, mend : Callable
            What is done, ``seconds`` apart.
        seconds : float
            For which the harm lasts.
        says : tuple of str
            Texts one of which the logs must hold afterwards: what is waited for.
        """
        wait_until(self.deployment.shared_out, timeout=RECOVERY_SECONDS, what=f"two workers before: {name}", every=0.5)
        self.caught_up(self.ends(), f"work before: {name}")
        logs = {file: file.stat().st_size for file in self.deployment.folder.glob("*.log")}
        begun = time.monotonic()
        harm()
        self.hold(seconds)
        mend()
        back = time.monotonic()
        self.caught_up(self.ends(), f"recover from: {name}", more=True)
        now = time.monotonic()
        lines = "".join(file.read_text(errors="replace")[size:] for file, size in logs.items())
        ended = lines.count("process ended")
        print(f"{name}: harmed for {back - begun:.1f} s, caught up {now - back:.1f} s after; {ended} process ends")
        assert not says or any(text in lines for text in says), f"{name}: none of {says} in {lines[-6000:]}"

    def ends(self) -> dict[tuple[str, int], int]:
        """Return where the logs end now."""
        return ends(self.deployment, *INPUTS)

    def caught_up(self, wanted: dict[tuple[str, int], int], what: str, *, more: bool = False) -> None:
        """Wait until all that was in the logs is committed, and ``more``: something of what was written since."""

        def reached() -> bool:
            self.deployment.check()
            assert not self._failed, f"the sender: {self._failed}"
            committed = self.deployment.offsets()
            return (
                bool(committed)
                and all(committed[place] >= offset for place, offset in wanted.items())
                and (
                    not more or all(_total(committed, name) > _total(wanted, name) for name in ("serving", "training"))
                )
            )

        try:
            wait_until(reached, timeout=RECOVERY_SECONDS, what=f"the deployment to {what}", every=0.1)
        except AssertionError as error:
            has = self.deployment.offsets()
            raise AssertionError(f"{error}; wanted {wanted}, has {has}; {self.deployment.log()}") from error

    def prove(self) -> None:
        """Let the load end, then hold state and outputs against a replay of the log."""
        wait_until(lambda: self._workload.turn > PLAN, timeout=RECOVERY_SECONDS, what="the load to come to its end")
        self._done.set()
        self._sender.join(120)
        assert self._sent, f"the sender did not end: {self._failed}"
        deployment = self.deployment
        finish(deployment)
        self.sizes.close()
        state = deployment.state()
        logs = {name: read_topic(deployment.kafka, deployment.topic(name)) for name in ("serving", "training")}
        for (name, p), (offset, _) in state.items():
            if name in logs:
                logs[name][p] = logs[name][p][:offset]
        outputs, dropped = said_and_dropped(deployment)
        lines, cells = replayed(deployment, logs)
        lost, twice = lines - outputs, outputs - lines
        print(
            f"{self._sent[0]} events, {outputs.total()} outputs: {lost.total()} lost, {twice.total()} twice or other, "
            f"{dropped} sent again and dropped by their sequence; "
            f"at most {self.sizes.rss >> 20} MiB and {self.sizes.fds} descriptors a process"
        )
        assert outputs == lines, differences(outputs, lines)
        for place, (_, found) in state.items():
            assert found == cells.get(place, {}), f"cells of {place} differ"
        assert {line[2] for line in outputs} >= {
            b"mlmm.report.v1", b"mlmm.drift.v1", b"mlmm.run.state.v1", b"mlmm.incident.v1", b"mlmm.command.v1"
        }  # fmt: skip
        assert self.sizes.seen
        assert self.sizes.rss < RSS_LIMIT
        assert self.sizes.fds < FD_LIMIT


def _total(offsets: dict[tuple[str, int], int], processor: str) -> int:
    return sum(offset for (name, _), offset in offsets.items() if name == processor)
