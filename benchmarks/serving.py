"""Throughput and latency of a FastAPI application under load: monitor off, on, with a dead broker, with a spool.

``python -m benchmarks.serving [--json] [--requests N] [--rounds N]``. ``MLMM_TEST_KAFKA`` names a broker; else one is
started. One uvicorn worker a case, all of them up; rounds of all cases take turns, in another order each time, from 16
connections that ask again as soon as they are answered. Shown are the median round, and the median of its ratios to the
round with the monitor off of the same turn. The client takes a core of its own: on a single core the ratios would come
out nearer to 1 than they are.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, show
from mlmm.runtime.settings import load
from mlmm.runtime.topics import create
from tests.services import free_port, kafka_service, unique
from tests.waiting import wait_until

CONNECTIONS = 16
BODY = json.dumps({f"feature_{j}": 0.5 + j for j in range(20)}).encode()


@dataclass
class Case:
    """One way to run the application."""

    name: str
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    asked: int = 0
    rates: list[float] = field(default_factory=list)
    p50s: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes = b"") -> bytes:
    writer.write(f"{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in answer[:15]:
        raise AssertionError(answer)
    length = next(
        int(line.split(b":")[1]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    return await reader.readexactly(length)


async def _stats(case: Case) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", case.port)
    found: dict[str, Any] = json.loads(await _ask(reader, writer, "GET /stats"))
    writer.close()
    return found


async def _load(case: Case, requests: int) -> list[float]:
    """Ask ``requests`` times; return the seconds that each answer took."""
    numbers, taken = iter(range(case.asked, case.asked + requests)), []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", case.port)
        for number in numbers:
            started = time.perf_counter()
            await _ask(reader, writer, f"POST /predict/order-{number:08d}", BODY)
            taken.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    case.asked += requests
    return taken


def _round(case: Case, requests: int) -> None:
    started = time.perf_counter()
    taken = sorted(asyncio.run(_load(case, requests)))
    case.rates.append(requests / (time.perf_counter() - started))
    case.p50s.append(1000 * taken[len(taken) // 2])
    case.p99s.append(1000 * taken[len(taken) * 99 // 100])


@contextlib.contextmanager
def _served(case: Case, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "uvicorn", "benchmarks.serving_app:app", "--port", str(case.port)]
    log = folder / f"{case.port}.log"
    environment = {**os.environ, "MLMM_EMITTER__EXIT_TIMEOUT": "100ms", **case.environment}
    with log.open("wb") as out:
        quiet = ["--no-access-log", "--log-level", "warning"]
        process = subprocess.Popen([*command, *quiet], env=environment, stdout=out, stderr=out)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(log.read_text())
        try:
            asyncio.run(_stats(case))
        except OSError:
            return False
        return True

    try:
        wait_until(answers, timeout=60, what="uvicorn to answer")
        yield
    finally:
        process.terminate()
        process.wait(60)


def measure(cases: list[Case], requests: int, rounds: int) -> None:
    """Load the cases by turns."""
    for case in cases:
        asyncio.run(_load(case, 500))
    for turn in range(rounds):
        for i in range(len(cases)):
            _round(cases[(turn + i) % len(cases)], requests)
    for case in cases:
        stats = asyncio.run(_stats(case))
        if case.name != "off":
            waiting = stats["queued_events"] + stats["spooled"] + sum(stats["dropped"].values())
            assert stats["accepted"] == case.asked == stats["sent"] + waiting, stats
            assert (stats["sent"] == 0) is ("dead" in case.name), stats


def figures(cases: list[Case]) -> Iterator[Figure]:
    """Yield throughput and latency of each, beside those with the monitor off."""
    off = cases[0]
    for what, unit, of in (("throughput", "requests/s", "rates"), ("p50", "ms", "p50s"), ("p99", "ms", "p99s")):
        base = statistics.median(getattr(off, of))
        yield Figure(f"{what}, monitor off", base, unit)
        for case in cases[1:]:
            value = statistics.median(getattr(case, of))
            # Of the same round: what else the machine does is in both.
            ratios = [mine / its for mine, its in zip(getattr(case, of), getattr(off, of), strict=True)]
            yield Figure(f"{what}, monitor {case.name}", value, unit, "of monitor off", statistics.median(ratios))


def main() -> None:
    """Start the applications and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    parser.add_argument("--requests", type=int, default=5000, help="a round and case")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "kafka").mkdir()
        address = stack.enter_context(kafka_service(folder / "kafka"))
        prefix = unique("fastapi")
        create(load(env={}, arguments={"kafka.bootstrap_servers": address, "topic_prefix": prefix}))
        kafka = {"MLMM_KAFKA__BOOTSTRAP_SERVERS": address, "MLMM__TOPIC_PREFIX": prefix}
        spool = {"MLMM_EMITTER__SPOOL_DIR": str(folder / "spool"), "MLMM_EMITTER__SPOOL_WHEN": "always"}
        cases = [
            Case("off", {"MLMM_MODE": "off"}),
            Case("on", kafka),
            Case("on, broker dead", {"MLMM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}),
            Case("on, everything to the disk first", {**kafka, **spool}),
        ]
        for case in cases:
            stack.enter_context(_served(case, folder))
        measure(cases, options.requests, options.rounds)
        found = list(figures(cases))
    found.append(Figure("load of the machine in the last minute", os.getloadavg()[0], f"of {os.cpu_count()}"))
    show("A FastAPI application under load, 20 numeric features a request", found, as_json=options.json)


if __name__ == "__main__":
    main()
