"""How much is kept of training runs, and what becomes of the rest."""

import msgspec

__all__ = ["Bounds"]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one partition's state. Times are seconds of log time."""

    max_runs: int = 10_000
    """Runs. A new one beyond this takes the place of the one that closed longest ago; when all are alive its
    records are dead letters."""
    max_metrics: int = 128
    """Metrics a run. Values of more are counted and not kept."""
    max_triggers: int = 32
    """Triggers a run. A start that declares more is a dead letter."""
    max_attempts: int = 32
    """Earlier attempts that are remembered of a run, so that a late word of theirs is not taken for a new start."""
    forget_after: float = 7 * 86_400.0
    """A run that ended or was lost is forgotten after this long."""
    max_event_ahead: float = 300.0
    """An event whose time is further ahead of the log's is a dead letter."""
    heartbeat_every: float = 10.0
    """Of a run whose start this log does not tell."""
    shortest_heartbeat: float = 0.1
    """A start that promises more frequent heartbeats is a dead letter."""
    longest_heartbeat: float = 86_400.0
    """A start that promises rarer heartbeats is a dead letter."""
