"""Clients from settings: what each library is told, and what is said when nothing answers."""

import asyncio
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from mlmm.runtime.connections import (
    async_redis_client,
    kafka_errors,
    kafka_producer,
    redis_client,
    redis_errors,
    ssl_context,
)
from mlmm.runtime.errors import MissingExtra, ServiceUnavailable, SettingsError
from mlmm.runtime.extras import require
from mlmm.runtime.settings import KafkaSettings, RedisSettings, Settings

SECURE = KafkaSettings(
    bootstrap_servers="a:1, b:2",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="me",
    sasl_password="hush",
    ssl_check_hostname=False,
)


@pytest.fixture
def nowhere() -> str:
    """Give an address that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def test_plain_options_are_addresses_and_protocol():
    plain = KafkaSettings(bootstrap_servers="a:1,b:2")
    expected = {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert plain.client_options("kafka-python") == plain.client_options("aiokafka") == expected
    assert plain.client_options("confluent") == {"bootstrap.servers": "a:1,b:2", "security.protocol": "PLAINTEXT"}


def test_only_kafka_python_is_told_the_version():
    old = KafkaSettings(bootstrap_servers="a:1", api_version="2.0")
    assert old.client_options("kafka-python")["api_version"] == (2, 0)
    assert "api_version" not in old.client_options("aiokafka")


@pytest.mark.parametrize("client", ["kafka-python", "aiokafka"])
def test_tls_and_logon_reach_the_python_clients(client):
    options = SECURE.client_options(client)
    assert isinstance(options["ssl_context"], ssl.SSLContext)
    assert not options["ssl_context"].check_hostname
    assert (options["sasl_mechanism"], options["sasl_plain_username"]) == ("SCRAM-SHA-512", "me")
    assert options["sasl_plain_password"] == "hush"


def test_tls_and_logon_reach_confluent():
    options = SECURE.client_options("confluent")
    assert options["ssl.endpoint.identification.algorithm"] == "none"
    assert (options["sasl.mechanisms"], options["sasl.username"], options["sasl.password"]) == (
        "SCRAM-SHA-512",
        "me",
        "hush",
    )


def test_every_option_is_one_that_the_library_knows():
    from aiokafka import AIOKafkaConsumer
    from confluent_kafka import Producer
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.admin import KafkaAdminClient

    ours = set(SECURE.client_options("kafka-python")) | {"client_id", "bootstrap_timeout_ms", "request_timeout_ms"}
    for client in (KafkaProducer, KafkaConsumer, KafkaAdminClient):
        assert ours | {"reconnect_backoff_max_ms", "api_version"} <= set(client.DEFAULT_CONFIG)
    import inspect

    assert set(SECURE.client_options("aiokafka")) <= set(inspect.signature(AIOKafkaConsumer).parameters)
    Producer({**SECURE.client_options("confluent"), "log_level": 0})


@pytest.mark.parametrize(("key", "also"), [("ssl_cafile", {}), ("ssl_certfile", {"ssl_keyfile": "absent.key"})])
def test_a_certificate_that_can_not_be_read_is_named(tmp_path: Path, key, also):
    settings = KafkaSettings(security_protocol="SSL", **{key: str(tmp_path / "absent.pem")}, **also)
    with pytest.raises(SettingsError, match=rf"kafka\.{key}: .*absent\.pem.* can't be used: No such file"):
        ssl_context(settings)


@pytest.mark.parametrize("make", ["kafka_producer", "kafka_consumer", "kafka_admin"])
def test_a_broker_that_is_away_is_told_with_address_and_remedy(make, nowhere):
    """In a process of its own: kafka-python leaves the socket of a failed start to the garbage collector."""
    code = (
        "import sys\n"
        f"from mlmm.runtime.connections import {make} as make\n"
        "from mlmm.runtime.errors import ServiceUnavailable\n"
        "from mlmm.runtime.settings import load\n"
        "given = {'kafka.bootstrap_servers': sys.argv[1], 'kafka.connect_timeout': '300ms'}\n"
        "try: make(load(env={}, arguments=given))\n"
        "except ServiceUnavailable as error: print(error.service, error.address, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, nowhere], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.startswith(f"Kafka {nowhere} Kafka at {nowhere}: ")
    assert "MLMM_KAFKA__BOOTSTRAP_SERVERS" in run.stdout


def test_no_broker_configured_is_a_matter_of_settings():
    with pytest.raises(SettingsError, match="no broker is configured"):
        kafka_producer(Settings())


def test_a_refused_logon_names_its_keys_and_not_the_password():
    from kafka.errors import SaslAuthenticationFailedError

    with pytest.raises(ServiceUnavailable, match="refused the logon") as caught, kafka_errors(SECURE):
        raise SaslAuthenticationFailedError("bad")
    assert "sasl_password" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_redis_that_is_away_is_told_with_address_and_remedy_and_tried_once(nowhere):
    redis = RedisSettings(url=f"redis://me:hush@{nowhere}/0", timeout=0.5)
    client = redis_client(Settings(redis=redis))
    with pytest.raises(ServiceUnavailable) as caught, redis_errors(redis):
        client.ping()
    assert caught.value.address == f"redis://{nowhere}/0"
    assert "MLMM_REDIS__URL" in str(caught.value)
    assert "hush" not in str(caught.value)
    client.close()


def test_redis_clients_are_given_credentials_timeouts_and_no_retries():
    settings = Settings(redis=RedisSettings(url="redis://me:hush@h:1/3", timeout=2))
    for make in (redis_client, async_redis_client):
        options = make(settings).connection_pool.connection_kwargs
        assert (options["host"], options["port"], options["db"]) == ("h", 1, 3)
        assert (options["username"], options["password"]) == ("me", "hush")
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (2, 2)
        assert options["retry"]._retries == 0


def test_redis_answers_both_kinds_of_client(redis_url):
    settings = Settings(redis=RedisSettings(url=redis_url))
    client = redis_client(settings)
    assert client.ping()
    client.close()

    async def ping() -> bool:
        other = async_redis_client(settings)
        try:
            return bool(await other.ping())
        finally:
            await other.aclose()

    assert asyncio.run(ping())


def test_tls_is_used_with_the_certificates_given():
    settings = Settings(redis=RedisSettings(url="rediss://h:1/0", ssl_cafile="/ca.pem"))
    pool = redis_client(settings).connection_pool
    assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert pool.connection_class.__name__ == "SSLConnection"


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingExtra, match=r"The demo needs 'absent_package'.*pip install 'mlmm\[embedded\]'"):
        require("absent_package", extra="embedded", purpose="The demo")


def test_an_import_that_fails_inside_a_package_is_not_taken_for_a_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "broken_inside.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_package"):
        require("broken_inside", extra="x", purpose="x")


def test_importing_connections_loads_no_client():
    code = "import sys, mlmm.runtime.connections, mlmm.runtime.topics, mlmm.runtime.supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.split(".")[0] for name in loaded.split()}.isdisjoint(
        {"kafka", "redis", "aiokafka", "confluent_kafka", "numpy"}
    )
