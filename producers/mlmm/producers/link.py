"""The link to Kafka: kafka-python's producer, tamed.

Its traps (each measured): the constructor blocks and raises without a broker; ``send`` blocks while metadata is
missing; memory has no bound; an expired batch is lost; ``close`` raises when it can't flush, and hangs in a forked
child.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from mlmm.producers.delivery import Link, NoSuchTopic, TooLarge
from mlmm.producers.forking import unforked
from mlmm.runtime.connections import kafka_producer
from mlmm.runtime.settings import Settings

__all__ = ["KafkaLink", "connector"]

_DAY_MS = 86_400_000
_FIRST_ASK_MS = 1000
_forgotten: list[Any] = []
"""Producers of the parent process: collecting one would close it, which hangs in the child."""


class KafkaLink:
    """A kafka-python producer that never loses a record by itself.

    Parameters
    ----------
    settings : Settings
        Its ``kafka`` and ``emitter`` sections.

    Raises
    ------
    ServiceUnavailable
        When no broker answers within two seconds.
    """

    def __init__(self, settings: Settings) -> None:
        with unforked():
            import encodings.idna  # noqa: F401, PLC0415 - what looking up a host's name imports

            import kafka.errors  # noqa: F401, PLC0415 - importing kafka takes 0.2 s
        compression = settings.emitter.compression
        self._producer = kafka_producer(
            settings,
            acks="all",
            enable_idempotence=True,  # retries keep the order and make no duplicates while the producer lives
            delivery_timeout_ms=_DAY_MS,  # an expired batch would be lost to it; our queue is the bound
            batch_size=settings.emitter.batch_bytes,
            linger_ms=0,  # packing has lingered already
            compression_type=None if compression == "none" else compression,
            max_block_ms=_FIRST_ASK_MS,
            bootstrap_timeout_ms=2000,
            request_timeout_ms=10_000,
            reconnect_backoff_max_ms=1000,
            metrics_enabled=False,
        )
        self._asked: set[str] = set()
        # We close it ourselves, within our own time: its handler at exit would wait again.
        with contextlib.suppress(AttributeError):
            self._producer._unregister_cleanup()  # noqa: SLF001 - held by a contract test

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: list[tuple[str, bytes]],
        done: Callable[[Exception | None], None],
    ) -> None:
        """Queue a record (16 to 85 µs; a topic's first one waits for the broker to say where it lies)."""
        from kafka.errors import (  # noqa: PLC0415 - loaded with the producer
            InvalidTopicError,
            KafkaTimeoutError,
            MessageSizeTooLargeError,
            RecordListTooLargeError,
            TopicAuthorizationFailedError,
        )

        too_large = (MessageSizeTooLargeError, RecordListTooLargeError)

        def failed(error: Exception) -> None:
            if isinstance(error, too_large):
                error = TooLarge(f"the broker refused {len(value)} bytes: {error}")
            elif isinstance(error, (TopicAuthorizationFailedError, InvalidTopicError)):
                error = NoSuchTopic(f"the broker refused topic {topic!r}: {type(error).__name__}: {error}")
            done(error)

        # Asked for once, the client asks on by itself: to wait again would hold up the other topics.
        self._producer.config["max_block_ms"] = 0 if topic in self._asked else _FIRST_ASK_MS
        self._asked.add(topic)
        try:
            future = self._producer.send(topic, value=value, key=key, headers=headers)
        except too_large as error:
            raise TooLarge(str(error)) from error
        except KafkaTimeoutError as error:
            raise NoSuchTopic(
                f"no metadata of topic {topic!r}: no broker, or no such topic (mlmm topics create makes it): {error}"
            ) from error
        future.add_callback(lambda _metadata: done(None))
        future.add_errback(failed)

    def close(self, timeout: float) -> None:
        """Send what is queued for at most ``timeout`` seconds, then abort the rest."""
        # close() raises when it can't flush in time, and leaves its thread sending
        with contextlib.suppress(Exception):
            self._producer.close(timeout=timeout)
        with contextlib.suppress(AttributeError):
            self._producer._sender.force_close()  # noqa: SLF001 - held by a contract test
        self._producer._closed = True  # noqa: SLF001 - or collecting it would try to close it once more

    def forget(self) -> None:
        """Keep it from being collected, and from closing at exit."""
        _forgotten.append(self._producer)
        with contextlib.suppress(AttributeError):
            self._producer._unregister_cleanup()  # noqa: SLF001 - held by a contract test


def connector(settings: Settings) -> Callable[[], Link]:
    """Return what makes a link when there is something to send."""
    return lambda: KafkaLink(settings)
