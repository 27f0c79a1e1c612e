"""One claimed input partition: its state in memory, and what was committed of it."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from mlmm.runtime import outbox, sequence
from mlmm.runtime.claims import Claim
from mlmm.runtime.commits import Commit
from mlmm.runtime.harness.intake import GapRule, Placement, records_of
from mlmm.runtime.losses import lost_records
from mlmm.runtime.metrics import PartitionMetrics
from mlmm.runtime.processor import Processor, State
from mlmm.runtime.store import Keys

__all__ = ["Partition"]


class Partition:
    """One claimed input partition.

    Parameters
    ----------
    processor : Processor
        What runs on it.
    topic : str
        Full name of the input topic.
    number : int
        Number of the partition.
    partitions : int
        Partitions of the topic.
    keys : Keys
        Where it lies in Redis.
    source : str
        ``ce_source`` of its outputs.
    claim : Claim
        The right to write it.
    state : State
        Loaded.
    seen : Seen or None
        For inputs that workers make.
    metrics : PartitionMetrics
        Where it counts.
    """

    def __init__(
        self,
        processor: Processor,
        topic: str,
        number: int,
        partitions: int,
        *,
        keys: Keys,
        source: str,
        claim: Claim,
        state: State,
        seen: sequence.Seen | None,
        metrics: PartitionMetrics,
    ) -> None:
        self.processor, self.topic, self.number = processor, topic, number
        self.keys, self.source, self.claim, self.state, self.metrics = keys, source, claim, state, metrics
        self.offset = claim.offset
        """Next offset to be read: ahead of Redis while a commit is on its way."""
        self.committed = claim.offset
        self.log_time = claim.log_time
        self.gaps = GapRule()
        self.lower = 0
        """Times in a row that the log gave offsets from before the next one."""
        self.held = True
        """False between a revocation and the next claim: what it owes Kafka is then sent by whoever claims it."""
        self.pending: deque[bytes] = deque()
        """Committed outputs that are not popped from the outbox yet; changed by `owe` and `paid` alone."""
        self.pending_bytes = 0
        self.placement = Placement(number, partitions)
        self._seen = seen
        self._polls = 0
        self.deadline = state.deadline()
        """As of the last fold: the state itself belongs to the thread that folds."""
        self.counters = dict(state.counters())
        metrics.position = claim.offset

    def fold(self, fetched: Sequence[Any], gap: int) -> Commit:
        """Process what was fetched (at least one record, in order) and say what is to be committed.

        The state in memory runs ahead of the commit. That is safe since a commit that fails ends the process.
        """
        begun = time.perf_counter()
        records = records_of(fetched, self.log_time)
        expected, self.offset, self.log_time = self.offset, records[-1].offset + 1, records[-1].log_time
        metrics = self.metrics
        metrics.records += len(records)
        metrics.polls += 1
        metrics.gaps += gap
        metrics.position = self.offset
        if self._seen:
            came = len(records)
            records = self._seen.fresh(records)
            metrics.duplicates += came - len(records)
        records, outputs = self.placement.split(records)
        metrics.misplaced += len(outputs)
        caused = self.state.process(records)
        outputs = sorted([*caused, *outputs], key=lambda output: output.offset) if outputs else caused
        entries = [
            outbox.encode(number, output, self.processor.input, self.number)
            for number, output in sequence.numbered(outputs, self.claim.epoch)
        ]
        metrics.outputs += len(entries)
        self._polls += 1
        change = Commit(
            id=f"{self.claim.token}:{self._polls}",
            expected=expected,
            offset=self.offset,
            log_time=self.log_time,
            cells=self.state.changed(),
            outputs=entries,
            seen=self._seen.changed() if self._seen else {},
        )
        self.deadline = self.state.deadline()
        self.counters = dict(self.state.counters())
        metrics.process_seconds += time.perf_counter() - begun
        return change

    def lose(self, until: int) -> Commit:
        """Go on at the oldest record that is left; what was deleted before it was read leaves as a finding.

        The epoch rises: where Redis came back older, what is put out from here on is higher than what was put out
        before, and no reader takes it for a repetition.
        """
        first, self.offset = self.offset, until
        self.claim = msgspec.structs.replace(self.claim, epoch=self.claim.epoch + 1)
        lost = lost_records(self.source, self.topic, self.number, first=first, until=until, log_time=self.log_time)
        self.metrics.lost += until - first
        self.metrics.position = until
        self.metrics.outputs += 1
        self._polls += 1
        number = sequence.encode(self.claim.epoch, first, 0)
        return Commit(
            id=f"{self.claim.token}:{self._polls}",
            expected=first,
            offset=until,
            log_time=self.log_time,
            cells={},
            outputs=[outbox.encode(number, lost, self.processor.input, self.number)],
            epoch=self.claim.epoch,
        )

    def committed_to(self, change: Commit, seconds: float) -> None:
        """Take note that Redis holds a commit."""
        self.committed = change.offset
        self.owe(change.outputs)
        metrics = self.metrics
        metrics.commits += 1
        metrics.commit_seconds += seconds
        metrics.commit_bytes += change.size()
        metrics.last_commit = time.monotonic()

    def owe(self, entries: Sequence[bytes]) -> None:
        """Take note of entries that stand in the outbox."""
        self.pending.extend(entries)
        self.pending_bytes += sum(map(len, entries))
        self.metrics.outbox = len(self.pending)

    def paid(self, count: int) -> None:
        """Take note that the first entries were popped."""
        for _ in range(count):
            self.pending_bytes -= len(self.pending.popleft())
        self.metrics.outbox = len(self.pending)

    def __str__(self) -> str:
        return f"{self.processor.name} {self.topic}[{self.number}]"
