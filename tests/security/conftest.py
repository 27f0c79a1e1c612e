"""One secured Kafka and one secured Redis for all tests of this room."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlmm.runtime.rights import ROLES
from mlmm.runtime.settings import Settings, load
from tests.security.certificates import Authority
from tests.security.secured import SecuredKafka, SecuredRedis
from tests.services import NoServiceError, unavailable

USERS = (*(role.name for role in ROLES), "admin", "nobody")


class Secured(NamedTuple):
    """Services that want TLS and a logon."""

    kafka: SecuredKafka
    redis: SecuredRedis
    authority: Authority
    stranger: Authority
    """Signed nothing that is used here."""

    def values(self, user: str) -> dict[str, Any]:
        """Settings of ``user``, by dotted key."""
        return {
            "kafka.bootstrap_servers": self.kafka.secure,
            "kafka.security_protocol": "SASL_SSL",
            "kafka.sasl_mechanism": "SCRAM-SHA-512",
            "kafka.sasl_username": user,
            "kafka.sasl_password": self.kafka.users[user],
            "kafka.ssl_cafile": str(self.authority.certificate),
            "kafka.connect_timeout": "30s",
            "redis.url": f"rediss://{self.redis.secure}/0",
            "redis.ssl_cafile": str(self.authority.certificate),
        }

    def settings(self, user: str, **changes: Any) -> Settings:
        """Return the settings of ``user``; ``kafka__partitions=1`` changes one."""
        changed = {name.replace("__", "."): value for name, value in changes.items()}
        return load(env={}, arguments={**self.values(user), **changed})


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Give both, with a user a role; what they may do is granted by tests."""
    folder = tmp_path_factory.mktemp("secured")
    made: list[Any] = []
    try:
        authority = Authority(folder, "authority")
        for name, kind in (("kafka", SecuredKafka), ("redis", SecuredRedis)):
            (folder / name).mkdir()
            made.append(_started(kind, folder / name, authority))
        yield Secured(*made, authority, Authority(folder, "stranger"))
    except NoServiceError as reason:
        unavailable(reason)
    finally:
        for server in made:
            server.kill()


def _started(kind: type[Any], folder: Path, authority: Authority) -> Any:
    users = {"users": {user: f"hush-kafka-{user}-7Qx" for user in USERS}} if kind is SecuredKafka else {}
    server = kind(folder, authority, **users)
    server.start()
    return server
