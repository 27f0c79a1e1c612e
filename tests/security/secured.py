"""A Kafka and a Redis that want TLS and a logon, and allow nothing that was not granted."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.security.certificates import Authority
from tests.services import KafkaServer, NoServiceError, RedisServer, free_port

__all__ = ["SecuredKafka", "SecuredRedis"]


class SecuredKafka(KafkaServer):
    """A broker with TLS and SCRAM, PLAIN over TLS, or client certificates; StandardAuthorizer denies by default.

    Its certificate is for the name ``localhost`` and not for 127.0.0.1. Only the tests' own listener without TLS (the
    address of `KafkaServer`) may do everything.

    Parameters
    ----------
    folder : Path
        Data and configuration.
    authority : Authority
        Signs its certificate, and those of clients.
    users : Mapping
        Name → password, for SCRAM-SHA-512 and for PLAIN.
    """

    def __init__(self, folder: Path, authority: Authority, users: Mapping[str, str]) -> None:
        self.users = dict(users)
        self.secure_port, self.mutual_port = free_port(), free_port()
        self.secure, self.mutual = f"localhost:{self.secure_port}", f"localhost:{self.mutual_port}"
        self.keystore, self.authority = folder / "broker.keystore.pem", authority
        self.keystore.write_text(authority.sign("broker", "localhost").both)
        super().__init__(folder)

    def _properties(self) -> str:
        plain = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        lines = super()._properties().splitlines()
        changed = []
        for line in lines:
            key, _, value = line.partition("=")
            if key == "listeners":
                value += f",SECURE://127.0.0.1:{self.secure_port},MUTUAL://127.0.0.1:{self.mutual_port}"
            elif key == "advertised.listeners":
                value += f",SECURE://{self.secure},MUTUAL://{self.mutual}"
            changed.append(f"{key}={value}")
        return (
            "\n".join(changed)
            + f"""
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.secure.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required {plain};
ssl.keystore.type=PEM
ssl.keystore.location={self.keystore}
ssl.truststore.type=PEM
ssl.truststore.location={self.authority.certificate}
listener.name.mutual.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
"""
        )

    def _format_arguments(self) -> list[str]:
        scram = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in self.users.items()]
        return [part for each in scram for part in ("--add-scram", each)]


class SecuredRedis(RedisServer):
    """A Redis with TLS, certificate for ``localhost``; ``users`` are lines of its ACL file.

    Only the tests' own port without TLS (the URL of `RedisServer`) lets the user ``default`` in, without a password.
    """

    def __init__(self, folder: Path, authority: Authority, *, aof: bool = False) -> None:
        super().__init__(folder, aof=aof)
        self.binary = _redis_with_tls()
        self.secure_port = free_port()
        self.secure = f"localhost:{self.secure_port}"
        self.authority, self.pair = authority, authority.sign("redis", "localhost")

    def _options(self) -> dict[str, Any]:
        return super()._options() | {
            "tls-port": self.secure_port,
            "tls-cert-file": self.pair.certificate,
            "tls-key-file": self.pair.key,
            "tls-ca-cert-file": self.authority.certificate,
            "tls-auth-clients": "no",
        }


def _redis_with_tls() -> str:
    """Find a server that was built with TLS: the one that the embedded Redis brings, and may stand first, was not."""
    for folder in os.get_exec_path():
        for name in ("redis-server", "valkey-server"):
            file = Path(folder) / name
            if file.is_file() and b"tls-cert-file" in file.read_bytes():
                return str(file)
    raise NoServiceError("no redis-server with TLS on PATH: apt-get install redis-server")
