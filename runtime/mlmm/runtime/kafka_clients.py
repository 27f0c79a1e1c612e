"""Clients of kafka-python 3.0 with two of its faults mended: `mlmm.runtime.connections` makes all of ours by these.

**Forgotten topics.** A wish for metadata (``subscribe``, ``assign``, ``send`` to a new topic) that is made while a
request for metadata is in flight is taken for answered by that request's response, which was asked before: the topic
stays unknown for ``metadata_max_age_ms``, 5 minutes, and a consumer sits there without partitions (tried: 1 of some 4
starts on a busy machine where ``api_version`` is given, since such a constructor does not wait for its bootstrap).

**Leaked sockets.** Each refused connection leaves a socket, and each failed constructor three more, to the garbage
collector's next full round: a process that waited for its broker lost a file descriptor a second (tried).
"""

import functools
from collections.abc import Callable
from typing import Any

from mlmm.runtime import kafka_failures

__all__ = ["made"]

_SCHEME = "mlmm-direct"


def made(make: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return ``make(**options)``, a producer, consumer or admin client of kafka-python.

    What it raises passes; where it found no broker in time, what kept it from one is raised in place of that.
    """
    clients: list[Any] = []

    def client(**configs: Any) -> Any:
        clients.append(kafka_failures.client(configs))
        remember_wishes(clients[-1].cluster)
        return clients[-1]

    try:
        return make(**{"proxy_url": _direct(), "kafka_client": client, **options})
    except BaseException as error:
        for each in clients:
            each.close()
        if clients and isinstance(error, Exception):
            raise kafka_failures.told(clients[-1], error)  # noqa: B904 - it has a cause of its own
        raise


def remember_wishes(cluster: Any) -> None:
    """Let a ``ClusterMetadata`` ask again after a response to a request that is older than the latest wish."""
    request_update, metadata_request = cluster.request_update, cluster.metadata_request
    update_metadata = cluster.update_metadata
    wishes = asked = 0

    def wish() -> Any:
        nonlocal wishes
        wishes += 1  # before the flag is set: a response that clears it later finds another number than it asked at
        return request_update()

    def ask() -> Any:
        nonlocal asked
        asked = wishes
        return metadata_request()

    def take(metadata: Any) -> Any:
        done = update_metadata(metadata)
        if wishes != asked:
            request_update()
        return done

    cluster.request_update, cluster.metadata_request, cluster.update_metadata = wish, ask, take


@functools.cache
def _direct() -> str:
    """Register, at kafka-python's own place for proxies, a direct connection that closes its socket when it fails."""
    from kafka.net.inet import KafkaNetSocket  # noqa: PLC0415 - see above

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
