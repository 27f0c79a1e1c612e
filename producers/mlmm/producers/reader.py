"""The command reader: a daemon thread that reads all of the commands topic, from a day ago on."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import Any, Protocol

from mlmm.events import Topics
from mlmm.producers.forking import unforked
from mlmm.runtime.connections import kafka_consumer
from mlmm.runtime.settings import Settings

__all__ = ["CommandReader", "Received"]

log = logging.getLogger("mlmm.producers")

LIFETIME = 86_400.0
"""Seconds that a command may live at most: so far back is read, for one may have come while the trainer restarted."""
_POLL_MS = 1000
_FETCH_MS = 2000
"""A fetch that waits long at the broker is answered as fast as a short one (5 ms), at a fiftieth of the CPU."""
_ASK_EVERY = 5.0
"""A broker that is away looks like an empty poll: after so many silent seconds ask something that must be answered."""
_LOOK_EVERY = 5.0
"""Seconds between looks whether the topic got partitions: a run's orders may go to a new one from then on."""
_METADATA_MS = 30_000
"""How old what is known of the topic may be: less than the minute after which an order counts as unanswered."""
_PAUSE = 1.0


class Received(Protocol):
    """Takes one record: key, value, headers."""

    def __call__(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> object:
        """Act on it."""


class CommandReader:
    """Reads commands and hands each to ``received``, in a thread of its own.

    Parameters
    ----------
    settings : Settings
    received : Received
        Called in the reader's thread.
    connect : Callable[..., Any], optional
        Makes a kafka-python consumer.
    """

    def __init__(self, settings: Settings, received: Received, *, connect: Callable[..., Any] | None = None) -> None:
        self._settings = settings
        self._topic = Topics(settings.topic_prefix).commands
        self._received = received
        self._connect = connect or _consumer
        self._stop = threading.Event()
        self._answered: float | None = None
        self._positions: dict[Any, int] = {}
        self._troubled = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read."""
        self._thread = threading.Thread(target=self._run, name="mlmm-commands", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; the thread ends by itself within about a second."""
        self._stop.set()

    @property
    def age(self) -> float | None:
        """Seconds since the broker last answered; None when it never did."""
        return None if self._answered is None else monotonic() - self._answered

    def _run(self) -> None:
        while not self._stop.is_set():
            client = None
            try:
                client = self._connect(self._settings)
                self._place(client)
                self._heard()
                self._read(client)
            except Exception as error:  # noqa: BLE001 - whatever happened to the connection, the next one may work
                if not self._troubled and not self._stop.is_set():
                    self._troubled = True
                    log.warning("commands can't be read (%s: %s); trying again", type(error).__name__, error)
                self._stop.wait(_PAUSE)
            finally:
                if client is not None:
                    with contextlib.suppress(Exception):
                        client.close()

    def _place(self, client: Any) -> None:
        """Assign all partitions, at where we were, or at what is a day old."""
        from kafka import TopicPartition  # noqa: PLC0415 - loaded with the consumer

        numbers = client.partitions_for_topic(self._topic)
        if not numbers:
            raise LookupError(f"no topic {self._topic!r} (mlmm topics create), or none that this logon may read")
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        client.assign(partitions)
        since = int((time() - LIFETIME) * 1000)
        new = [partition for partition in partitions if partition not in self._positions]
        found = client.offsets_for_times(dict.fromkeys(new, since)) if new else {}
        # No answer: all is older, or nothing was there yet, or the broker (the embedded one) can not look up a time.
        # From the beginning on nothing is missed, and what is older is refused by its own times.
        firsts = client.beginning_offsets(new) if new else {}
        for partition in partitions:
            at = found.get(partition)
            start = at.offset if at is not None and at.offset >= 0 else firsts.get(partition, 0)
            client.seek(partition, self._positions.get(partition, start))

    def _read(self, client: Any) -> None:
        looked = monotonic()
        while not self._stop.is_set():
            if monotonic() - looked > _LOOK_EVERY:
                looked = monotonic()
                numbers = client.partitions_for_topic(self._topic)
                if numbers and set(numbers) != {partition.partition for partition in client.assignment()}:
                    self._place(client)
            polled = client.poll(_POLL_MS)
            for partition, records in polled.items():
                for record in records:
                    self._positions[partition] = record.offset + 1
                    self._take(record)
            if polled:
                self._heard()
            elif (self.age or 0.0) > _ASK_EVERY:
                client.end_offsets(list(client.assignment()))
                self._heard()

    def _take(self, record: Any) -> None:
        try:
            self._received(record.key, record.value, record.headers)
        except Exception:
            log.exception("a command at offset %s could not be taken", record.offset)

    def _heard(self) -> None:
        self._answered = monotonic()
        if self._troubled:
            self._troubled = False
            log.warning("commands are being read again")


def _consumer(settings: Settings) -> Any:
    with unforked():
        import kafka  # noqa: F401, PLC0415 - importing kafka takes 0.2 s
    return kafka_consumer(
        settings,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_FETCH_MS,
        metadata_max_age_ms=_METADATA_MS,
        bootstrap_timeout_ms=2000,
        request_timeout_ms=5000,
        reconnect_backoff_max_ms=1000,
        metrics_enabled=False,
    )
