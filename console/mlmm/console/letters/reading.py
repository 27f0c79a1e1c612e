"""The topic of dead letters, read into letters: each once, with what became of it.

A worker that died between sending and trimming its outbox sends the same letters again: they have one sequence, so they
are one letter. Markers, which `retrying` writes beside the letters, say which were sent again.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from mlmm.events import Topics, header
from mlmm.runtime import deadletters as names
from mlmm.runtime.errors import MlmmError, SettingsError
from mlmm.runtime.processor import Record

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = [
    "INPUTS",
    "Chosen",
    "Letter",
    "Letters",
    "Mark",
    "assigned",
    "full_record",
    "partitions_of",
    "read_letters",
    "up_to",
]

INPUTS = ("serving", "training", "findings")
"""Topics that workers read: where a letter may go back to."""
_SHOWN = 2_000
"""Characters of a header that are kept of each letter; the record itself is read again where it is needed."""


class Mark(msgspec.Struct, frozen=True):
    """One marker."""

    letter: str
    """Id of the letter."""
    word: str
    """``"begun"``, ``"sent"`` or ``"given back"``."""
    by: str
    """Which process wrote it."""
    partition: int
    offset: int
    log_time: int


class Letter(msgspec.Struct, kw_only=True):
    """One record that a worker refused."""

    id: str
    partition: int
    """Where the letter stands in the topic of dead letters, first."""
    offset: int
    when: int
    """Log time of the letter, in microseconds."""
    topic: str
    """Logical name of the topic that the record was read from; empty where this is no letter of ours."""
    read_partition: int
    read_offset: int
    type: str
    event: str
    """``ce_id`` as received."""
    key: bytes
    reason: str
    size: int
    """Bytes of the record's value."""
    left_out: tuple[str, ...]
    """What the letter does not hold: ``"value"``, ``"headers"``, ``"key"``."""
    attempt: int
    """How often the record was sent, the first time included."""
    copies: int = 1
    """How often the letter stands in the topic."""
    marks: tuple[Mark, ...] = ()

    @property
    def place(self) -> str:
        """Where the letter stands, as `show` and `retry` take it."""
        return f"{self.partition}:{self.offset}"

    @property
    def retried(self) -> bool:
        """Whether it was sent again."""
        return any(mark.word == "sent" for mark in self.marks)

    @property
    def begun(self) -> Mark | None:
        """The retry that was begun first and neither finished nor given back."""
        if self.retried:
            return None
        back = {mark.by for mark in self.marks if mark.word == "given back"}
        return next((mark for mark in self.marks if mark.word == "begun" and mark.by not in back), None)


class Letters(msgspec.Struct):
    """All letters of the topic, oldest first."""

    letters: list[Letter]
    ends: dict[int, int]
    """Partition → offset up to which was read."""

    def find(self, name: str) -> list[Letter]:
        """Letters of an id (or its beginning), or of a place ``PARTITION:OFFSET``."""
        if ":" in name:
            return [letter for letter in self.letters if letter.place == name]
        return [letter for letter in self.letters if name and letter.id.startswith(name)]


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; what is empty chooses all."""

    topic: str = ""
    reason: str = ""
    """Part of the reason, upper and lower case alike."""
    type: str = ""
    since: float = math.inf
    """Seconds: no older than this."""
    before: float = 0.0
    """Seconds: no younger than this."""
    retried: bool = False
    """Whether letters that were sent again are meant too."""

    def of(self, letters: Iterable[Letter], now: int) -> list[Letter]:
        """Return those that are meant; ``now`` in microseconds."""
        return [letter for letter in letters if self._means(letter, (now - letter.when) / 1e6)]

    def _means(self, letter: Letter, age: float) -> bool:
        return (
            (self.retried or not letter.retried)
            and (not self.topic or letter.topic == self.topic)
            and (not self.type or letter.type == self.type)
            and self.reason.lower() in letter.reason.lower()
            and self.before <= max(age, 0.0) <= self.since
        )


# --- reading ---------------------------------------------------------------------------------------------------------


def partitions_of(consumer: Any, topic: str) -> list[Any]:
    """Partitions of a topic; `SettingsError` where there is none."""
    from kafka import TopicPartition

    found = sorted(consumer.partitions_for_topic(topic) or ())
    if not found:
        raise SettingsError(f"topic {topic} does not exist: run `mlmm topics create`")
    return [TopicPartition(topic, number) for number in found]


@contextlib.contextmanager
def assigned(settings: "Settings", topic: str) -> Iterator[tuple[Any, list[Any]]]:
    """Give a consumer that is assigned all partitions of a topic, and these."""
    from mlmm.runtime.connections import kafka_consumer, kafka_errors

    with (
        kafka_errors(settings.kafka),
        contextlib.closing(kafka_consumer(settings, enable_auto_commit=False)) as consumer,
    ):
        partitions = partitions_of(consumer, topic)
        consumer.assign(partitions)
        yield consumer, partitions


def up_to(consumer: Any, ends: Mapping[Any, int]) -> Iterator[tuple[int, Record]]:
    """Yield (partition, record) from where the consumer stands to these ends."""
    while any(consumer.position(place) < end for place, end in ends.items()):
        for place, records in consumer.poll(timeout_ms=500).items():
            for each in records:
                if each.offset < ends.get(place, 0):
                    made = Record(each.offset, each.timestamp * 1000, each.key or b"", each.value or b"", each.headers)
                    yield place.partition, made


def read_letters(settings: "Settings", *, progress: Callable[[int], None] = lambda _: None) -> Letters:
    """Read the whole topic of dead letters as it is now.

    Parameters
    ----------
    settings : Settings
    progress : Callable
        Is told how many records were read.

    Raises
    ------
    ServiceUnavailable, SettingsError
        Kafka is away; the topic is not there.
    """
    letters: dict[str, Letter] = {}
    marks: dict[str, list[Mark]] = {}
    with assigned(settings, Topics(settings.topic_prefix).dead_letters) as (consumer, partitions):
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        for count, (partition, record) in enumerate(up_to(consumer, ends), 1):
            if mark := mark_of(partition, record):
                marks.setdefault(mark.letter, []).append(mark)
            else:
                letter = letter_of(partition, record)
                known = letters.setdefault(letter.id, letter)
                if known is not letter:
                    known.copies += 1
            if count % 1_000 == 0:
                progress(count)
    for name, found in marks.items():
        if name in letters:
            letters[name].marks = tuple(sorted(found, key=lambda mark: (mark.partition, mark.offset)))
    ordered = sorted(letters.values(), key=lambda letter: (letter.when, letter.partition, letter.offset))
    return Letters(ordered, {place.partition: end for place, end in ends.items()})


def _text(record: Record, name: str) -> str:
    return (header(record.headers, name) or b"")[:_SHOWN].decode("utf-8", "replace")


def _number(record: Record, name: str, default: int) -> int:
    text = _text(record, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else default


def mark_of(partition: int, record: Record) -> Mark | None:
    """Read a marker; None where the record is a letter."""
    word = _text(record, names.RETRIED)
    if not word or header(record.headers, names.ERROR) is not None:
        return None
    return Mark(
        _text(record, names.RETRY_OF), word, _text(record, "mlmm_by"), partition, record.offset, record.log_time
    )


def letter_of(partition: int, record: Record) -> Letter:
    """Read a letter: what a line of a table needs of it."""
    sequence, source = header(record.headers, names.SEQUENCE), header(record.headers, names.SOURCE)
    topic = _text(record, names.TOPIC) if header(record.headers, names.ERROR) is not None else ""
    read = _number(record, names.PARTITION, -1), _number(record, names.OFFSET, -1)
    # Letters of before there were sequences are told apart by the place that they speak of.
    identity = (source or b"") + b"\0" + sequence if sequence else f"{topic}/{read}/{record.log_time}".encode()
    if not topic:
        identity = f"{partition}:{record.offset}".encode()
    left_out = [*(["value"] if header(record.headers, names.TRUNCATED) is not None else [])]
    left_out += _text(record, names.LEFT_OUT).split()
    return Letter(
        id=blake2b(identity, digest_size=6).hexdigest(),
        partition=partition,
        offset=record.offset,
        when=record.log_time,
        topic=topic,
        read_partition=read[0],
        read_offset=read[1],
        type=_text(record, "ce_type"),
        event=_text(record, "ce_id"),
        key=record.key,
        reason=_text(record, names.ERROR) or "no reason is given: this is no letter of a worker",
        size=_number(record, names.TRUNCATED, len(record.value)),
        left_out=tuple(left_out),
        attempt=max(_number(record, names.ATTEMPT, 1), 1),
    )


# --- one record ------------------------------------------------------------------------------------------------------


def _at(settings: "Settings", topic: str, partition: int, offset: int) -> Record | None:
    """Read one record; None where the log no longer has it."""
    with assigned(settings, topic) as (consumer, partitions):
        place = next((each for each in partitions if each.partition == partition), None)
        if place is None:
            return None
        consumer.assign([place])
        first, end = consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
        if not first <= offset < end:
            return None
        consumer.seek(place, offset)
        for _, record in up_to(consumer, {place: offset + 1}):
            return record if record.offset == offset else None
    return None


def full_record(settings: "Settings", letter: Letter) -> Record:
    """Read what was received, headers of the letter included; what the letter left out is read where it came from.

    Raises
    ------
    MlmmError
        The letter, or what it left out, is no longer there.
    """
    topics = Topics(settings.topic_prefix)
    stored = _at(settings, topics.dead_letters, letter.partition, letter.offset)
    if stored is None or letter_of(letter.partition, stored).id != letter.id:
        raise MlmmError(f"{letter.place}: the letter is no longer in {topics.dead_letters}")
    if not letter.left_out or letter.topic not in INPUTS:
        return stored
    read = _at(settings, topics.full(letter.topic), letter.read_partition, letter.read_offset)
    same = read is not None and len(read.value) == letter.size and ("key" in letter.left_out or read.key == letter.key)
    if read is None or not same:
        raise MlmmError(
            f"{letter.place}: it was too large for a letter, and {topics.full(letter.topic)} no longer has it at "
            f"{letter.read_partition}:{letter.read_offset}"
        )
    ours = [each for each in stored.headers if each[0] in names.OURS]
    received = [each for each in read.headers if each[0] not in names.OURS]
    return stored._replace(key=read.key, value=read.value, headers=[*received, *ours])
