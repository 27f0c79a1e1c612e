"""Services that go away and come back: the end is that of a replay of the log, byte for byte.

Each story is one deployment of two workers and the rules, under load from its start. What it suffers, how long it took
to catch up once its service was back, and what was lost or came twice is printed (``pytest -rP``).
``MLMM_FAULT_SECONDS`` is how long a service is unreachable.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.faults.proxy import Proxy
from tests.faults.story import FAULT_SECONDS, Services, Story
from tests.services import KafkaServer, NoServiceError, RedisServer, free_port, unavailable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

REDIS_AWAY = ("redis away, trying again",)
BEHIND = ("it came back older", "READONLY")
FULL = ("OOM", "maxmemory")
LOST_TAIL = 200_000
"""Bytes: about a second of commits."""
KAFKA_AWAY = ("kafka does not answer", "outputs not taken")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaServer, Proxy]]:
    """A Kafka behind a proxy, for all stories of this module."""
    port = free_port()
    with Proxy(f"127.0.0.1:{port}") as proxy:
        try:
            server = KafkaServer(tmp_path_factory.mktemp("kafka"), port, advertised=proxy.address)
        except NoServiceError as reason:
            unavailable(reason)
        server.start()
        try:
            yield server, proxy
        finally:
            server.kill()


@pytest.fixture
def services(broker: tuple[KafkaServer, Proxy], tmp_path: Path) -> Iterator[Services]:
    """Kafka, and a Redis of this story's own with an append-only file."""
    (tmp_path / "redis").mkdir()
    try:
        store = RedisServer(tmp_path / "redis", aof=True, fsync="always")
    except NoServiceError as reason:
        unavailable(reason)
    store.start()
    try:
        with Proxy(store.address) as proxy:
            yield Services(*broker, store, proxy)
    finally:
        store.kill()


def test_kafka_restarted_slow_and_resetting(services: Services, tmp_path: Path) -> None:
    """Kafka is restarted in good order and killed, answers 500 ms late, and connections are reset at random."""
    kafka, proxy = services.kafka, services.kafka_proxy
    with Story(services, tmp_path) as story:
        story.suffer("Kafka restarted", kafka.stop, kafka.start, seconds=5)
        story.suffer("Kafka killed and started", kafka.kill, kafka.start, seconds=5)
        story.suffer("Kafka 500 ms late", lambda: proxy.slow(0.5), proxy.heal, seconds=20)
        story.suffer("connections reset at random", lambda: proxy.reset_at_random(0.02), proxy.heal, seconds=20)
        story.prove()


def test_kafka_unreachable(services: Services, tmp_path: Path) -> None:
    """Kafka is a black hole for two thirds of the time, then refuses connections."""
    proxy = services.kafka_proxy

    with Story(services, tmp_path) as story:

        def harm() -> None:
            proxy.swallow()
            story.hold(FAULT_SECONDS * 2 / 3)
            proxy.cut()

        story.suffer("Kafka unreachable", harm, proxy.heal, seconds=FAULT_SECONDS / 3, says=KAFKA_AWAY)
        story.prove()


def test_redis_restarted_killed_put_back_and_failed_over(services: Services, tmp_path: Path) -> None:
    """Redis is restarted, loses the tail of its file, comes back as an older snapshot and as a replica behind."""
    store, proxy = services.redis, services.redis_proxy
    (tmp_path / "replica").mkdir()
    replica = RedisServer(tmp_path / "replica")
    with Story(services, tmp_path) as story, Proxy(store.address) as link:

        def killed() -> None:
            store.kill()
            store.lose_tail(LOST_TAIL)

        def put_back() -> None:
            store.kill()
            store.restore(tmp_path / "older")

        def failed_over() -> None:
            """The replica hears nothing for a while; then it takes the master's place, at first read-only."""
            replica.start()
            replica.replica_of(link.address)
            story.hold(5)
            link.swallow()
            story.hold(8)
            store.kill()
            proxy.retarget(replica.address)

        def promoted() -> None:
            replica.replica_of(None)
            story.deployment.redis_url = replica.url

        try:
            story.suffer("Redis restarted (AOF always)", store.stop, store.start, seconds=5, says=REDIS_AWAY)
            store.set(appendfsync="everysec")
            story.suffer("Redis killed (AOF everysec), its tail lost", killed, store.start, seconds=2, says=REDIS_AWAY)
            store.snapshot(tmp_path / "older")
            story.hold(10)
            story.suffer("Redis restored from 10 s before", put_back, store.start, seconds=2, says=REDIS_AWAY)
            story.suffer("Redis failed over to a replica behind", failed_over, promoted, seconds=3, says=BEHIND)
            story.prove()
        finally:
            replica.kill()


def test_redis_unreachable_and_full(services: Services, tmp_path: Path) -> None:
    """Redis is a black hole for two thirds of the time, then refuses connections; later it is full."""
    store, proxy = services.redis, services.redis_proxy
    with Story(services, tmp_path) as story:

        def harm() -> None:
            proxy.swallow()
            story.hold(FAULT_SECONDS * 2 / 3)
            proxy.cut()

        def full() -> None:
            with redis.Redis.from_url(store.url) as client:
                store.set(maxmemory=str(client.info("memory")["used_memory"] // 2))

        def room() -> None:
            store.set(maxmemory="0")

        story.suffer("Redis unreachable", harm, proxy.heal, seconds=FAULT_SECONDS / 3, says=REDIS_AWAY)
        story.suffer("Redis full", full, room, seconds=15, says=FULL)
        story.prove()
