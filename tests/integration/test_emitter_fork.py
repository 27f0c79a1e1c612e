"""Processes that fork, before and after the emitter's first use, on a real Kafka: each delivers its own, once."""

import json
import os
import subprocess
import sys
import textwrap
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlmm.runtime.settings import Settings
from mlmm.runtime.topics import create
from tests.integration.emitting import reading, settings_for
from tests.services import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(kafka: str) -> Settings:
    made = settings_for(kafka)
    create(made)
    return made


def arguments(settings: Settings) -> dict[str, Any]:
    return {
        "kafka.bootstrap_servers": settings.kafka.bootstrap_servers, "topic_prefix": settings.topic_prefix,
        "emitter.exit_timeout": 60, "emitter.linger": 0.01,
    }  # fmt: skip


def assert_delivered_once(settings: Settings, expected: set[str]) -> None:
    with reading(settings) as topic:
        wait_until(lambda: expected <= topic.read().ids.keys(), timeout=90, what="all predictions")
        assert topic.ids.keys() == expected
        assert set(topic.ids.values()) == {1}


@pytest.mark.parametrize("before", [True, False], ids=["used before the fork", "used after it"])
def test_gunicorn_with_four_workers_that_are_replaced_all_the_time(
    settings: Settings, tmp_path: Path, before: bool
) -> None:
    """Preloaded: the monitor is the master's. Each worker ends after a few dozen requests, and another is forked."""
    port, log = free_port(), tmp_path / "gunicorn.log"
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--bind", f"127.0.0.1:{port}",
        "--max-requests", "40", "--max-requests-jitter", "20", "--graceful-timeout", "90", "--timeout", "120",
        "--no-control-socket", "tests.integration.served:app",
    ]  # fmt: skip
    environment = {**os.environ, "SERVED": json.dumps(arguments(settings)), "SERVED_BEFORE": "1" if before else ""}
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    def ask(path: str) -> str | None:
        """Return the answering process, None where a worker that ended took no request."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as answer:
                return str(answer.read().decode())
        except OSError:
            assert server.poll() is None, log.read_text()[-3000:]
            return None

    try:
        wait_until(lambda: ask("up"), timeout=90, what="gunicorn to answer")
        with ThreadPoolExecutor(8) as pool:
            pids = set(pool.map(lambda i: wait_until(lambda: ask(str(i)), timeout=90, what="an answer"), range(400)))
    finally:
        server.terminate()
        code = server.wait(120)
    assert code == 0, log.read_text()[-3000:]
    assert len(pids) > 4
    expected = {"up", *map(str, range(400))} | ({f"import-{server.pid}"} if before else set())
    with reading(settings) as topic:
        # A request that was cut off may have been logged before it was asked again.
        wait_until(lambda: expected <= topic.read().ids.keys(), timeout=90, what="all predictions")
        assert topic.ids.keys() == expected
        assert topic.ids.get(f"import-{server.pid}", 0) == before
        assert set(topic.ce_ids.values()) == {1}


LOADER = """
import json, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from mlmm.producers import Monitor
from mlmm.runtime.settings import load

settings = load(env={}, arguments=json.loads(os.environ["SERVED"]))

def log(name, count):
    monitor = Monitor("fraud", settings=settings, on_error="raise")
    for i in range(count):
        monitor.log_prediction(f"{name}-{i}", {"a": float(i)}, 1)

def worker(name, items, results):
    while (item := items.get()) is not None:
        log(f"worker{name}-{item}", 5)
        results.put(item)

if __name__ == "__main__":
    method, before = sys.argv[1], sys.argv[2] == "True"
    context = multiprocessing.get_context(method)
    if before:
        log("before", 50)
    for epoch in range(2):
        items, results = context.Queue(), context.Queue()
        workers = [context.Process(target=worker, args=(f"{epoch}{i}", items, results), daemon=True) for i in range(3)]
        for process in workers:
            process.start()
        for item in range(30):
            items.put(item)
            log(f"main{epoch}-{item}", 5)
        done = [results.get(timeout=60) for _ in range(30)]
        for _ in workers:
            items.put(None)
        for process in workers:
            process.join(60)
        assert [process.exitcode for process in workers] == [0, 0, 0]
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for future in [pool.submit(log, f"pool{i}", 5) for i in range(10)]:
            future.result(60)
"""


@pytest.mark.parametrize("before", ["True", "False"], ids=["used before", "not used before"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loaders_and_pools_whose_workers_log_too(settings: Settings, tmp_path: Path, method: str, before: str) -> None:
    """As PyTorch's loader does it: each epoch starts daemon workers anew in the middle of a process that logs."""
    script = tmp_path / "loader.py"
    script.write_text(textwrap.dedent(LOADER))
    done = subprocess.run(
        [sys.executable, str(script), method, before], env={**os.environ, "SERVED": json.dumps(arguments(settings))},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ids: set[str] = {f"before-{i}" for i in range(50)} if before == "True" else set()
    ids |= {f"main{epoch}-{item}-{i}" for epoch in range(2) for item in range(30) for i in range(5)}
    ids |= {f"pool{name}-{i}" for name in range(10) for i in range(5)}
    with reading(settings) as topic:
        wait_until(lambda: len(topic.read().ids) == len(ids) + 300, timeout=90, what="all predictions")
        assert ids <= topic.ids.keys()
        assert len([each for each in topic.ids if each.startswith("worker")]) == 300
        assert set(topic.ids.values()) == {1}
