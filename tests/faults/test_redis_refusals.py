"""What a Redis that takes no writes answers, as its versions and the client library word it, is waited out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from mlmm.runtime import claims
from mlmm.runtime.claims import Log
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.store import Keys
from tests.services import NoServiceError, RedisServer, unavailable, unique

pytestmark = pytest.mark.integration

KEYS = Keys.of("refusals", "counting", 0)
LOG = Log(topic="t", partition=0, topic_id="", partitions=1, first=0, end=0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    try:
        server = RedisServer(tmp_path)
    except NoServiceError as reason:
        unavailable(reason)
    server.start()
    yield server
    server.kill()


def full(server: RedisServer) -> Callable[[], None]:
    server.set(maxmemory="1")
    return lambda: server.set(maxmemory="0")


def without_replicas(server: RedisServer) -> Callable[[], None]:
    server.set(min_replicas_to_write="1")
    return lambda: server.set(min_replicas_to_write="0")


def read_only(server: RedisServer) -> Callable[[], None]:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: server.replica_of(None)


@pytest.mark.parametrize("harm", [full, without_replicas, read_only])
@pytest.mark.parametrize("call", ["script", "command"])
def test_a_redis_that_takes_no_writes_is_waited_for(server: RedisServer, harm, call: str) -> None:
    """Scripts word the refusal otherwise than plain commands, and the library cuts its first word off."""
    mend = harm(server)
    tries: list[Exception] = []

    def again(error: Exception) -> None:
        tries.append(error)
        mend()

    name = unique("refused")
    with redis.Redis.from_url(server.url) as client:

        def write() -> object:
            return claims.claim(client, KEYS, LOG) if call == "script" else client.set(name, 1)

        assert Patience(60, "here", again)(write)
    assert len(tries) == 1
