"""What a large state costs: 1,000 models and 1,000,000 pending predictions beside 10 models and 10,000, in one run.

Each state is built by the serving processor on a real Redis with the harness's own commits. Then both take the same
batches for the same ten models, turn about; what a commit costs must follow the batch, not the state. At last each is
claimed and restored by an empty processor, as a worker does that takes over from a dead one.

``python -m benchmarks.scale [--json] [--quick]`` (``--quick``: a tenth of the models).
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Figure, show
from tests.services import redis_service, unique

FEATURES = tuple(f"feature_{i:02d}" for i in range(20))
PENDING = 1_000
"""Predictions of a model that wait for their label."""
PACKED = 200
HOT = 10
"""Models that the batches are for."""
BATCHES = 60
BATCH_RECORDS = 20


class Scale:
    """One partition's serving state, in memory and in Redis."""

    def __init__(self, redis: Any, models: int) -> None:
        from mlmm.events import PredictionHead
        from mlmm.runtime.claims import Log, claim
        from mlmm.runtime.settings import ServingSettings
        from mlmm.runtime.store import Keys
        from mlmm.stream_processors.serving import ServingProcessor

        self.redis, self.models = redis, models
        self.keys = Keys.of(unique(f"scale{models}"), "serving", 0)
        self.log = Log(topic="mlmm.serving", partition=0, topic_id="", partitions=1, first=0, end=1 << 40)
        self.processor = ServingProcessor(ServingSettings())
        self.state = self.processor.state()
        self.claim = claim(redis, self.keys, self.log)
        self.offset = self.number = self.commits = 0
        self.rng = np.random.default_rng(models)
        self.heads = [PredictionHead(model=f"model-{m:04d}", features=FEATURES) for m in range(models)]
        self.now = 1_780_000_000_000_000

    def records(self, models: range) -> Iterator[Any]:
        """Yield a record of predictions for each model."""
        from mlmm.events import COLUMNS_TYPE, PredictionBlock, cloudevents_headers, encode_columns
        from mlmm.runtime.processor import Record

        for m in models:
            ids = [f"order-{self.number + i:012d}" for i in range(PACKED)]
            self.number += PACKED
            self.now += 1_000
            block = PredictionBlock(
                head=self.heads[m], n=PACKED, ids="".join(ids).encode(),
                id_lengths=np.full(PACKED, len(ids[0]), "<u4").tobytes(),
                time=np.full(PACKED, self.now, "<i8").tobytes(),
                output=self.rng.integers(0, 2, PACKED).astype("<f8").tobytes(),
                features=self.rng.normal(size=(PACKED, len(FEATURES))).astype("<f8").tobytes(),
                latency=self.rng.gamma(2.0, 0.01, PACKED).astype("<f8").tobytes(),
            )  # fmt: skip
            headers = cloudevents_headers("mlmm.predictions.v1", "x", "mlmm://benchmark/1", self.now, COLUMNS_TYPE)
            yield Record(self.offset, self.now, self.heads[m].model.encode(), encode_columns(block), headers)
            self.offset += 1

    def take(self, records: list[Any]) -> tuple[float, float, int]:
        """Fold records and commit what changed; seconds in the processor, seconds of the commit, bytes committed."""
        from mlmm.runtime.commits import Commit, commit

        began = time.perf_counter()
        self.state.process(records)
        cells = self.state.changed()
        self.state.deadline()
        self.state.counters()
        folded = time.perf_counter()
        self.commits += 1
        change = Commit(
            id=f"c{self.commits}", expected=records[0].offset, offset=self.offset, log_time=self.now, cells=cells
        )
        commit(self.redis, self.keys, self.claim, change)
        return folded - began, time.perf_counter() - folded, change.size()

    def fill(self) -> None:
        """Give each model its pending predictions."""
        for _ in range(PENDING // PACKED):
            for first in range(0, self.models, 50):
                self.take(list(self.records(range(first, min(first + 50, self.models)))))

    def restore(self) -> tuple[float, int]:
        """Claim and load into an empty state; seconds until it can process, bytes read."""
        from mlmm.runtime.claims import claim, load

        began = time.perf_counter()
        state = self.processor.state()
        claim(self.redis, self.keys, self.log)
        size = load(self.redis, self.keys, state)
        state.deadline()
        seconds = time.perf_counter() - began
        assert dict(state.cells()) == dict(self.state.cells())
        return seconds, size


def used(redis: Any) -> int:
    """Return the bytes that Redis holds."""
    return int(redis.info("memory")["used_memory"])


def built(redis: Any, models: int) -> tuple[Scale, list[Figure]]:
    """Build a state; return it and what it takes in Redis."""
    before = used(redis)
    scale = Scale(redis, models)
    scale.fill()
    taken = used(redis) - before
    sizes = {name: len(name) + len(value) for name, value in scale.state.cells().items()}
    overhead = taken / sum(sizes.values())
    rows = sum(size for name, size in sizes.items() if name.startswith(b"r")) * overhead
    name = f"{models:,} models, {models * PENDING:,} pending"
    return scale, [
        Figure(f"Redis: {name}", taken / 1e6, "MB"),
        Figure("Redis, a pending prediction", rows / models / PENDING, "bytes"),
        Figure("Redis, a model of 20 features without its pending", (taken - rows) / models, "bytes"),
    ]


def measure(redis_url: str, many: int) -> list[Figure]:
    """Build both states and measure them turn about."""
    import redis

    client = redis.Redis.from_url(redis_url)
    small, _ = built(client, HOT)
    large, figures = built(client, many)
    cost = {small: np.zeros((BATCHES, 3)), large: np.zeros((BATCHES, 3))}
    for i in range(BATCHES):
        for scale in (small, large) if i % 2 else (large, small):
            models = [range(HOT)] * (BATCH_RECORDS // HOT)
            cost[scale][i] = scale.take([record for each in models for record in scale.records(each)])
    one, other = np.median(cost[small], axis=0), np.median(cost[large], axis=0)
    name = f"{many:,} models, {many * PENDING:,} pending"
    beside = f"{HOT} models, {HOT * PENDING:,} pending"
    per = BATCH_RECORDS * PACKED
    figures += [
        Figure(f"fold and changed(), a batch of {per:,}: {name}", other[0] * 1e3, "ms", beside, other[0] / one[0]),
        Figure(f"commit, a batch of {per:,}: {name}", other[1] * 1e3, "ms", beside, other[1] / one[1]),
        Figure(f"committed by a batch of {per:,}: {name}", other[2] / 1e3, "kB", beside, other[2] / one[2]),
    ]
    for scale in (small, large):
        seconds, size = scale.restore()
        figures.append(Figure(f"claim and restore: {scale.models:,} models, {size / 1e6:,.1f} MB", seconds, "s"))
    return figures


def main() -> None:
    """Start Redis and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, redis_service(Path(name)) as redis_url:
        figures = measure(redis_url, 100 if options.quick else 1_000)
    show("A state's size and what it costs", figures, as_json=options.json)


if __name__ == "__main__":
    main()
