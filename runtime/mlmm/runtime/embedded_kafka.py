"""A Kafka broker inside this process: the one that librdkafka carries for its own tests.

For the demo and for looking around on a laptop; never for truth. What was found by trying it with kafka-python 3.0.12,
aiokafka 0.14.0 and Faust 0.15.3 (held by ``tests/runtime/test_embedded_kafka.py``):

- It lives in threads of the process that made it, and is gone with it. It listens on the loopback interface.
- Everything is in memory; a partition keeps its last 5 MiB or 100,000 records and forgets the rest without a word.
- kafka-python must be told ``api_version=(2, 0)``; Faust wants ``topic_allow_declare=False`` and
  ``topic_disable_leader=True``. aiokafka and confluent-kafka need nothing.
- **One member a group.** A rebalance counts as done when the leader has sent the assignments; a member whose own
  SyncGroup comes later is told ``InvalidRequestError``, which is fatal to aiokafka and Faust. So: one worker.
- Static membership is taken and not understood: who comes back under a name that is still held is a second member, and
  waits for the session of the first to end, twice (11 s for a session of 6 s). So sessions are short here.
- A group's first rebalance waits 3 s by default; here it waits for nobody.
- No admin calls: topics are made here, by `EmbeddedKafka.create_topic`; one that is only used gets 4 partitions.
- No ``LogAppendTime``: the producer's timestamp is the log time. kafka-python's ``RecordMetadata.timestamp`` of a send
  is wrong (it takes the log's start offset for it); what consumers read is right.
- ``offsets_for_times`` knows only the ends: for any time it answers as if nothing were newer. No topic ids.
"""

import ctypes
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mlmm.events.topics import ALL, Topics
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.extras import require

__all__ = ["EmbeddedKafka"]

_PRODUCER = 0
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (ctypes.c_void_p, []),
    "rd_kafka_conf_set_log_cb": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "rd_kafka_new": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_new": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]),
    "rd_kafka_mock_cluster_destroy": (None, [ctypes.c_void_p]),
    "rd_kafka_mock_cluster_bootstraps": (ctypes.c_char_p, [ctypes.c_void_p]),
    "rd_kafka_mock_topic_create": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [ctypes.c_void_p, ctypes.c_int32]),
}


class EmbeddedKafka:
    """A broker with the topics of the contract, until `close` or the end of the process.

    Parameters
    ----------
    partitions : int
        Partitions of each topic of the contract.
    topic_prefix : str
        What topics' names begin with.

    Raises
    ------
    MissingExtra
        Without confluent-kafka (``mlmm[embedded]``).
    ServiceUnavailable
        Where its librdkafka has no broker for tests.
    """

    api_version = "2.0"
    """What ``[kafka] api_version`` must be."""

    def __init__(self, *, partitions: int = 3, topic_prefix: str = "mlmm") -> None:
        self._library = _library()
        errors = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set_log_cb(configuration, None)  # it would write to our standard error
        self._handle = self._library.rd_kafka_new(_PRODUCER, configuration, errors, len(errors))
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1) if self._handle else None
        if not self._cluster:
            raise _unavailable(errors.value.decode(errors="replace") or "it did not start")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.address: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.partitions = partitions
        for topic in ALL:
            self.create_topic(Topics(topic_prefix).full(topic.logical), partitions)

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic; `ServiceUnavailable` where it exists already."""
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise _unavailable(f"topic {name!r} was not made (librdkafka's error {code}; it may exist)")

    @property
    def overrides(self) -> Mapping[str, str | int]:
        """Settings for whoever uses it, by dotted key: see `mlmm.runtime.settings.override`."""
        return {
            "kafka.bootstrap_servers": self.address,
            "kafka.api_version": self.api_version,
            "kafka.partitions": self.partitions,
            "kafka.replication_factor": 1,
            "kafka.session_timeout": "3s",
            "kafka.heartbeat_interval": "500ms",
        }

    def close(self) -> None:
        """End it; clients lose their connections."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._cluster = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _library() -> ctypes.CDLL:
    """Return librdkafka as confluent-kafka brought it: names are looked up in what the extension is linked to."""
    extension = require("confluent_kafka.cimpl", extra="embedded", purpose="The embedded Kafka")
    library = ctypes.CDLL(extension.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise _unavailable(f"this build of librdkafka has no {name}") from None
        function.restype, function.argtypes = result, arguments
    return library


def _unavailable(cause: str) -> ServiceUnavailable:
    remedy = "Use a real Kafka: set bootstrap_servers in [kafka]"
    return ServiceUnavailable("Kafka", "the embedded broker", cause, remedy=remedy)
