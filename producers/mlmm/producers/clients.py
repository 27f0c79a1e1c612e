"""Clients of kafka-python that leave no file open.

Without this each refused connection of its 3.0 leaves a socket, and each failed constructor three more, to the garbage
collector's next full round: a process that waited for its broker lost a file descriptor a second (tried).
"""

import functools
from collections.abc import Callable
from typing import Any

from mlmm.runtime.settings import Settings

__all__ = ["consumer", "producer"]

_SCHEME = "mlmm-direct"


@functools.cache
def _register() -> str:
    """Register, at kafka-python's own place for proxies, a direct connection that closes its socket when it fails."""
    from kafka.net.inet import KafkaNetSocket  # noqa: PLC0415 - importing kafka takes 0.2 s

    class DirectSocket(KafkaNetSocket):
        SCHEMES = (_SCHEME,)

        async def connect(
            self, net: Any, addrinfo: Any, socket_options: Any = (), timeout_at: float | None = None
        ) -> Any:
            family, kind, protocol, _, address = addrinfo
            sock = self.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                for option in socket_options:
                    sock.setsockopt(*option)
                return await self.sock_connect(net, sock, address, timeout_at=timeout_at)
            except BaseException:
                sock.close()
                raise

    return f"{_SCHEME}://"


def producer(settings: Settings, **options: Any) -> Any:
    """Return a ``kafka.KafkaProducer``; options and errors as in `mlmm.runtime.connections.kafka_producer`."""
    from mlmm.runtime.connections import kafka_producer  # noqa: PLC0415 - see above

    return _made(kafka_producer, settings, options)


def consumer(settings: Settings, **options: Any) -> Any:
    """Return a ``kafka.KafkaConsumer`` of no topic; options and errors as in `mlmm.runtime.connections`."""
    from mlmm.runtime.connections import kafka_consumer  # noqa: PLC0415 - see above

    return _made(kafka_consumer, settings, options)


def _made(make: Callable[..., Any], settings: Settings, options: dict[str, Any]) -> Any:
    from kafka.net.compat import KafkaNetClient  # noqa: PLC0415 - see above

    clients: list[Any] = []

    def client(**configs: Any) -> Any:
        clients.append(KafkaNetClient(**configs))
        return clients[-1]

    try:
        return make(settings, proxy_url=_register(), kafka_client=client, **options)
    except BaseException:
        for each in clients:
            each.close()
        raise
