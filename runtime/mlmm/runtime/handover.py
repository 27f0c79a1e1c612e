"""A processor's states under another number of partitions. Pure: knows neither Kafka nor Redis.

Keys are islands, so a state is moved by moving each cell to where its key's records go now. What was not read yet is
folded on the way, since a record that was placed by the old number would be a stranger to its own state afterwards: all
partitions by log time, each record to the state of its key.
"""

from collections.abc import Iterable, Mapping

import msgspec

from mlmm.events.errors import MalformedEvent
from mlmm.events.headers import header
from mlmm.events.placement import partition_of
from mlmm.runtime import outbox, sequence
from mlmm.runtime.deadletters import OFFSET, dead_letter
from mlmm.runtime.losses import lost_records
from mlmm.runtime.processor import Output, Processor, Record
from mlmm.runtime.ticks import is_tick

__all__ = ["Handover"]


class Handover:
    """States on their way from one number of partitions to a higher one.

    Parameters
    ----------
    processor : Processor
        Whose states they are.
    old, new : int
        Numbers of partitions.
    layout : int
        In which the cells will be written.
    epoch : int
        Of what is put out on the way: higher than any before. Offsets of several partitions meet in one state, so the
        records of each state are counted from 1, and afterwards the epoch rises once more.
    log_time : int
        Latest log time that any of the states has seen, in microseconds.
    """

    def __init__(self, processor: Processor, old: int, new: int, *, layout: int, epoch: int, log_time: int) -> None:
        self.processor, self.old, self.new, self.epoch = processor, old, new, epoch
        self.states = [processor.state(layout) for _ in range(new)]
        self.log_times = [log_time] * new
        self.records = [0] * new
        """Folded on the way, of each new partition."""
        self.seen: dict[bytes, bytes] = {}
        """``ce_source`` → last sequence, for all partitions: what was committed before was read."""
        self._old_seen: list[Mapping[bytes, bytes]] = [{}] * old
        self._heard: set[tuple[bytes, bytes]] = set()

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Take in cells of any old partition."""
        moved: list[list[tuple[bytes, bytes]]] = [[] for _ in range(self.new)]
        for cell in cells:
            moved[partition_of(self.processor.key_of(cell[0]), self.new)].append(cell)
        for state, share in zip(self.states, moved, strict=True):
            state.load(share)

    def load_seen(self, partition: int, seen: Mapping[bytes, bytes]) -> None:
        """Take in what an old partition of a worker-made topic has seen."""
        self._old_seen[partition] = seen
        for source, last in seen.items():
            self.seen[source] = max(last, self.seen.get(source, b""))

    def lose(self, source: str, topic: str, partition: int, first: int, until: int) -> bytes:
        """Return the outbox entry that tells of records that are gone; the first one of its partition."""
        made = lost_records(source, topic, partition, first=first, until=until, log_time=self.log_times[partition])
        return outbox.encode(sequence.encode(self.epoch, 0, 0), made, self.processor.input, partition)

    def feed(self, batch: Iterable[tuple[int, Record]]) -> dict[int, list[bytes]]:
        """Fold records, each with the partition that it lies in, ordered by log time.

        Returns
        -------
        dict of int to list of bytes
            New partition → outbox entries, ascending.
        """
        shares: dict[int, list[Record]] = {}
        letters: dict[int, list[Output]] = {}
        origins: dict[tuple[int, int], tuple[int, int]] = {}
        for partition, record in batch:
            where = self._place(partition, record)
            target = partition if where is None else where
            if self._was_seen(partition, record):
                continue
            self.records[target] += 1
            self.log_times[target] = max(self.log_times[target], record.log_time)
            here = record._replace(offset=self.records[target], log_time=self.log_times[target])
            origins[target, here.offset] = partition, record.offset
            if where is None:
                letters.setdefault(target, []).append(dead_letter(here, self._misplaced(record)))
            else:
                shares.setdefault(target, []).append(here)
        entries = {}
        for target in sorted({*shares, *letters}):
            made = [*self.states[target].process(shares.get(target, ())), *letters.get(target, ())]
            made.sort(key=lambda output: output.offset)
            self.states[target].changed()
            entries[target] = [
                self._entry(number, output, target, origins) for number, output in sequence.numbered(made, self.epoch)
            ]
        return entries

    def _place(self, partition: int, record: Record) -> int | None:
        """Partition whose state takes a record; None where it lies where neither number would have put it."""
        if is_tick(record):
            return partition
        if not record.key:
            return None
        now = partition_of(record.key, self.new)
        before = partition_of(record.key, self.old)
        return now if partition in {now, before} else None

    def _was_seen(self, partition: int, record: Record) -> bool:
        number, source = header(record.headers, "ce_sequence"), header(record.headers, "ce_source")
        made = self.processor.input in sequence.WORKER_MADE
        if not made or number is None or source is None or not sequence.is_one(number):
            return False
        in_old_place = bool(record.key) and partition == partition_of(record.key, self.old)
        if (source, number) in self._heard or (in_old_place and number <= self._old_seen[partition].get(source, b"")):
            return True
        self._heard.add((source, number))
        if source in self.seen or (len(self.seen) < sequence.SOURCES and len(source) <= sequence.SOURCE_BYTES):
            self.seen[source] = max(number, self.seen.get(source, b""))
        return False

    def _misplaced(self, record: Record) -> MalformedEvent:
        return MalformedEvent(
            f"key {record.key!r} belongs in another partition, by {self.old} and by {self.new} of them", field="key"
        )

    def _entry(
        self, number: bytes, output: Output, target: int, origins: Mapping[tuple[int, int], tuple[int, int]]
    ) -> bytes:
        if output.type:
            return outbox.encode(number, output, self.processor.input, target)
        partition, offset = origins[target, output.offset]
        headers = tuple((name, b"%d" % offset if name == OFFSET else value) for name, value in output.headers)
        letter = msgspec.structs.replace(output, headers=headers)
        return outbox.encode(number, letter, self.processor.input, partition)
