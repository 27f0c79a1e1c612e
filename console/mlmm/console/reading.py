"""Reading a topic from some point on, for ``mlmm tail``."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mlmm.events import MalformedEvent, decode_events, header
from mlmm.runtime.deadletters import RETRIED, RETRY_OF
from mlmm.runtime.durations import parse_duration
from mlmm.runtime.errors import SettingsError
from mlmm.runtime.masking import mask
from mlmm.runtime.processor import Record

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["Since", "describe", "read"]

MICROSECONDS = 1_000_000
SHOWN = 400
"""Characters of an event that a line for people shows."""


class Since(NamedTuple):
    """From where on a topic is read."""

    seconds: float
    """How far back; infinite for the beginning, 0 for what is to come."""

    @classmethod
    def parse(cls, text: str) -> "Since":
        """Read ``"beginning"``, ``"end"`` or a duration; ``ValueError`` says what is allowed."""
        words = {"beginning": math.inf, "end": 0.0}
        try:
            return cls(words[text] if text in words else parse_duration(text))
        except ValueError:
            raise ValueError(f"{text!r}: 'beginning', 'end', or how far back, such as 10m, 2h or 7d") from None


def read(settings: "Settings", topic: str, *, since: Since, follow: bool) -> Iterator[tuple[int, Record]]:
    """Yield (partition, record) of a topic; ends at the log's end as it is now unless ``follow``."""
    from mlmm.runtime.connections import kafka_consumer, kafka_errors

    with (
        kafka_errors(settings.kafka),
        contextlib.closing(kafka_consumer(settings, enable_auto_commit=False)) as consumer,
    ):
        yield from _read(consumer, topic, since=since, follow=follow)


def _read(consumer: Any, topic: str, *, since: Since, follow: bool) -> Iterator[tuple[int, Record]]:
    from kafka import TopicPartition

    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    if not partitions:
        raise SettingsError(
            f"topic {topic} does not exist (run `mlmm topics create`), or this logon may not see it (docs/security.md)"
        )
    consumer.assign(partitions)
    _seek(consumer, partitions, since)
    ends = consumer.end_offsets(partitions)
    while follow or any(consumer.position(p) < ends[p] for p in partitions):
        for partition, records in consumer.poll(timeout_ms=500).items():
            for r in records:
                if follow or r.offset < ends[partition]:
                    headers = [(name, value or b"") for name, value in r.headers]
                    yield (
                        partition.partition,
                        Record(r.offset, r.timestamp * 1000, r.key or b"", r.value or b"", headers),
                    )


def _seek(consumer: Any, partitions: list[Any], since: Since) -> None:
    if since.seconds == math.inf:
        consumer.seek_to_beginning(*partitions)
        return
    consumer.seek_to_end(*partitions)
    if since.seconds:
        then = round((time.time() - since.seconds) * 1000)
        for partition, at in consumer.offsets_for_times(dict.fromkeys(partitions, then)).items():
            if at is not None:
                consumer.seek(partition, at.offset)


def describe(partition: int, record: Record) -> Iterator[str]:
    """Yield a line for people for each event of a record: when, where, what."""
    kind = (header(record.headers, "ce_type") or b"?").decode(errors="replace")
    content = (header(record.headers, "content-type") or b"").decode(errors="replace")
    when = datetime.fromtimestamp(record.log_time / MICROSECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    start = f"{when} {partition}:{record.offset} {kind.removeprefix('mlmm.')} {record.key.decode(errors='replace')}"
    retried = header(record.headers, RETRIED)
    why = header(record.headers, "mlmm_error")
    if retried is not None and why is None:
        letter = (header(record.headers, RETRY_OF) or b"?").decode(errors="replace")
        yield f"{start} retry of {letter} {retried.decode(errors='replace')}"
        return
    if why is not None:
        yield f"{start} {len(record.value)} bytes, refused: {why.decode(errors='replace')}"
        return
    try:
        events = decode_events(kind, content, record.value)
    except MalformedEvent as error:
        yield f"{start} {len(record.value)} bytes, malformed: {error}"
        return
    for event in events:
        text = mask(json.dumps(msgspec.to_builtins(event), ensure_ascii=False))
        yield f"{start} {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"
