"""Kafka and Redis for the demo: those that come along, or real ones, in which it touches only what it made."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mlmm.console.demo.plan import settings_file
from mlmm.events import Topics
from mlmm.runtime.settings import Settings, load

__all__ = ["PROCESSORS", "open_services", "workers_ready"]

PROCESSORS = ("serving", "training", "alerting")
NAME = "demo"
"""Name of the slots: the demo's workers are ``demo-0`` and ``demo``."""


@contextlib.contextmanager
def open_services(folder: Path, smtp_port: int, *, kafka: str, redis: str, keep: bool) -> Iterator[Settings]:
    """Give settings that reach Kafka and Redis: those named, else those that come along."""
    from mlmm.runtime import embedded, topics

    real = kafka or redis
    # On real services a name of its own, which nobody had before: so what bears it may be removed.
    name = f"mlmm-demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}" if real else "mlmm"
    file = folder / "mlmm.toml"
    with contextlib.ExitStack() as stack:
        more: dict[str, str | int] = {}
        if not kafka:
            broker = stack.enter_context(embedded.EmbeddedKafka(topic_prefix=name))
            more = {key.removeprefix("kafka."): value for key, value in broker.overrides.items()}
        address = kafka or str(more["bootstrap_servers"])
        url = redis or stack.enter_context(embedded.EmbeddedRedis()).url
        settings_file(file, kafka=address, redis=url, smtp_port=smtp_port, name=name, more_kafka=_lines(more))
        settings = load(file, env={})
        if kafka:
            if not keep:
                stack.callback(_forget_topics, settings)
            topics.create(settings)
        if redis and not keep:
            stack.callback(_forget_state, settings)
        yield settings


def _lines(values: dict[str, str | int]) -> str:
    written = {key: value for key, value in values.items() if key not in ("bootstrap_servers", "partitions")}
    lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in written.items()]
    return "\n".join(["# What the broker that comes along can do:", *lines, ""]) if lines else ""


def workers_ready(settings: Settings) -> bool:
    """Whether a worker holds each partition of each processor."""
    from mlmm.runtime.connections import redis_client, redis_errors
    from mlmm.runtime.store import Keys

    client = redis_client(settings)
    metas = [
        Keys.of(settings.deployment, processor, partition).meta
        for processor in PROCESSORS
        for partition in range(settings.kafka.partitions)
    ]
    with redis_errors(settings.redis):
        return bool(client.exists(*metas) == len(metas))


def _forget_topics(settings: Settings) -> None:
    """Delete the topics and groups that bear the demo's own name."""
    from kafka.errors import KafkaError

    from mlmm.runtime.connections import kafka_admin

    topics = Topics(settings.topic_prefix)
    groups = [f"{settings.deployment}{each}" for each in (".processors", ".alerting", "-notifier")]
    admin = kafka_admin(settings)
    try:
        with contextlib.suppress(KafkaError):  # not allowed there, or gone already: nothing else depends on it
            admin.delete_topics([topics.full(spec.logical) for spec in Topics.ALL])
        with contextlib.suppress(KafkaError):
            admin.delete_groups(groups)  # those that Kafka still waits for, it forgets by itself
    finally:
        admin.close()


def _forget_state(settings: Settings) -> None:
    """Delete the keys that bear the demo's own name."""
    from mlmm.runtime.connections import redis_client, redis_errors
    from mlmm.runtime.store import Keys

    name = settings.deployment
    keys = [
        key
        for processor in PROCESSORS
        for partition in range(settings.kafka.partitions)
        for key in Keys.of(name, processor, partition)
    ]
    keys += [f"{name}:slot:{name}.processors:{NAME}-0", f"{name}:slot:{name}.alerting:{NAME}"]
    with redis_errors(settings.redis):
        redis_client(settings).delete(*keys)
