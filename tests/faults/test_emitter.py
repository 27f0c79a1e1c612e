"""The emitter while its broker is not there: every call returns, memory is bounded, every event is accounted for."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmm.runtime.settings import Settings
from mlmm.runtime.topics import create
from tests.faults.proxy import Proxy
from tests.integration.emitting import reading, settings_for
from tests.services import KafkaServer, NoServiceError, free_port, unavailable
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MILLION, THREADS, AWAY = 1_000_000, 8, 30.0
MIB = 1 << 20


class LoggingProcess:
    """`tests.faults.logging_process`, and orders to it."""

    def __init__(self, arguments: dict[str, Any], folder: Path) -> None:
        self.log = folder / "process.log"
        command = [sys.executable, "-m", "tests.faults.logging_process", json.dumps(arguments), str(THREADS)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, str(MILLION)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def order(self, do: str, **more: Any) -> Any:
        """Give an order; return the answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the process ended: {self.log.read_text()[-3000:]}"
        return json.loads(answer)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.end()

    def stats(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.order("stats")
        return answer

    def end(self) -> int:
        """Let it end by itself; return its exit code."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        code = self.process.wait(120)
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaServer, Proxy]]:
    """A broker of these tests' own, and the proxy that clients meet it through."""
    tmp_path = tmp_path_factory.mktemp("behind")
    port = free_port()
    with Proxy(f"127.0.0.1:{port}") as proxy:
        try:
            broker = KafkaServer(tmp_path, port, advertised=proxy.address)
        except NoServiceError as reason:
            unavailable(reason)
        broker.start()
        try:
            yield broker, proxy
        finally:
            broker.kill()


Start = Callable[[dict[str, Any], Path], LoggingProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes, and leave none behind."""
    started: list[LoggingProcess] = []

    def make(arguments: dict[str, Any], folder: Path) -> LoggingProcess:
        started.append(LoggingProcess(arguments, folder))
        return started[-1]

    yield make
    for each in started:
        if each.process.poll() is None:
            each.kill()


def given(settings: Settings, proxy: Proxy, **more: Any) -> dict[str, Any]:
    return {
        "kafka.bootstrap_servers": proxy.address, "topic_prefix": settings.topic_prefix, "emitter.linger": 0.05, **more
    }  # fmt: skip


def test_a_million_predictions_while_the_broker_is_absent_at_start_and_away_midway(
    behind: tuple[KafkaServer, Proxy], tmp_path: Path, start: Start
) -> None:
    """From eight threads, the queue overflowing on purpose: accepted = in the topic + dropped by cause, to the event.

    Memory: the queue holds at most ``max_bytes``; what is in flight exists once more as records (at most 8 MiB) and
    once more in the client. The rest of the bound, as much again, is for what an allocator keeps.
    """
    broker, proxy = behind
    aside = settings_for(broker.aside)
    create(aside)
    proxy.cut()
    settings = given(aside, proxy, **{"emitter.max_events": 150_000, "emitter.max_bytes": "24MiB"})
    serving = start(settings, tmp_path)
    serving.order("log", count=250_000)
    wait_until(lambda: serving.stats()["last_error"], timeout=120, what="the absent broker to be noticed")
    assert serving.stats()["sent"] == 0
    proxy.heal()
    wait_until(lambda: serving.stats()["sent"], timeout=120, what="delivery to begin")
    serving.order("log", count=250_000)
    proxy.cut()
    back = time.monotonic() + AWAY
    for _ in range(10):
        serving.order("log", count=25_000)
    wait_until(lambda: time.monotonic() > back, timeout=AWAY + 60, what="the end of the outage")
    proxy.heal()
    healed = time.monotonic()
    sent = serving.stats()["sent"]
    wait_until(lambda: serving.stats()["sent"] > sent, timeout=120, what="delivery to go on")
    recovery = time.monotonic() - healed
    serving.order("log", count=250_000)
    wait_until(lambda: serving.stats()["queued_events"] == 0, timeout=180, what="all to be delivered")
    stats, report = serving.stats(), serving.order("report")
    assert serving.end() == 0
    with reading(aside) as topic:
        wait_until(lambda: len(topic.read().ids) >= stats["sent"], timeout=120, what="the topic to be read")
        twice = sum(topic.ids.values()) - len(topic.ids)
        delivered = len(topic.ids)
    print(
        f"{report['calls']:,} calls: p50 {report['p50']} us, p99 {report['p99']} us, max {report['max']:.0f} us; "
        f"grown by {report['grown'] / MIB:.1f} MiB; accepted {stats['accepted']:,}, delivered {delivered:,}, "
        f"dropped {stats['dropped']}, twice {twice}, {stats['reconnects']} reconnects, again after {recovery:.1f} s"
    )
    assert report["calls"] == MILLION
    assert stats["accepted"] == MILLION + 1
    assert delivered == stats["sent"] == stats["accepted"] - sum(stats["dropped"].values())
    assert set(stats["dropped"]) == {"queue_full"}
    assert report["grown"] < 2 * (24 + 2 * 8) * MIB


@pytest.mark.parametrize("how", ["refuses", "says nothing", "said nothing from the start"])
def test_a_process_ends_within_its_time_with_a_full_queue_and_a_dead_broker(
    behind: tuple[KafkaServer, Proxy], tmp_path: Path, start: Start, how: str
) -> None:
    """``exit_timeout`` is the bound; what was not delivered is told."""
    broker, proxy = behind
    proxy.heal()
    aside = settings_for(broker.aside)
    create(aside)
    if how == "said nothing from the start":
        proxy.swallow()
    serving = start(given(aside, proxy, **{"emitter.exit_timeout": 2.0}), tmp_path)
    if how != "said nothing from the start":
        wait_until(lambda: serving.stats()["sent"], timeout=120, what="delivery to begin")
    if how == "refuses":
        proxy.cut()
    elif how == "says nothing":
        proxy.swallow()
    serving.order("log", count=200_000)
    assert serving.stats()["queued_events"] == 100_000
    began = time.monotonic()
    assert serving.end() == 0
    took = time.monotonic() - began
    proxy.heal()
    assert took < 30
    print(f"a broker that {how}: the process ended {took:.1f} s after its input, exit_timeout 2 s")
    assert "events that waited at the end of the process" in serving.log.read_text()


@pytest.mark.parametrize("when", ["away", "always"])
def test_what_a_killed_process_had_spooled_is_delivered_by_the_next(
    behind: tuple[KafkaServer, Proxy], tmp_path: Path, start: Start, when: str
) -> None:
    """Killed while its broker is away and it logs on: what it had told to lie on the disk is all in the topic."""
    broker, proxy = behind
    proxy.heal()
    aside = settings_for(broker.aside)
    create(aside)
    settings = given(
        aside,
        proxy,
        **{"emitter.spool_dir": str(tmp_path / "spool"), "emitter.spool_when": when, "emitter.max_events": 200_000},
    )
    killed = start(settings, tmp_path)
    killed.order("log", count=40_000)
    wait_until(lambda: killed.stats()["sent"] > 1000, timeout=120, what="deliveries")
    proxy.cut()
    killed.order("log", count=80_000)
    wait_until(lambda: killed.stats()["queued_events"] == 0, timeout=120, what="all to be on the disk or sent")
    stats = killed.stats()
    assert stats["accepted"] == 120_001 == stats["sent"] + stats["spooled"]
    killed.order("log", count=10_000)  # these may be lost: nobody was told that they lie on the disk
    killed.kill()
    (tmp_path / "next").mkdir()
    heir = start(settings, tmp_path / "next")
    proxy.heal()
    wait_until(lambda: heir.stats()["inherited"] >= stats["spooled"], timeout=180, what="the inheritance")
    own = when == "always"  # the heir writes a segment of its own
    left = (tmp_path / "spool").glob
    wait_until(lambda: len(list(left("*.seg"))) <= own, timeout=120, what="all that was inherited to be delivered")
    told = {"warm", *(f"{name}-{i}" for name in range(THREADS) for i in range(120_000 // THREADS))}
    with reading(aside) as topic:
        wait_until(lambda: told <= topic.read().ids.keys(), timeout=120, what="every event that was spooled or sent")
        ids, ce_ids = topic.ids, topic.ce_ids
        ids["warm"] = 1  # each of the two processes logged one
    twice = sum(ids.values()) - len(ids)
    print(
        f"spool_when = {when}: {stats['spooled']:,} events on the disk of {stats['accepted']:,}; lost of these 0; "
        f"of 10,000 logged just before the kill {130_001 - len(ids)} lost; twice {twice} events, "
        f"in {sum(ce_ids.values()) - len(ce_ids)} records of the same id"
    )
    assert heir.stats()["damaged"] == 0
    assert heir.end() == 0
