"""Clients of Kafka and Redis, made from the settings.

Libraries are imported when a client is made, never before. What can't be reached is `ServiceUnavailable`, with the
address and what to do; credentials never stand in its text.
"""

import contextlib
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from mlmm.runtime.errors import ServiceUnavailable, SettingsError
from mlmm.runtime.extras import require
from mlmm.runtime.kafka_clients import made
from mlmm.runtime.kafka_failures import explain

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    from mlmm.runtime.settings import KafkaSettings, RedisSettings, Settings, SmtpSettings

__all__ = [
    "async_redis_client",
    "client_options",
    "kafka_admin",
    "kafka_consumer",
    "kafka_errors",
    "kafka_producer",
    "redis_address",
    "redis_client",
    "redis_errors",
    "redis_refusal",
    "smtp_context",
    "ssl_context",
]

_REDIS_REMEDY = (
    "Start Redis, or set url in [redis] (MLMM_REDIS__URL) to where it is; "
    "where it speaks TLS, url begins with rediss:// (and only there)"
)
_REDIS_TLS_REMEDY = (
    "Set ssl_cafile in [redis] to the certificate of the authority that signed its own, and name it as that does"
)
_REFUSED_IN_SCRIPT = "The user executing the script can't"


def client_options(kafka: "KafkaSettings", client: Literal["kafka-python", "aiokafka", "confluent"]) -> dict[str, Any]:
    """Return the arguments that connect a client of a library: addresses, TLS, SASL, version.

    The result holds the secrets in clear, as the libraries want them: never log it.
    """
    if client == "confluent":
        return _confluent_options(kafka)
    options: dict[str, Any] = {"bootstrap_servers": kafka.servers, "security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(kafka)
    if kafka.sasl_mechanism:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.reveal()
    if kafka.api_version and client == "kafka-python":  # aiokafka asks the broker, and warns when told
        options["api_version"] = tuple(int(part) for part in kafka.api_version.split("."))
    return options


def ssl_context(kafka: "KafkaSettings") -> ssl.SSLContext:
    """Return the TLS context for the brokers; `SettingsError` names the file that can't be used."""
    key = "ssl_cafile"
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile or None)
        context.check_hostname = kafka.ssl_check_hostname
        if kafka.ssl_certfile:
            key = "ssl_certfile"
            password = kafka.ssl_password.reveal() or None
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        file = getattr(kafka, key)
        raise SettingsError(f"kafka.{key}: {file!r} can't be used: {error.strerror or error}") from error
    return context


def smtp_context(smtp: "SmtpSettings") -> ssl.SSLContext:
    """Return the TLS context for the mail server; `SettingsError` names the file that can't be used."""
    try:
        return ssl.create_default_context(cafile=smtp.ssl_cafile or None)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"smtp.ssl_cafile: {smtp.ssl_cafile!r} can't be used: {error.strerror or error}") from error


def _confluent_options(kafka: "KafkaSettings") -> dict[str, Any]:
    names = {
        "ssl.ca.location": kafka.ssl_cafile,
        "ssl.certificate.location": kafka.ssl_certfile,
        "ssl.key.location": kafka.ssl_keyfile,
        "ssl.key.password": kafka.ssl_password.reveal(),
        "sasl.mechanisms": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": kafka.sasl_password.reveal(),
    }
    options: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
    }
    options |= {name: value for name, value in names.items() if value}
    if kafka.security_protocol.endswith("SSL"):
        options["ssl.endpoint.identification.algorithm"] = "https" if kafka.ssl_check_hostname else "none"
    return options


def kafka_producer(settings: "Settings", **options: Any) -> Any:
    """Return a ``kafka.KafkaProducer``; its own partitioner is murmur2, as the contract wants.

    Parameters
    ----------
    settings : Settings
        ``[kafka]`` is used.
    **options
        Arguments of ``KafkaProducer``; they win over the settings.

    Raises
    ------
    ServiceUnavailable
        When no broker answers within ``connect_timeout``.
    """
    return _kafka_client("kafka", "KafkaProducer", settings, options)


def kafka_consumer(settings: "Settings", *topics: str, **options: Any) -> Any:
    """Return a ``kafka.KafkaConsumer``, of no group unless ``options`` name one; errors as in `kafka_producer`."""
    if options.get("group_id") is not None:
        options.setdefault("session_timeout_ms", round(settings.kafka.session_timeout * 1000))
        options.setdefault("heartbeat_interval_ms", round(settings.kafka.heartbeat_interval * 1000))
    consumer = _kafka_client("kafka", "KafkaConsumer", settings, options)
    if topics:
        consumer.subscribe(list(topics))
    return consumer


def kafka_admin(settings: "Settings", **options: Any) -> Any:
    """Return a ``kafka.admin.KafkaAdminClient``; errors as in `kafka_producer`."""
    return _kafka_client("kafka.admin", "KafkaAdminClient", settings, options)


def _kafka_client(module: str, name: str, settings: "Settings", options: dict[str, Any]) -> Any:
    settings.require_kafka()
    kafka = settings.kafka
    defaults: dict[str, Any] = {
        "client_id": settings.deployment,
        "bootstrap_timeout_ms": round(kafka.connect_timeout * 1000),
        "request_timeout_ms": round(kafka.request_timeout * 1000),
        "reconnect_backoff_max_ms": 1000,  # the default of 30 s lets a broker be back for long before it is seen
    }
    client = getattr(require(module, extra="", purpose="Kafka"), name)
    with kafka_errors(kafka):
        return made(client, {**defaults, **kafka.client_options("kafka-python"), **options})


@contextlib.contextmanager
def kafka_errors(kafka: "KafkaSettings") -> Iterator[None]:
    """Turn what kafka-python raises inside into `ServiceUnavailable`."""
    from kafka.errors import KafkaError  # noqa: PLC0415 - imported when used

    try:
        yield
    except (KafkaError, OSError) as error:
        cause, remedy = explain(error, kafka)
        raise ServiceUnavailable("Kafka", kafka.bootstrap_servers, cause, remedy=remedy) from error


def redis_client(settings: "Settings", **options: Any) -> "redis.Redis":
    """Return a ``redis.Redis`` that speaks bytes and never retries by itself: the harness knows what may be done twice.

    It connects with the first command; run commands inside `redis_errors` for errors that say what to do.
    """
    library = require("redis", extra="processors", purpose="Redis")
    retry = require("redis.retry", extra="processors", purpose="Redis")
    backoff = require("redis.backoff", extra="processors", purpose="Redis")
    options = {"retry": retry.Retry(backoff.NoBackoff(), 0), **options}
    client: redis.Redis = library.Redis.from_url(settings.redis.url, **_redis_options(settings.redis), **options)
    return client


def async_redis_client(settings: "Settings", **options: Any) -> "redis.asyncio.Redis":
    """Return a ``redis.asyncio.Redis``, made like `redis_client`."""
    library = require("redis.asyncio", extra="processors", purpose="Redis")
    retry = require("redis.asyncio.retry", extra="processors", purpose="Redis")
    backoff = require("redis.backoff", extra="processors", purpose="Redis")
    options = {"retry": retry.Retry(backoff.NoBackoff(), 0), **options}
    client: redis.asyncio.Redis = library.Redis.from_url(
        settings.redis.url, **_redis_options(settings.redis), **options
    )
    return client


def _redis_options(redis: "RedisSettings") -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": redis.timeout}
    if not redis.url.startswith("unix:"):
        options["socket_connect_timeout"] = redis.timeout
    if redis.username:
        options["username"] = redis.username
    if redis.password:
        options["password"] = redis.password.reveal()
    if redis.ssl_cafile:
        options["ssl_ca_certs"] = redis.ssl_cafile
    return options


def redis_address(redis: "RedisSettings") -> str:
    """Return the URL for messages: it holds no credentials, which `RedisSettings` moved to their own fields."""
    return redis.url


@contextlib.contextmanager
def redis_errors(settings: "RedisSettings") -> Iterator[None]:
    """Turn lost connections, timeouts and refused logons inside into `ServiceUnavailable`."""
    import redis.exceptions  # noqa: PLC0415 - imported when used

    address = redis_address(settings)
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        told = redis_refusal(error)
        if told is None:
            away = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
            if not isinstance(error, away):
                raise
            cause = str(error) or type(error).__name__
            told = cause, _REDIS_TLS_REMEDY if "CERTIFICATE" in cause else _REDIS_REMEDY
        raise ServiceUnavailable("Redis", address, told[0], remedy=told[1]) from error


def redis_refusal(error: Exception) -> tuple[str, str] | None:
    """Return what happened and what to do where Redis refused a logon or a command to its user; else None."""
    import redis.exceptions  # noqa: PLC0415 - imported when used

    if isinstance(error, redis.exceptions.AuthenticationError):
        return "it refused the logon", "Check username and password in [redis]"
    if isinstance(error, redis.exceptions.NoPermissionError) or _REFUSED_IN_SCRIPT in str(error):
        return f"it does not allow this user to do this: {error}", "Give it the rights of its role: mlmm acls"
    return None
