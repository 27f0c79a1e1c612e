"""The harness on the embedded broker: no admin calls, no topic ids, the producer's time for log time."""

import signal
from pathlib import Path

import msgspec
from kafka import KafkaProducer

from mlmm.events.placement import partition_of
from mlmm.runtime.embedded_kafka import EmbeddedKafka
from mlmm.runtime.harness import Exit
from mlmm.runtime.settings import load
from mlmm.runtime.store import read_cells
from tests.runtime.counting import Counting
from tests.runtime.rig import Worker
from tests.services import unique
from tests.waiting import wait_until


def test_a_worker_reads_the_embedded_broker_and_goes_on_after_a_restart(tmp_path: Path, redis_url: str):
    name = unique("embedded")
    with EmbeddedKafka(partitions=2, topic_prefix=name) as broker:
        given = {
            "deployment": name,
            "topic_prefix": name,
            "kafka.bootstrap_servers": broker.address,
            "kafka.api_version": broker.api_version,
            "kafka.session_timeout": "6s",
            "kafka.heartbeat_interval": "500ms",
            "worker.tick_interval": "100ms",
            "redis.url": redis_url,
        }
        settings = load(env={}, arguments=given)
        producer = KafkaProducer(**settings.kafka.client_options("kafka-python"))
        from redis import Redis

        redis = Redis.from_url(redis_url)
        rounds = 0

        def send(value: object) -> None:
            for n in range(20):
                producer.send(f"{name}.serving", msgspec.msgpack.encode(value), key=b"m%d" % n)
            producer.flush()

        def counts() -> dict[bytes, int]:
            found: dict[bytes, int] = {}
            for partition in range(2):
                state = Counting().state()
                state.load(read_cells(redis, name, "counting", partition)[1].items())
                found |= {key: cell[0] for key, cell in state.sums.items() if not cell[2]}
            return found

        for _ in range(2):
            worker = Worker(tmp_path / f"{rounds}.log", given, "0")
            try:
                rounds += 1
                send([1, 2])
                send({"arm": 50_000})
                done = {b"m%d" % n: 2 * rounds for n in range(20)}
                wait_until(
                    lambda done=done: counts() == done, timeout=40, what="all to be counted, all deadlines to fire"
                )
                worker.signal(signal.SIGTERM)
                assert worker.ended() == Exit.FINE
            finally:
                worker.kill()
        producer.close()
        redis.close()
    assert {partition_of(b"m%d" % n, 2) for n in range(20)} == {0, 1}
