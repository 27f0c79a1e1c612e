"""A seeded stream of serving and training records: drift, late labels, duplicates, doomed runs."""

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from kafka import KafkaProducer

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    Falling,
    LabelBlock,
    LabelHead,
    MetricsBlock,
    MetricsHead,
    NotFinite,
    PredictionBlock,
    PredictionHead,
    RunStarted,
    cloudevents_headers,
    encode_columns,
    encode_json,
)
from tests.faults.deployment import Deployment

FEATURES = tuple(f"f{i}" for i in range(6))
MODELS = ("fraud", "churn", "ads", "search", "credit#0", "credit#1", "ranking")
PACKED = 200
RUNS = 12
STEPS_A_ROUND = 10


class Sent(NamedTuple):
    """One record to be sent."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    events: int


class Workload:
    """Makes ``rounds`` rounds; each has a record of predictions and one of labels a model, and metrics of every run.

    All that can happen has happened by round ``plan``, which is the last one unless it is given.
    """

    def __init__(self, seed: int, rounds: int, *, plan: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.rounds, self.plan = rounds, plan or rounds
        self.turn = 0
        """The round that is being sent."""
        self.heads = {key: PredictionHead(model=key.split("#")[0], features=FEATURES) for key in MODELS}
        self.unlabelled: dict[str, list[tuple[str, float]]] = {key: [] for key in MODELS}
        self.number = 0

    def __iter__(self) -> Iterator[list[Sent]]:
        yield [self._started(run) for run in range(RUNS)]
        for turn in range(self.rounds):
            self.turn = turn
            sent: list[Sent] = []
            for key in MODELS:
                sent.append(self._predictions(key, turn))
                if len(self.unlabelled[key]) >= 2 * PACKED:  # labels lag by a record or two
                    sent.append(self._labels(key))
            sent += [self._metrics(run, turn) for run in range(RUNS)]
            yield sent

    def _sent(self, topic: str, key: str, kind: str, content: str, value: bytes, events: int) -> Sent:
        self.number += 1
        headers = cloudevents_headers(kind, f"w{self.number}", "mlmm://workload/1", _now(), content)
        return Sent(topic, key.encode(), value, headers, events)

    def _predictions(self, key: str, turn: int) -> Sent:
        drifted = turn > self.plan // 2 and key in {"fraud", "ads", "credit#1"}
        rng, n = self.rng, PACKED
        values = rng.normal(loc=3.0 if drifted else 0.0, size=(n, len(FEATURES)))
        values[rng.random(values.shape) < 0.01] = np.nan
        outputs = rng.integers(0, 2, n).astype(float)
        wrong = rng.random(n) < (0.4 if drifted else 0.05)
        ids = [f"{key}-{turn}-{i // 2 if i < 10 else i}" for i in range(n)]  # a few come twice
        truth = np.where(wrong, 1 - outputs, outputs)
        self.unlabelled[key] += [(id_, float(t)) for id_, t in zip(ids, truth, strict=True) if rng.random() < 0.8]
        block = PredictionBlock(
            head=self.heads[key], n=n, ids="".join(ids).encode(), id_lengths=_lengths(ids), time=_times(n),
            output=outputs.astype("<f8").tobytes(), features=values.astype("<f8").tobytes(),
            latency=rng.gamma(2.0, 0.01, n).astype("<f8").tobytes(),
        )  # fmt: skip
        return self._sent("serving", key, "mlmm.predictions.v1", COLUMNS_TYPE, encode_columns(block), n)

    def _labels(self, key: str) -> Sent:
        waiting = self.unlabelled[key]
        self.rng.shuffle(waiting)
        taken, self.unlabelled[key] = waiting[:PACKED], waiting[PACKED:]
        ids = [id_ for id_, _ in taken]
        block = LabelBlock(
            head=LabelHead(model=key.split("#", maxsplit=1)[0]), n=len(ids),
            ids="".join(ids).encode(), id_lengths=_lengths(ids),
            time=_times(len(ids)), value=np.asarray([t for _, t in taken], "<f8").tobytes(),
        )  # fmt: skip
        return self._sent("serving", key, "mlmm.labels.v1", COLUMNS_TYPE, encode_columns(block), len(ids))

    def _started(self, run: int) -> Sent:
        event = RunStarted(
            run_id=f"run-{run:02d}", attempt="0001", time=_now(), experiment="exactness", model="fraud",
            triggers=(Falling(metric="val/accuracy"), NotFinite()), heartbeat_every=600.0,
        )  # fmt: skip
        return self._sent("training", event.run_id, "mlmm.run.started.v1", JSON, encode_json(event), 1)

    def _metrics(self, run: int, turn: int) -> Sent:
        n, first = STEPS_A_ROUND, turn * STEPS_A_ROUND
        steps = np.arange(first, first + n)
        doomed = run % 3 == 0
        peak = self.plan * STEPS_A_ROUND // 3
        accuracy = 0.9 - (np.maximum(0, steps - peak) * 0.002 if doomed else 0) + self.rng.normal(0, 0.01, n)
        loss = 1 / (1 + steps) + self.rng.normal(0, 0.01, n)
        if run == 1 and turn == self.plan - 3:
            loss[n // 2] = np.nan
        block = MetricsBlock(
            head=MetricsHead(run_id=f"run-{run:02d}", attempt="0001", names=("loss", "val/accuracy")), n=n,
            step=steps.astype("<i8").tobytes(), time=_times(n),
            values=np.column_stack([loss, accuracy]).astype("<f8").tobytes(),
        )  # fmt: skip
        return self._sent("training", block.head.run_id, "mlmm.run.metrics.v1", COLUMNS_TYPE, encode_columns(block), n)


def _now() -> int:
    return time.time_ns() // 1000


def _times(n: int) -> bytes:
    return (np.int64(_now()) - np.arange(n)[::-1]).astype("<i8").tobytes()


def _lengths(ids: list[str]) -> bytes:
    return np.fromiter((len(i.encode()) for i in ids), "<u4", len(ids)).tobytes()


def send(deployment: Deployment, workload: Workload, seconds: float, stop: threading.Event) -> int:
    """Send the workload at an even pace; return the number of events."""
    producer = KafkaProducer(bootstrap_servers=deployment.kafka, acks="all", linger_ms=5, retries=100)
    sent, pace = 0, seconds / workload.rounds
    began = time.monotonic()
    for turn, records in enumerate(workload):
        for record in records:
            producer.send(deployment.topic(record.topic), record.value, key=record.key, headers=record.headers)
            sent += record.events
        if stop.wait(max(0.0, began + turn * pace - time.monotonic())):
            break
    producer.flush()
    producer.close()
    return sent
