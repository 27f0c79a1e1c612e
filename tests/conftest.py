"""Fixtures that all rooms share: real services, once a session."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.services import NoServiceError, kafka_service, redis_service, unavailable

# How fast a machine is decides nothing here: what is slow is seen in benchmarks/.
settings.register_profile("mlmm", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mlmm")


@pytest.fixture(autouse=True)
def _close_emitters() -> Iterator[None]:
    """Close the emitters that a test left: their threads would look for its broker during all later tests."""
    yield
    registry = sys.modules.get("mlmm.producers.registry")
    for emitter in tuple(registry._emitters) if registry else ():
        emitter.close(2.0)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give ``host:port`` of a real Kafka that all tests of the session share: use unique names."""
    try:
        with kafka_service(tmp_path_factory.mktemp("kafka")) as address:
            yield address
    except NoServiceError as reason:
        unavailable(reason)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the URL of a real Redis that all tests of the session share: use unique names."""
    try:
        with redis_service(tmp_path_factory.mktemp("redis")) as url:
            yield url
    except NoServiceError as reason:
        unavailable(reason)
