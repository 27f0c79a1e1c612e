"""Real Kafka and real Redis for the tests.

Where they come from, first that works:

1. ``MLMM_TEST_KAFKA`` (host:port) and ``MLMM_TEST_REDIS`` (URL) name services that run already;
2. a Docker engine that answers: testcontainers;
3. Kafka 4.3 from its Maven artifacts (Java 17, Maven) and ``redis-server`` or ``valkey-server`` on PATH.

Where none can be had a test is skipped, saying what to install; ``MLMM_REQUIRE_SERVICES=1`` makes that a failure.
``python -m tests.services`` starts both and prints what to export, for work by hand and for benchmarks.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tests.servers import KafkaServer, NoServiceError, RedisServer, free_port

__all__ = [
    "KafkaServer",
    "NoServiceError",
    "RedisServer",
    "free_port",
    "kafka_service",
    "redis_service",
    "unavailable",
    "unique",
]


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


@contextlib.contextmanager
def kafka_service(folder: Path) -> Iterator[str]:
    """Yield ``host:port`` of a real Kafka."""
    given = os.environ.get("MLMM_TEST_KAFKA")
    if given:
        yield given
    elif _docker_answers():
        from testcontainers.community.kafka import KafkaContainer

        with KafkaContainer().with_kraft() as container:
            yield container.get_bootstrap_server()
    else:
        server = KafkaServer(folder)
        server.start()
        try:
            yield server.address
        finally:
            server.kill()


@contextlib.contextmanager
def redis_service(folder: Path) -> Iterator[str]:
    """Yield the URL of a real Redis."""
    given = os.environ.get("MLMM_TEST_REDIS")
    if given:
        yield given
    elif _docker_answers():
        from testcontainers.community.redis import RedisContainer

        with RedisContainer("redis:8") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
    else:
        server = RedisServer(folder)
        server.start()
        try:
            yield server.url
        finally:
            server.kill()


def unavailable(reason: NoServiceError) -> NoReturn:
    """Skip the test, saying what to install; fail it where ``MLMM_REQUIRE_SERVICES=1``."""
    import pytest

    if os.environ.get("MLMM_REQUIRE_SERVICES") == "1":
        pytest.fail(f"MLMM_REQUIRE_SERVICES=1: {reason}")
    pytest.skip(str(reason))


def unique(name: str) -> str:
    """Return a name that no other test uses: one broker and one Redis serve all of them."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def _main() -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "kafka").mkdir()
        (folder / "redis").mkdir()
        kafka = stack.enter_context(kafka_service(folder / "kafka"))
        redis = stack.enter_context(redis_service(folder / "redis"))
        print(f"export MLMM_TEST_KAFKA={kafka} MLMM_TEST_REDIS={redis}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    _main()
