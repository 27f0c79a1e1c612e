"""Events a second of one worker on real Kafka and Redis, everything on, beside two peers in one run.

The same stream (20 numeric features, a label for every fourth prediction, one model or 1,000) is written

- packed in columns, 1, 3, 20 and 200 events a record, and read by one ``mlmm worker`` (label join, windows, ADWIN and
  Page-Hinkley on the error and every feature, exactly-once commits to Redis, findings to Kafka);
- as one JSON record an event, and read by (a) the per-event pipeline one would write with Faust, river and a Redis HSET
  an event, and (b) aiokafka and orjson merely reading it.

``python -m benchmarks.pipeline [--json] [--events N] [--quick]``. Services: see ``tests/services.py``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.report import Figure, show
from tests.services import kafka_service, redis_service, unique
from tests.waiting import wait_until

FEATURES = tuple(f"feature_{i:02d}" for i in range(20))
LABEL_EVERY = 4


def blocks(events: int, packed: int, models: int, *, seed: int = 7) -> Iterator[tuple[bytes, str, object]]:
    """Yield (key, type, block): records of ``packed`` events each, models taking turns, labels a record later."""
    from mlmm.events import LabelBlock, LabelHead, PredictionBlock, PredictionHead

    rng = np.random.default_rng(seed)
    heads = [PredictionHead(model=f"model-{m:04d}", features=FEATURES) for m in range(models)]
    waiting: list[list[str]] = [[] for _ in range(models)]
    truth: list[list[float]] = [[] for _ in range(models)]
    made, turn, number = 0, 0, 0
    # Event time runs at real speed from now on: windows close at the rate that they would.
    clock = time.time_ns() // 1000 - 120_000_000
    step = 110_000_000 / events
    while made < events:
        m = turn % models
        turn += 1
        head = heads[m]
        if len(waiting[m]) >= packed:
            ids, values, kind = waiting[m][:packed], truth[m][:packed], "mlmm.labels.v1"
            del waiting[m][:packed], truth[m][:packed]
        else:
            ids = [f"order-{number + i:09d}" for i in range(packed)]
            number += packed
            kind = "mlmm.predictions.v1"
            values = rng.integers(0, 2, packed).astype(float).tolist()
            keep = [i for i in range(packed) if (number + i) // models % LABEL_EVERY == 0]
            waiting[m] += [ids[i] for i in keep]
            truth[m] += [values[i] if rng.random() > 0.1 else 1 - values[i] for i in keep]
        times = (clock + step * (made + np.arange(packed))).astype("<i8").tobytes()
        text = "".join(ids).encode()
        lengths = np.fromiter((len(i) for i in ids), "<u4", packed).tobytes()
        value = np.asarray(values, "<f8").tobytes()
        if kind == "mlmm.labels.v1":
            yield (
                head.model.encode(),
                kind,
                LabelBlock(
                    head=LabelHead(model=head.model), n=packed, ids=text, id_lengths=lengths, time=times, value=value
                ),
            )
        else:
            yield head.model.encode(), kind, PredictionBlock(
                head=head, n=packed, ids=text, id_lengths=lengths, time=times, output=value,
                features=rng.normal(size=(packed, len(FEATURES))).astype("<f8").tobytes(),
                latency=rng.gamma(2.0, 0.01, packed).astype("<f8").tobytes(),
                score=rng.random(packed).astype("<f8").tobytes(),
            )  # fmt: skip
        made += packed


def write_packed(kafka: str, topic: str, events: int, packed: int, models: int) -> int:
    """Write the stream in columns; return how many events it holds."""
    from kafka import KafkaProducer

    from mlmm.events import COLUMNS_TYPE, cloudevents_headers, encode_columns

    producer = KafkaProducer(bootstrap_servers=kafka, linger_ms=50, batch_size=1 << 20)
    written = 0
    for key, kind, block in blocks(events, packed, models):
        headers = cloudevents_headers(kind, f"{written:x}", "mlmm://benchmark/1", time.time_ns() // 1000, COLUMNS_TYPE)
        producer.send(topic, encode_columns(block), key=key, headers=headers)
        written += packed
    producer.flush()
    producer.close()
    return written


def write_json(kafka: str, topic: str, events: int, models: int) -> int:
    """Write the same stream as one JSON record an event."""
    from kafka import KafkaProducer

    from mlmm.events import COLUMNS_TYPE, decode_events, encode_columns, encode_json

    producer = KafkaProducer(bootstrap_servers=kafka, linger_ms=50, batch_size=1 << 20)
    written = 0
    for key, kind, block in blocks(events, 20, models):
        for event in decode_events(kind, COLUMNS_TYPE, encode_columns(block)):
            producer.send(topic, encode_json(event), key=key)
            written += 1
    producer.flush()
    producer.close()
    return written


def worker_rate(kafka: str, redis_url: str, prefix: str, records: int, packed: int, folder: Path) -> float:
    """Run one worker over a backlog of ``records``; events a second between its first commit and its last."""
    import redis

    from mlmm.runtime.store import Keys

    environment = {
        **os.environ,
        "MLMM_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "MLMM_REDIS__URL": redis_url,
        "MLMM__DEPLOYMENT": prefix,
        "MLMM__TOPIC_PREFIX": prefix,
        "MLMM_KAFKA__PARTITIONS": "1",
    }
    store = redis.Redis.from_url(redis_url)
    meta = Keys.of(prefix, "serving", 0).meta
    log = folder / f"{prefix}.log"
    marks: list[tuple[float, int]] = []
    with log.open("wb") as out:
        command = [sys.executable, "-m", "mlmm.console", "worker", "--workers", "1"]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder)

        def done() -> bool:
            assert process.poll() is None, f"the worker ended: {log.read_text()[-3000:]}"
            seen = int(store.hget(meta, "offset") or 0)
            if seen and (not marks or seen > marks[-1][1]):
                marks.append((time.perf_counter(), seen))
            return bool(marks) and marks[-1][1] >= records

        try:
            wait_until(done, timeout=900, what=f"{records} records", every=0.004)
        finally:
            process.terminate()
            process.wait(60)
    (t0, n0), (t1, n1) = marks[0], marks[-1]
    if len(marks) < 3:
        raise AssertionError(f"only {len(marks)} commits seen: more events are needed for a figure")
    return (n1 - n0) * packed / (t1 - t0)


def peer_rate(module: str, *arguments: str) -> float:
    """Run a peer in a process of its own; events a second."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, check=True, timeout=900)
    row = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith(b"{")))
    return row["events"] / row["seconds"]


def make_topics(kafka: str, prefix: str) -> None:
    """Make the topics of a deployment with one partition each."""
    from mlmm.runtime import topics
    from mlmm.runtime.settings import load

    topics.create(
        load(env={}, arguments={"kafka.bootstrap_servers": kafka, "kafka.partitions": 1, "topic_prefix": prefix})
    )


def measure(kafka: str, redis_url: str, folder: Path, events: int) -> list[Figure]:
    """Measure everything, one after the other, on the same services."""
    figures: list[Figure] = []
    for models in (1, 1000):
        prefix = unique(f"peer{models}")
        make_topics(kafka, prefix)
        written = write_json(kafka, f"{prefix}.serving", max(60_000, events // 8), models)
        reading = peer_rate("benchmarks.peers.aiokafka_orjson", kafka, f"{prefix}.serving", str(written))
        few = str(min(written, 12_000))
        faust = peer_rate("benchmarks.peers.faust_river_redis", kafka, redis_url, f"{prefix}.serving", few)
        of = f"{models:,} model{'s' if models > 1 else ''}"
        figures.append(Figure(f"Faust, river, Redis HSET an event; {of}", faust, "events/s"))
        figures.append(Figure(f"aiokafka and orjson, reading only; {of}", reading, "events/s"))
        for packed in (1, 3, 20, 200):
            prefix = unique(f"packed{packed}x{models}")
            make_topics(kafka, prefix)
            count = max(events * {1: 1, 3: 2, 20: 6, 200: 10}[packed] // 10, 400_000 if packed == 200 else 100_000)
            written = write_packed(kafka, f"{prefix}.serving", count, packed, models)
            rate = worker_rate(kafka, redis_url, prefix, written // packed, packed, folder)
            name = f"mlmm, {packed} events a record; {of}"
            figures.append(Figure(name, rate, "events/s", "Faust, river, HSET", rate / faust))
            figures.append(Figure(name, rate, "events/s", "aiokafka, orjson reading", rate / reading))
    return figures


def main() -> None:
    """Start the services and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    parser.add_argument(
        "--events", type=int, default=2_000_000, help="events at 200 a record; fewer where they are smaller"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kafka").mkdir()
        (folder / "redis").mkdir()
        with kafka_service(folder / "kafka") as kafka, redis_service(folder / "redis") as redis_url:
            figures = measure(kafka, redis_url, folder, options.events)
    show("One worker on real Kafka and Redis, 20 numeric features", figures, as_json=options.json)


if __name__ == "__main__":
    main()
