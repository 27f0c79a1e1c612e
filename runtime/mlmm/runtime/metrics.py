"""What the harness counts about itself, per processor and partition."""

from typing import Any

import msgspec

__all__ = ["Metrics", "PartitionMetrics"]


class PartitionMetrics(msgspec.Struct, kw_only=True):
    """Counts of one claimed partition since it was claimed."""

    records: int = 0
    polls: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    """Spent waiting for Redis, all commits together."""
    commit_bytes: int = 0
    process_seconds: float = 0.0
    """Spent in the processor and in encoding its outputs."""
    outputs: int = 0
    sent: int = 0
    """Outputs that Kafka acknowledged."""
    resent: int = 0
    """Outputs sent once more after a failure."""
    duplicates: int = 0
    """Incoming records dropped by their sequence."""
    misplaced: int = 0
    """Incoming records that lay in the wrong partition."""
    gaps: int = 0
    """Offsets that the broker no longer has (compaction, retention, aborted transactions)."""
    lost: int = 0
    """Of these, what retention deleted before it was read: each time a finding, and an incident."""
    ticks: int = 0
    """Ticks written."""
    outbox: int = 0
    """Outputs waiting to be sent."""
    paused: bool = False
    """Whether a full outbox holds the input back."""
    position: int = 0
    """Next offset to be read."""
    lag: int = 0
    """Records between it and the end of the log, as last heard."""
    last_commit: float = 0.0
    """Monotonic clock of the last commit, seconds."""


class Metrics:
    """Counters of one worker process."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], PartitionMetrics] = {}
        self.counters: dict[tuple[str, int], dict[str, int]] = {}
        """Of the states (`State.counters`), as of the last poll."""
        self.claims = 0
        self.redis_retries = 0

    def of(self, processor: str, partition: int) -> PartitionMetrics:
        """Counters of one partition, made when first asked for."""
        return self.partitions.setdefault((processor, partition), PartitionMetrics())

    def drop(self, processor: str, partition: int) -> None:
        """Forget a partition that is no longer ours."""
        self.partitions.pop((processor, partition), None)
        self.counters.pop((processor, partition), None)

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """Give one flat mapping a partition.

        Parameters
        ----------
        now : float
            Monotonic clock, seconds.
        """
        rows = []
        for (processor, partition), metrics in sorted(self.partitions.items()):
            row: dict[str, Any] = {"processor": processor, "partition": partition, **msgspec.structs.asdict(metrics)}
            last = row.pop("last_commit")
            row["last_commit_age"] = round(now - last, 3) if last else None
            row["commit_seconds"] = round(metrics.commit_seconds, 6)
            row["process_seconds"] = round(metrics.process_seconds, 6)
            row |= {f"state_{name}": count for name, count in self.counters.get((processor, partition), {}).items()}
            rows.append(row)
        return rows
