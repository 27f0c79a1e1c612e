"""What the harness's integration tests share: topics, records, worker processes, and what is left at the end."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import redis as redis_library
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from mlmm.events.headers import cloudevents_headers, header
from mlmm.events.placement import partition_of
from mlmm.runtime.processor import Record
from mlmm.runtime.sequence import Seen
from mlmm.runtime.settings import load
from mlmm.runtime.store import read_cells
from tests.runtime.counting import Counting
from tests.services import unique
from tests.waiting import wait_until

TOPICS = ("serving", "training", "findings", "dead-letters")


class Worker:
    """One worker process."""

    def __init__(self, path: Path, settings: Mapping[str, Any], slot: str, **given: Any) -> None:
        self.log = path
        arguments = json.dumps({"settings": settings, "slot": slot, **given})
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.runtime.counting_worker", arguments], stdout=log, stderr=log
            )

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout: float = 40) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def ended(self, timeout: float = 60) -> int:
        """Wait for it to end by itself."""
        wait_until(lambda: self.process.poll() is not None, timeout=timeout, what=f"{self.log} to end")
        return int(self.process.returncode)


class Rig:
    """A deployment of its own on shared services."""

    def __init__(self, folder: Path, kafka: str, redis_url: str, *, partitions: int = 3, **settings: Any) -> None:
        self.folder, self.kafka, self.partitions = folder, kafka, partitions
        self.name = unique("harness")
        self.settings_given = {
            "deployment": self.name,
            "topic_prefix": self.name,
            "kafka.bootstrap_servers": kafka,
            "kafka.session_timeout": "6s",
            "kafka.heartbeat_interval": "500ms",
            "redis.url": redis_url,
            **settings,
        }
        self.settings = load(env={}, arguments=self.settings_given)
        self.redis = redis_library.Redis.from_url(redis_url)
        self.workers: list[Worker] = []
        self.sent: Counter[bytes] = Counter()
        self.sums: Counter[bytes] = Counter()

    def __enter__(self) -> Self:
        self.connect()
        topics = {"num_partitions": self.partitions, "configs": {"message.timestamp.type": "LogAppendTime"}}
        self.admin.create_topics({self.topic(name): {"replication_factor": 1, **topics} for name in TOPICS})
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
            worker.kill()
        self.disconnect()
        self.redis.close()

    def connect(self) -> None:
        self.admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        self.producer = KafkaProducer(bootstrap_servers=self.kafka, linger_ms=5)
        self.consumer = KafkaConsumer(bootstrap_servers=self.kafka)

    def disconnect(self) -> None:
        for client in (self.consumer, self.producer, self.admin):
            client.close()

    def topic(self, logical: str) -> str:
        return f"{self.name}.{logical}"

    def start(self, slot: str = "0", **given: Any) -> Worker:
        path = self.folder / f"worker-{slot}-{len(self.workers)}.log"
        worker = Worker(path, self.settings_given, slot, **given)
        self.workers.append(worker)
        return worker

    def send(self, key: bytes, value: Any, topic: str = "serving", partition: int | None = None, id: str = "") -> None:  # noqa: A002
        """Send one record; integers are counted as what must come out."""
        headers = cloudevents_headers("mlmm.predictions.v1", id or unique("r"), "test", 0, "application/octet-stream")
        self.producer.send(
            self.topic(topic), msgspec.msgpack.encode(value), key=key, headers=headers, partition=partition
        )
        if isinstance(value, list) and partition is None:
            self.sent[key] += len(value)
            self.sums[key] += sum(value)

    def send_many(self, records: int, events: int, seed: int, keys: int = 20, topic: str = "serving") -> None:
        draw = random.Random(seed)
        for _ in range(records):
            self.send(b"model-%d" % draw.randrange(keys), [draw.randrange(100) for _ in range(events)], topic)

    def ends(self, topic: str) -> dict[int, int]:
        self.producer.flush()
        places = [TopicPartition(self.topic(topic), n) for n in range(self.partitions)]
        return {place.partition: end for place, end in self.consumer.end_offsets(places).items()}

    def state(self, partition: int, processor: str = "counting") -> tuple[int | None, dict[bytes, bytes]]:
        return read_cells(self.redis, self.name, processor, partition)

    def outbox(self, partition: int, processor: str = "counting") -> int:
        return int(self.redis.llen(f"{{{self.name}:{processor}:{partition}}}:outbox"))

    def caught_up(self, topic: str = "serving", processor: str = "counting") -> bool:
        ends = self.ends(topic)
        return all(
            (self.state(n, processor)[0] or 0) >= end and not self.outbox(n, processor) for n, end in ends.items()
        )

    def wait_until_caught_up(self, timeout: float = 90, topic: str = "serving", processor: str = "counting") -> None:
        self.producer.flush()
        wait_until(
            lambda: self.caught_up(topic, processor), timeout=timeout, what="all to be committed and drained", every=0.2
        )

    def read(self, topic: str) -> list[tuple[int, Record]]:
        """All records of a topic, with their partitions."""
        self.producer.flush()
        places = [TopicPartition(self.topic(topic), n) for n in range(self.partitions)]
        consumer = self.consumer
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found: list[tuple[int, Record]] = []

        def all_read() -> bool:
            for place, records in consumer.poll(timeout_ms=200).items():
                found.extend(
                    (place.partition, Record(r.offset, r.timestamp * 1000, r.key or b"", r.value, r.headers))
                    for r in records
                )
            return all(consumer.position(place) >= end for place, end in ends.items())

        wait_until(all_read, timeout=60, what=f"{topic} to be read")
        return found

    def outputs(self, topic: str = "findings") -> tuple[list[tuple[int, Record]], list[tuple[int, Record]]]:
        """All outputs as sent, and what is left of them after dropping by sequence."""
        sent = self.read(topic)
        kept: list[tuple[int, Record]] = []
        for partition in range(self.partitions):
            kept += [(partition, record) for record in Seen().fresh([record for n, record in sent if n == partition])]
        return sent, kept

    def totals(self, processor: str = "counting") -> dict[bytes, tuple[int, int]]:
        totals: dict[bytes, tuple[int, int]] = {}
        for partition in range(self.partitions):
            state = Counting(layouts=(1, 2)).state()
            state.load(self.state(partition, processor)[1].items())
            totals |= {key: (cell[0], cell[1]) for key, cell in state.sums.items()}
        return totals

    def assert_exact(self, every: int = 10) -> tuple[int, int]:
        """Count, sum and outputs are those of one undisturbed reading; returns (outputs sent, outputs kept)."""
        assert self.totals() == {key: (count, self.sums[key]) for key, count in self.sent.items()}
        sent, kept = self.outputs()
        expected = self.replay(every)
        found = sorted((record.key, header(record.headers, "ce_id"), record.value) for _, record in kept)
        assert found == sorted(expected)
        assert all(partition == partition_of(record.key, self.partitions) for partition, record in kept)
        return len(sent), len(kept)

    def replay(self, every: int = 10) -> list[tuple[bytes, bytes, bytes]]:
        """Outputs of the same log read in one go, without Kafka's and Redis' doings."""
        expected = []
        log = self.read("serving")
        for partition in range(self.partitions):
            state = Counting(every=every).state()
            records = [record for n, record in log if n == partition and partition_of(record.key, self.partitions) == n]
            expected += [(o.key, o.id.encode(), o.value) for o in state.process(records) if o.topic == "findings"]
        return expected
