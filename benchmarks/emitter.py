"""What a log call costs its caller, beside kafka-python's own ``send()`` in the same run, on a real Kafka.

``python -m benchmarks.emitter [--json]``. ``MLMM_TEST_KAFKA`` names a broker; else one is started. Each call is timed
alone with ``perf_counter_ns`` (whose 0.1 us are in the figures); rounds of both take turns, and the median round is
shown. The loop does nothing else, unless it is "paced": that one sleeps a millisecond before each call, so that caches
are cold.
"""

import argparse
import contextlib
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.report import Figure, show
from mlmm.producers import Monitor
from mlmm.runtime.connections import kafka_producer
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.topics import create
from tests.services import kafka_service, unique

FEATURES = [{f"feature_{j}": 0.5 * i + j for j in range(20)} for i in range(1000)]
MIXED = [{**row, "country": "DE", "channel": "web"} for row in FEATURES]
BUSY, PACED, ROUNDS, SENDS = 20_000, 500, 7, 2_000

Call = Callable[[int], object]


def spread(call: Call, n: int, pause: float = 0.0) -> tuple[float, float, float]:
    """Return p50, p99 and maximum of ``n`` calls, in microseconds."""
    clock, taken = time.perf_counter_ns, [0] * n
    for i in range(n):
        if pause:
            time.sleep(pause)
        started = clock()
        call(i)
        taken[i] = clock() - started
    taken.sort()
    return taken[n // 2] / 1000, taken[n * 99 // 100] / 1000, taken[-1] / 1000


def figures(name: str, rounds: list[tuple[float, float, float]], beside: list[float] | None) -> Iterator[Figure]:
    """Yield the median p50 and p99 and largest maximum, beside those of ``send()``; then the least of all rounds."""
    p50s, p99s, longest = zip(*rounds, strict=True)
    values = (statistics.median(p50s), statistics.median(p99s), max(longest))
    for i, (which, value) in enumerate(zip(("p50", "p99", "max"), values, strict=True)):
        if beside is None:
            yield Figure(f"{name}, {which}", value, "us")
        else:
            yield Figure(f"{name}, {which}", value, "us", "faster than send()", beside[i] / value)
    yield Figure(f"{name}, quietest p50", min(p50s), "us")
    yield Figure(f"{name}, quietest p99", min(p99s), "us")


def calls(settings: Settings) -> Iterator[Figure]:
    """Time the calls."""
    monitor = Monitor("fraud", settings=settings, on_error="raise")
    producer = kafka_producer(settings)
    topic, value = f"{settings.topic_prefix}.serving", json.dumps(FEATURES[7]).encode()
    ids = [f"order-{i:08d}" for i in range(BUSY)]
    ours: dict[str, Call] = {
        "log_prediction, 20 numbers": lambda i: monitor.log_prediction(
            ids[i], FEATURES[i % 1000], 1, score=0.93, latency=0.004
        ),
        "log_prediction, 20 numbers and 2 strings": lambda i: monitor.log_prediction(
            ids[i], MIXED[i % 1000], 1, score=0.93, latency=0.004
        ),
        "log_label": lambda i: monitor.log_label(ids[i], 1),
    }
    taken: dict[str, list[tuple[float, float, float]]] = {}

    def measure(name: str, call: Call, n: int, pause: float = 0.0) -> None:
        taken.setdefault(name, []).append(spread(call, n, pause))
        assert monitor.flush(60), monitor.stats()
        producer.flush(60)

    for call in ours.values():
        spread(call, 100)
    for _ in range(ROUNDS):
        measure("send", lambda _: producer.send(topic, key=b"fraud", value=value), SENDS)
        measure("send paced", lambda _: producer.send(topic, key=b"fraud", value=value), PACED, 0.001)
        for name, call in ours.items():
            measure(name, call, BUSY)
        measure("paced", ours["log_prediction, 20 numbers"], PACED, 0.001)
    producer.close()
    yield from figures("kafka-python's send() of ready bytes", taken["send"], None)
    beside = [f.value for f in figures("", taken["send"], None)]
    for name in ours:
        yield from figures(name, taken[name], beside)
    yield from figures("paced: kafka-python's send()", taken["send paced"], None)
    beside = [f.value for f in figures("", taken["send paced"], None)]
    yield from figures("paced: log_prediction, 20 numbers", taken["paced"], beside)


def absent() -> Iterator[Figure]:
    """Time the calls while there is no broker, up to a full queue and beyond."""
    settings = load(env={}, arguments={"kafka.bootstrap_servers": "127.0.0.1:9", "emitter.exit_timeout": 0.1})
    monitor = Monitor("fraud", settings=settings, on_error="raise")
    ids = [f"order-{i:08d}" for i in range(200_000)]
    rounds = [spread(lambda i: monitor.log_prediction(ids[i], FEATURES[i % 1000], 1), 200_000)]
    stats = monitor.stats()
    assert stats.accepted == stats.queued_events + sum(stats.dropped.values()), stats
    yield from figures("no broker, 200,000 log_prediction", rounds, None)
    yield Figure("no broker, bytes in the queue of at most 64 MiB", stats.queued_bytes / 2**20, "MiB")


def throughput(settings: Settings) -> Iterator[Figure]:
    """Deliver as much as it can, the caller waiting where the queue is full."""
    n = 300_000
    monitor = Monitor("fraud", settings=settings, when_full="block", on_error="raise")
    started = time.perf_counter()
    for i in range(n):
        monitor.log_prediction(f"order-{i:08d}", FEATURES[i % 1000], 1, score=0.93, latency=0.004)
    assert monitor.flush(120)
    ours = n / (time.perf_counter() - started)
    producer, n = kafka_producer(settings, batch_size=512 * 1024, linger_ms=100), 15_000
    started = time.perf_counter()
    for i in range(n):
        value = json.dumps({"id": f"order-{i:08d}", "features": FEATURES[i % 1000], "output": 1, "score": 0.93})
        producer.send(f"{settings.topic_prefix}.training", key=b"fraud", value=value.encode())
    producer.flush(60)
    theirs = n / (time.perf_counter() - started)
    producer.close()
    yield Figure("delivered by one thread of callers", ours, "events/s", "json.dumps and send()", ours / theirs)
    yield Figure("delivered by json.dumps and send()", theirs, "events/s")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    arguments = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    logging.getLogger("mlmm").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(kafka_service(folder))
        settings = load(
            env={}, arguments={"kafka.bootstrap_servers": address, "topic_prefix": unique("b"), "kafka.partitions": 1}
        )
        create(settings)
        results = [*calls(settings), *throughput(settings), *absent()]
    load_average = os.getloadavg()[0]
    results.append(Figure("load of the machine in the last minute", load_average, f"of {os.cpu_count()}"))
    show("What a log call costs its caller (goal: p50 <= 2 us, p99 <= 10 us)", results, as_json=arguments.json)


if __name__ == "__main__":
    main()
