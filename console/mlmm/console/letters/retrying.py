"""Sending dead letters again: each at most once, whoever tries, and whatever dies meanwhile.

Markers in the topic of dead letters, in the letter's own partition, are what is remembered:

1. ``begun`` is written, with a name of this process, and read back. The first one in the log has the letter; who comes
   second leaves it alone.
2. The record goes to its topic, with its letter's id and the number of the attempt in headers.
3. ``sent`` is written. ``given back`` instead, where the topic refused the record.

A process that dies between 1 and 3 leaves a letter that was begun. A later retry looks for the record in its topic, by
the id in its header: found, it writes ``sent``; not found, it gives the letter back in the dead one's name and begins.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from mlmm.console.letters.reading import INPUTS, Letter, Letters, Mark, assigned, full_record, letter_of, mark_of, up_to
from mlmm.events import Topics, header, partition_of
from mlmm.runtime import deadletters as names
from mlmm.runtime.errors import MlmmError
from mlmm.runtime.processor import Record

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["Outcome", "retry"]

CHUNK, CHUNK_BYTES = 200, 8 << 20
"""Letters, and bytes of their records, that are in hand at a time."""
LARGEST = 64 << 20
MORE_SECONDS = 5.0
GRACE_SECONDS = 60.0
"""What is added to the time that a send may take before a retry that was begun counts as dead."""
SKEW_SECONDS = 300.0
"""By how much the clocks of a topic's brokers may differ where a record is looked for by time."""
BY: Final = "mlmm_by"
_NOT_SENT: Final = names.OURS | {names.ATTEMPT, names.RETRY_OF, "ce_sequence"}
"""Headers that a record is sent without. With its ``ce_sequence`` it would be dropped: it was seen before."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one letter."""

    letter: Letter
    state: Literal["sent", "sent before", "in hand", "refused", "unknown"]
    details: str = ""

    @property
    def ok(self) -> bool:
        """Whether its record is in its topic."""
        return self.state in {"sent", "sent before"}


def retry(settings: "Settings", letters: Letters, chosen: Sequence[Letter]) -> Iterator[Outcome]:
    """Send the records of letters to the topics that they were read from.

    Parameters
    ----------
    settings : Settings
    letters : Letters
        As `read_letters` gave them; what others did since is read again.
    chosen : sequence of Letter
        Some of them.

    Yields
    ------
    Outcome
        One a letter.

    Raises
    ------
    ServiceUnavailable
        Kafka is away. What was sent is remembered, or found again by the next try.
    """
    from mlmm.runtime.connections import kafka_producer

    seconds = settings.kafka.request_timeout + MORE_SECONDS
    with (
        assigned(settings, Topics(settings.topic_prefix).dead_letters) as (consumer, partitions),
        contextlib.closing(
            kafka_producer(
                settings, acks="all", max_request_size=LARGEST, delivery_timeout_ms=round(seconds * 1000), linger_ms=5
            )
        ) as producer,
    ):
        for place in partitions:
            consumer.seek(place, letters.ends.get(place.partition, 0))
        desk = _Desk(settings, consumer, partitions, producer, seconds)
        for chunk in _chunks(sorted(chosen, key=lambda letter: (letter.partition, letter.offset))):
            yield from desk.retry(chunk)


def _chunks(letters: Sequence[Letter]) -> Iterator[list[Letter]]:
    chunk: list[Letter] = []
    size = 0
    for letter in letters:
        if chunk and (len(chunk) == CHUNK or size + letter.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(letter)
        size += letter.size
    if chunk:
        yield chunk


def dead_after(seconds: float) -> float:
    """After how long a retry that was begun counts as dead, where a send may take ``seconds``.

    A live one gives its letters back before: see `_Desk._send`.
    """
    return 2 * seconds + GRACE_SECONDS


class _Desk:
    """One process that retries.

    Parameters
    ----------
    settings : Settings
    consumer, partitions
        Of the topic of dead letters, standing where the letters were last read.
    producer
        For records and markers.
    seconds : float
        How long a send may take.
    """

    def __init__(
        self, settings: "Settings", consumer: Any, partitions: Sequence[Any], producer: Any, seconds: float
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.topic_prefix)
        self._consumer, self._partitions, self._producer = consumer, partitions, producer
        self._seconds = seconds
        self._me = secrets.token_hex(8)
        self._news: dict[str, list[Mark]] = {}

    def retry(self, letters: Sequence[Letter]) -> Iterator[Outcome]:
        """Retry a few letters."""
        self._catch_up(letters)
        open_: list[Letter] = []
        for letter in letters:
            outcome = self._judge(letter)
            if outcome is None:
                open_.append(letter)
            else:
                yield outcome
        begun = time.monotonic()
        for letter in open_:
            self._mark(letter, "begun", self._me)
        self._producer.flush()
        self._catch_up(open_)
        ours = [letter for letter in open_ if (mark := letter.begun) is not None and mark.by == self._me]
        yield from (Outcome(letter, "in hand", "another retry has it") for letter in open_ if letter not in ours)
        yield from self._send(ours, begun)

    def _judge(self, letter: Letter) -> Outcome | None:
        """Say what is known of a letter without sending it; None where it is to be sent."""
        if letter.retried:
            return Outcome(letter, "sent before")
        if letter.topic not in INPUTS:
            return Outcome(letter, "refused", f"no worker reads {letter.topic!r}")
        mark = letter.begun
        if mark is None:
            return None
        age = time.time() - mark.log_time / 1e6
        if age < dead_after(self._seconds):
            return Outcome(letter, "in hand", f"another retry began {max(age, 0):.0f} s ago")
        if self._arrived(letter, mark):
            self._mark(letter, "sent", mark.by)
            return Outcome(letter, "sent before", "by a retry that did not live to say so")
        self._mark(letter, "given back", mark.by)
        return None

    # --- markers -----------------------------------------------------------------------------------------------------

    def _catch_up(self, letters: Sequence[Letter]) -> None:
        """Read what was written to the topic since the last look, and note what it says of these letters."""
        ends = self._consumer.end_offsets(self._partitions)
        for partition, record in up_to(self._consumer, ends):
            if mark := mark_of(partition, record):
                self._news.setdefault(mark.letter, []).append(mark)
        for letter in letters:
            letter.marks = (*letter.marks, *self._news.pop(letter.id, ()))

    def _mark(self, letter: Letter, word: str, by: str) -> Any:
        headers = [(names.RETRIED, word.encode()), (names.RETRY_OF, letter.id.encode()), (BY, by.encode())]
        return self._producer.send(
            self._topics.dead_letters, b"", key=letter.key or None, headers=headers, partition=letter.partition
        )

    # --- records -----------------------------------------------------------------------------------------------------

    def _send(self, letters: Sequence[Letter], begun: float) -> Iterator[Outcome]:
        sends: list[tuple[Letter, Any]] = []
        for letter, record in self._records(letters):
            if isinstance(record, MlmmError):
                self._mark(letter, "given back", self._me)
                yield Outcome(letter, "refused", str(record))
            elif time.monotonic() - begun > self._seconds + GRACE_SECONDS / 2:
                # Held up for so long that someone else may soon take it for dead: leave it to them.
                self._mark(letter, "given back", self._me)
                yield Outcome(letter, "refused", "this process was held up: try again")
            else:
                sends.append((letter, self._send_one(letter, record)))
        self._producer.flush()
        for letter, sent in sends:
            yield self._outcome(letter, sent)
        self._producer.flush()

    def _outcome(self, letter: Letter, sent: Any) -> Outcome:
        from kafka.errors import KafkaError, KafkaTimeoutError

        try:
            if isinstance(sent, KafkaError):
                raise sent
            found = sent.get(timeout=self._seconds)
        except KafkaTimeoutError as error:
            return Outcome(letter, "unknown", f"{error}; a retry in a few minutes looks for it first")
        except KafkaError as error:
            self._mark(letter, "given back", self._me)
            return Outcome(letter, "refused", f"{type(error).__name__}: {error}")
        self._mark(letter, "sent", self._me)
        return Outcome(letter, "sent", f"{letter.topic} {found.partition}:{found.offset}")

    def _send_one(self, letter: Letter, record: Record) -> Any:
        from kafka.errors import KafkaError

        # kafka-python sends no header without a value: an empty one says the same.
        headers = [(name, value or b"") for name, value in record.headers if name not in _NOT_SENT]
        headers += [(names.ATTEMPT, b"%d" % (letter.attempt + 1)), (names.RETRY_OF, letter.id.encode())]
        topic = self._topics.full(letter.topic)
        try:
            where = partition_of(record.key, len(self._producer.partitions_for(topic)))
            return self._producer.send(topic, record.value, key=record.key or None, headers=headers, partition=where)
        except KafkaError as error:
            return error

    def _records(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, Record | MlmmError]]:
        """Read the records of letters, in one sweep a partition; what a letter left out, one by one."""
        for place in self._partitions:
            wanted = {each.offset: each for each in letters if each.partition == place.partition and not each.left_out}
            if not wanted:
                continue
            with assigned(self._settings, self._topics.dead_letters) as (consumer, _):
                consumer.assign([place])
                first = max(min(wanted), consumer.beginning_offsets([place])[place])
                consumer.seek(place, first)
                for partition, record in up_to(consumer, {place: max(wanted) + 1}):
                    letter = wanted.get(record.offset)
                    if letter is not None and letter_of(partition, record).id == letter.id:
                        yield wanted.pop(record.offset), record
            for letter in wanted.values():
                yield letter, MlmmError(f"{letter.place}: the letter is no longer in {self._topics.dead_letters}")
        for letter in letters:
            if letter.left_out:
                try:
                    yield letter, full_record(self._settings, letter)
                except MlmmError as error:
                    yield letter, error

    def _arrived(self, letter: Letter, mark: Mark) -> bool:
        """Whether the record that a dead process may have sent is in its topic."""
        with assigned(self._settings, self._topics.full(letter.topic)) as (consumer, partitions):
            since = round(mark.log_time / 1000 - SKEW_SECONDS * 1000)
            found = consumer.offsets_for_times(dict.fromkeys(partitions, since))
            ends = consumer.end_offsets(partitions)
            for place in partitions:
                consumer.seek(place, found[place].offset if found.get(place) else ends[place])
            wanted = letter.id.encode()
            return any(header(record.headers, names.RETRY_OF) == wanted for _, record in up_to(consumer, ends))
