"""100,000 malformed records and more on every topic, good ones between them: all are told apart, and nobody dies."""

import asyncio
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import TopicPartition
from kafka import KafkaProducer

from mlmm.alerting import AlertingProcessor
from mlmm.events import JSON, Command, cloudevents_headers, decode_events, encode_json, header, partition_of
from mlmm.producers import TrainingRun
from mlmm.runtime import outbox, topics
from mlmm.runtime.claims import Claim
from mlmm.runtime.deadletters import VALUE_MOST
from mlmm.runtime.harness import lenient
from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.metrics import PartitionMetrics
from mlmm.runtime.sequence import Seen, source
from mlmm.runtime.settings import load
from mlmm.runtime.store import Keys
from mlmm.stream_processors import ServingProcessor, TrainingProcessor, warm_up
from tests.faults.deployment import INPUTS, PARTITIONS, Deployment, ends
from tests.faults.flood import GOOD_EVERY, Flood, Sent
from tests.fuzz.mutations import mutate
from tests.fuzz.seeds import case, seeds
from tests.services import unique
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

COUNT = int(os.environ.get("MLMM_BAD_RECORDS", "120000"))
"""Records that are not good; most of them are malformed."""
PATIENCE = 900.0
LARGEST = 1_000_000
"""Bytes of a record as the client counts them: below what the topics take, so that none is the broker's to refuse."""
TEN_MEGABYTES = b'{"unknown":"' + b"x" * (10 << 20) + b'"}'
ROOM = 256 << 20
"""Bytes by which a process may grow between the first third of the flood and its end: caches that fill, no leak."""

Place = tuple[str, int, int]
"""Logical topic, partition, offset."""


@pytest.fixture
def deployment(kafka: str, redis_url: str, tmp_path: Path) -> Iterator[Deployment]:
    warm_up()
    made = Deployment(unique("flood"), unique("flood"), tmp_path, kafka=kafka, redis_url=redis_url)
    topics.create(made.settings)
    try:
        yield made
    finally:
        made.stop()


class Watch:
    """Looks at the processes: who they are, and how much memory they hold."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment, self._done = deployment, threading.Event()
        self.rss: dict[int, list[int]] = defaultdict(list)
        self._before: dict[int, int] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        wait_until(lambda: len(self._deployment.processes()) == 3, timeout=120, what="two workers and the rules")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)

    def _look(self) -> None:
        while not self._done.wait(0.5):
            for process in self._deployment.processes():
                try:
                    self.rss[process.pid].append(process.memory_info().rss)
                except psutil.Error:
                    continue

    def mark(self) -> None:
        """From here on nothing is new: what is held now at most is what growth is measured against."""
        self._before = {pid: max(seen) for pid, seen in self.rss.items()}

    def grown(self) -> dict[int, int]:
        """Bytes by which each process grew since the mark."""
        return {pid: max(seen) - self._before[pid] for pid, seen in self.rss.items()}


async def send(deployment: Deployment, flood: Iterable[Sent], sent: dict[Place, Sent]) -> None:
    """Send records, in their order within each partition; note where each came to lie."""
    producer = AIOKafkaProducer(bootstrap_servers=deployment.kafka, linger_ms=20, max_request_size=LARGEST)
    await producer.start()
    try:
        waiting: list[tuple[Sent, Any]] = []

        async def settle() -> None:
            await producer.flush()
            for each, future in waiting:
                done = await future
                sent[each.case.topic, done.partition, done.offset] = each
            waiting.clear()

        for each in flood:
            made = each.case
            key = made.key or None
            where = partition_of(made.key, PARTITIONS) if each.partition is None else each.partition
            try:
                future = await producer.send(
                    deployment.topic(made.topic), made.value, key=key, headers=list(made.headers), partition=where
                )
            except MessageSizeTooLargeError:
                continue
            waiting.append((each, future))
            if len(waiting) >= 2_000:
                await settle()
        await settle()
    finally:
        await producer.stop()


async def send_compressed(deployment: Deployment, sent: dict[Place, Sent]) -> None:
    """Small in the log, large in memory: each codec, 10 MB a record, good and bad."""
    bad = case("serving", b"fraud", "mlmm.labels.v1", JSON, TEN_MEGABYTES, "ten megabytes")
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        producer = AIOKafkaProducer(
            bootstrap_servers=deployment.kafka,
            compression_type=codec,
            max_request_size=64 << 20,
            max_batch_size=32 << 20,
        )
        await producer.start()
        try:
            for topic in ("serving", "training", "findings"):
                done = await producer.send_and_wait(
                    deployment.topic(topic), bad.value, key=bad.key, headers=list(bad.headers), partition=1
                )
                sent[topic, 1, done.offset] = Sent(bad, "bad")
        finally:
            await producer.stop()


class Name(str):
    """A header's name that is written as bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def send_odd_names(deployment: Deployment, sent: dict[Place, Sent]) -> None:
    """Headers whose names are no UTF-8; what a client in C may write."""
    producer = KafkaProducer(bootstrap_servers=deployment.kafka)
    for topic in ("serving", "training", "findings"):
        for value in (b"{", b"[]"):
            bad = case(topic, b"fraud", "mlmm.labels.v1", JSON, value, "odd name")
            headers = [(Name("?"), b"1"), *bad.headers]
            done = producer.send(
                deployment.topic(topic),
                value,
                key=b"fraud",
                headers=headers,
                partition=partition_of(b"fraud", PARTITIONS),
            ).get(timeout=60)
            sent[topic, done.partition, done.offset] = Sent(bad, "bad")
    producer.close()


async def read(deployment: Deployment, logical: str) -> dict[int, list[Any]]:
    """Read a topic as the workers do; partition → records."""
    topic = deployment.topic(logical)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=deployment.kafka, enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        end = await consumer.end_offsets(places)
        found: dict[int, list[Any]] = {number: [] for number in range(PARTITIONS)}
        while any([await consumer.position(place) < end[place] for place in places]):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                found[place.partition] += records
        return found
    finally:
        await consumer.stop()


def expected(deployment: Deployment, logs: Mapping[str, Mapping[int, Sequence[Any]]]) -> tuple[dict, dict]:
    """Dead letters by place, and cells, as the same code makes them of the log in one process."""
    settings = deployment.settings
    processors = {
        "serving": ServingProcessor(settings.serving),
        "training": TrainingProcessor(settings.training),
        "findings": AlertingProcessor(settings),
    }
    letters: dict[Place, bytes] = {}
    cells: dict[tuple[str, int], dict[bytes, bytes]] = {}
    for topic, processor in processors.items():
        for number, records in logs[topic].items():
            full = deployment.topic(topic)
            partition = Partition(
                processor, full, number, PARTITIONS, keys=Keys.of("x", processor.name, number),
                source=source(deployment.deployment, processor.name, full, number), claim=Claim("t", 1, 0, 0, 0),
                state=processor.state(), seen=Seen() if topic == "findings" else None, metrics=PartitionMetrics(),
            )  # fmt: skip
            for at in range(0, len(records), 500):
                for entry in partition.fold(records[at : at + 500], 0).outputs:
                    made = outbox.message(entry, partition.source, None)
                    if made.topic == "dead-letters":
                        letters[place_of(made.headers)] = header(made.headers, "mlmm_error") or b""
            cells[processor.name, number] = dict(partition.state.cells())
    return letters, cells


def place_of(headers: Any) -> Place:
    topic, partition, offset = (header(headers, f"mlmm_{name}") or b"" for name in ("topic", "partition", "offset"))
    return topic.decode(), int(partition), int(offset)


def caught_up(deployment: Deployment, *processors: str) -> None:
    wanted = ends(deployment, *processors)

    def reached() -> bool:
        deployment.check()
        committed = deployment.offsets()
        return bool(committed) and all(committed[place] >= offset for place, offset in wanted.items())

    wait_until(reached, timeout=PATIENCE, what=f"{processors} to read all of the flood", every=0.5)
    wait_until(lambda: not deployment.outbox(), timeout=PATIENCE, what="all output to be sent", every=0.5)


def test_every_malformed_record_is_a_dead_letter_and_every_good_one_counts(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"seed: MLMM_TEST_SEED={seed}")
    for name in ("PartitionRecords", "MemoryRecords"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    lenient.install()
    flood = Flood(seed, COUNT)
    deployment.start()
    with Watch(deployment) as watch:
        sent: dict[Place, Sent] = {}
        records = iter(flood)
        asyncio.run(send_compressed(deployment, sent))
        asyncio.run(send(deployment, islice(records, COUNT // 3), sent))
        caught_up(deployment, "serving", "training", "alerting")
        watch.mark()
        asyncio.run(send(deployment, records, sent))
        asyncio.run(send_compressed(deployment, sent))
        send_odd_names(deployment, sent)
        caught_up(deployment, "serving", "training")
        # The windows of the last good predictions close by a tick.
        wait_until(
            lambda: closed(deployment) == flood.predictions, timeout=PATIENCE, what="all windows to close", every=2
        )
        deployment.stop("worker")
        caught_up(deployment, "alerting")
    deployment.stop()
    state = deployment.state()
    logs = {topic: asyncio.run(read(deployment, topic)) for topic in INPUTS.values()}
    for (processor, number), (offset, _) in state.items():
        logs[INPUTS[processor]][number] = [r for r in logs[INPUTS[processor]][number] if r.offset < offset]
    found = [record for records in asyncio.run(read(deployment, "dead-letters")).values() for record in records]

    places = Counter(place_of(record.headers) for record in found)
    assert max(places.values()) == 1, "a letter was sent twice, and nobody died"
    bad = {place for place, each in sent.items() if each.kind == "bad"}
    good = {place for place, each in sent.items() if each.kind == "good"}
    assert bad <= set(places), f"taken: {[sent[place].case for place in list(bad - set(places))[:3]]}"
    assert not good & set(places)
    assert set(places) <= set(sent), "what workers wrote themselves was refused"
    assert len(places) >= 100_000 or COUNT < 110_000
    letters, cells = expected(deployment, logs)
    assert {place_of(record.headers): header(record.headers, "mlmm_error") for record in found} == letters
    for place, (_, stored) in state.items():
        assert stored == cells[place], f"cells of {place} differ"
    check_originals(found, sent)

    check_good(deployment, flood, logs)
    assert len(watch.rss) == 3, f"a process died: {deployment.log()}"
    grown = watch.grown()
    print(
        f"{len(sent):,} records, {len(bad):,} of them malformed by design, {len(places):,} dead letters; memory of the "
        f"processes grew by {', '.join(f'{each / 1e6:.0f}' for each in grown.values())} MB"
    )
    assert max(grown.values()) < ROOM


def closed(deployment: Deployment) -> float:
    """Good predictions that reports have told of so far, late ones included."""
    told = 0.0
    for records in asyncio.run(read(deployment, "findings")).values():
        for record in records:
            if record.key == b"good" and header(record.headers, "ce_type") == b"mlmm.report.v1":
                (report,) = decode_events("mlmm.report.v1", JSON, record.value)
                if report.kind == "service":
                    told += report.figures["predictions"] + report.figures["late"]
    return told


def check_originals(found: Sequence[Any], sent: Mapping[Place, Sent]) -> None:
    """A letter holds what was sent, but for what is too large."""
    for record in found:
        each = sent[place_of(record.headers)].case
        if header(record.headers, "mlmm_truncated") is None:
            assert (record.value, record.key or b"") == (each.value, each.key)
        else:
            assert len(each.value) > VALUE_MOST or header(record.headers, "mlmm_left_out") is not None


def check_good(deployment: Deployment, flood: Flood, logs: Mapping[str, Mapping[int, Sequence[Any]]]) -> None:
    assert closed(deployment) == flood.predictions
    states = [
        event
        for records in logs["findings"].values()
        for record in records
        if record.key == b"good" and header(record.headers, "ce_type") == b"mlmm.run.state.v1"
        for event in decode_events("mlmm.run.state.v1", JSON, record.value)
    ]
    (fired,) = [each for each in states if each.trigger]
    assert (fired.trigger, fired.step) == ("falling_strict", flood.rounds - 1), "a good metric was lost or came twice"
    incidents = [
        event
        for records in asyncio.run(read(deployment, "incidents")).values()
        for record in records
        for event in decode_events("mlmm.incident.v1", JSON, record.value)
        if event.subject.model == "watched"
    ]
    assert len({each.incident_id for each in incidents}) == 1
    assert max(each.evidence["alarms"] for each in incidents) == flood.rounds == -(-COUNT // GOOD_EVERY)


def test_what_is_larger_than_a_topic_takes_is_the_producers_error(deployment: Deployment):
    """It never becomes a record, so there is no dead letter of it."""

    async def refused() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=deployment.kafka, max_request_size=64 << 20)
        await producer.start()
        try:
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_and_wait(deployment.topic("serving"), bytes(2 << 20), key=b"fraud")
        finally:
            await producer.stop()

    asyncio.run(refused())
    assert not any(asyncio.run(read(deployment, "serving")).values())


def test_malformed_commands_stop_nobody_and_hide_no_good_one(deployment: Deployment):
    """No worker reads commands, so there are no dead letters: trainers pass over what is none, and obey what is one."""
    seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"seed: MLMM_TEST_SEED={seed}")
    rng = random.Random(seed)
    orders = [each for each in seeds() if each.topic == "commands"]

    async def flood() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=deployment.kafka, linger_ms=20, max_request_size=4 << 20)
        await producer.start()
        for _ in range(5_000):
            made = mutate(rng.choice(orders), rng)
            if len(made.value) < 900_000:
                await producer.send(
                    deployment.topic("commands"), made.value, key=made.key or None, headers=list(made.headers),
                    partition=rng.randrange(PARTITIONS),
                )  # fmt: skip
        await producer.stop()

    settings = load(deployment.config, env={})
    with TrainingRun("flood", run_id="obedient", settings=settings) as run:
        asyncio.run(flood())
        assert not run.should_stop
        now = time.time_ns() // 1_000
        command = Command(
            command_id="good",
            kind="stop",
            run_id="obedient",
            issued_at=now,
            expires_at=now + 600_000_000,
            issued_by="test",
        )
        good = KafkaProducer(bootstrap_servers=deployment.kafka)
        headers = cloudevents_headers("mlmm.command.v1", "good", "test", now, JSON)
        good.send(deployment.topic("commands"), encode_json(command), key=b"obedient", headers=headers).get(timeout=60)
        good.close()
        wait_until(lambda: run.should_stop, timeout=120, what="the good order to be obeyed")
    assert not any(asyncio.run(read(deployment, "dead-letters")).values())
