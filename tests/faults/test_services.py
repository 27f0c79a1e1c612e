"""The services of the fault tests: what clients reach through a proxy, and what they reach aside."""

import socket
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient, NewTopic

from tests.faults.proxy import Proxy
from tests.services import KafkaServer, NoServiceError, RedisServer, free_port, unavailable, unique
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


def test_clients_of_a_kafka_behind_a_proxy_pass_it(tmp_path: Path) -> None:
    """Who dials the proxy stays with it after the first answer; who dials aside never meets it."""
    port = free_port()
    with Proxy(f"127.0.0.1:{port}") as proxy:
        try:
            broker = KafkaServer(tmp_path, port, advertised=proxy.address)
        except NoServiceError as reason:
            unavailable(reason)
        broker.start()
        try:
            assert proxy.connections == 0
            topic = unique("proxied")
            admin = KafkaAdminClient(bootstrap_servers=broker.aside)
            admin.create_topics([NewTopic(topic, 1, 1)])
            admin.close()
            assert proxy.connections == 0
            consumer = KafkaConsumer(bootstrap_servers=proxy.address)
            assert consumer.partitions_for_topic(topic) == {0}
            addresses = {f"{node.host}:{node.port}" for node in consumer._client.cluster.brokers()}
            assert addresses == {proxy.address}
            consumer.close()
            proxy.cut()
            aside = KafkaConsumer(bootstrap_servers=broker.aside)
            assert aside.partitions_for_topic(topic) == {0}
            aside.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
        finally:
            broker.kill()


def test_a_replica_follows_and_can_stay_behind(tmp_path: Path) -> None:
    """It has what its master had; made a master, it takes writes of its own."""
    servers = []
    for name in ("master", "replica"):
        (tmp_path / name).mkdir()
        try:
            servers.append(RedisServer(tmp_path / name))
        except NoServiceError as reason:
            unavailable(reason)
    master, replica = servers
    try:
        for server in servers:
            server.start()
        with redis.Redis.from_url(master.url) as one, redis.Redis.from_url(replica.url) as other:
            one.set("a", 1)
            replica.replica_of(master.address)
            wait_until(lambda: other.get("a") == b"1", timeout=60, what="the replica")
            replica.replica_of(None)
            one.set("a", 2)
            other.set("b", 1)
            assert other.get("a") == b"1"
    finally:
        for server in servers:
            server.kill()


def fill(client: redis.Redis) -> None:
    for number in range(1000):
        client.set(f"k{number}", b"x" * 10_000)


def test_a_lost_tail_leaves_what_was_before_and_a_snapshot_what_was_then(tmp_path: Path) -> None:
    """Half a command at the end of the append-only file is cut off by Redis itself."""
    (tmp_path / "redis").mkdir()
    try:
        server = RedisServer(tmp_path / "redis", aof=True, fsync="always")
    except NoServiceError as reason:
        unavailable(reason)
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.set("a", 1)
            server.snapshot(tmp_path / "older")
            client.set("b", 1)
            server.kill()
            assert server.lose_tail(3) == 3
            server.start()
            assert (client.get("a"), client.get("b")) == (b"1", None)
            client.set("a", 2)
            server.kill()
            server.restore(tmp_path / "older")
            server.start()
            assert client.get("a") == b"1"
            server.set(maxmemory="4mb")
            with pytest.raises(redis.OutOfMemoryError):
                fill(client)
    finally:
        server.kill()
