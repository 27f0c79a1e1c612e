"""A broker and a Redis without installing any: for the demo and for looking around on a laptop, never for truth.

>>> from mlmm.runtime.settings import load, override
>>> with EmbeddedKafka() as kafka, EmbeddedRedis() as redis:  # doctest: +SKIP
...     settings = override(load(), {**kafka.overrides, **redis.overrides})
...     start_worker(env={**os.environ, **environment({**kafka.overrides, **redis.overrides})})

What each can't do stands in `mlmm.runtime.embedded_kafka` and `mlmm.runtime.embedded_redis`.
"""

from collections.abc import Mapping

from mlmm.runtime.embedded_kafka import EmbeddedKafka
from mlmm.runtime.embedded_redis import EmbeddedRedis, redis_binary

__all__ = ["EmbeddedKafka", "EmbeddedRedis", "environment", "redis_binary"]


def environment(overrides: Mapping[str, str | int]) -> dict[str, str]:
    """Return overrides as environment variables for a child: ``{"redis.url": x}`` is ``{"MLMM_REDIS__URL": x}``."""
    return {f"MLMM_{key.upper().replace('.', '__')}": str(value) for key, value in overrides.items()}
