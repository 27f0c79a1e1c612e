"""The topics of the contract, and their full names under a prefix."""

from typing import ClassVar, NamedTuple

__all__ = ["ALL", "TopicSpec", "Topics"]


class TopicSpec(NamedTuple):
    """What is fixed about one topic; partitions, replication and retention are settings."""

    logical: str
    """Name without the prefix, such as ``"notification-outcomes"``."""
    key: str
    """What the record key is."""
    types: tuple[str, ...]
    """CloudEvents types that may stand in it (``mlmm.tick.v1`` aside); empty where they are as received."""
    summary: str
    """From whom, to whom."""
    compacted: bool = False
    """Whether the last record of a key is kept for ever (``cleanup.policy=compact``)."""


ALL: tuple[TopicSpec, ...] = (
    TopicSpec(
        "serving",
        "model or model#shard",
        ("mlmm.predictions.v1", "mlmm.labels.v1", "mlmm.failures.v1", "mlmm.command.acked.v1"),
        "Serving processes to the serving processor.",
    ),
    TopicSpec(
        "training",
        "run id",
        (
            "mlmm.run.started.v1",
            "mlmm.run.metrics.v1",
            "mlmm.run.heartbeat.v1",
            "mlmm.run.checkpoint.v1",
            "mlmm.run.ended.v1",
            "mlmm.command.acked.v1",
        ),
        "Trainers to the training processor.",
    ),
    TopicSpec("resources", "host", (), "Hosts, trainers and serving processes to the resource processor."),
    TopicSpec(
        "findings",
        "model, run id or host; of a command's state the command's target; of a gap topic/partition",
        ("mlmm.report.v1", "mlmm.drift.v1", "mlmm.run.state.v1", "mlmm.command.state.v1", "mlmm.gap.v1"),
        "Stream processors to alerting and the console.",
    ),
    TopicSpec("incidents", "incident id", ("mlmm.incident.v1",), "Alerting to the console.", compacted=True),
    TopicSpec("notifications", "notifier", ("mlmm.notification.v1",), "Alerting to the notifier worker."),
    TopicSpec(
        "notification-outcomes",
        "notification id",
        ("mlmm.notification.outcome.v1",),
        "The notifier worker to itself and the console.",
        compacted=True,
    ),
    TopicSpec(
        "commands",
        "run id or model",
        ("mlmm.command.v1",),
        "Alerting and the console to trainers and deployers: the stop topic.",
    ),
    TopicSpec("dead-letters", "as received", (), "Records that do not keep the contract, to people."),
)
"""Every topic, in the order in which ``mlmm topics create`` makes them."""


class Topics:
    """Full names of the topics under a prefix.

    Parameters
    ----------
    prefix : str
        What stands before each name; ``"mlmm"`` makes ``"mlmm.serving"``.

    Examples
    --------
    >>> Topics("prod").notification_outcomes
    'prod.notification-outcomes'
    """

    ALL: ClassVar[tuple[TopicSpec, ...]] = ALL

    def __init__(self, prefix: str = "mlmm") -> None:
        self.prefix = prefix
        self.serving = self.full("serving")
        self.training = self.full("training")
        self.resources = self.full("resources")
        self.findings = self.full("findings")
        self.incidents = self.full("incidents")
        self.notifications = self.full("notifications")
        self.notification_outcomes = self.full("notification-outcomes")
        self.commands = self.full("commands")
        self.dead_letters = self.full("dead-letters")

    def full(self, logical: str) -> str:
        """Full name of a logical one; ``ValueError`` where there is no such topic."""
        if all(spec.logical != logical for spec in ALL):
            raise ValueError(f"no topic {logical!r}: one of {', '.join(spec.logical for spec in ALL)}")
        return f"{self.prefix}.{logical}"

    def logical(self, full: str) -> str:
        """Logical name of a full one; ``ValueError`` where it is not one of these topics."""
        logical = full.removeprefix(f"{self.prefix}.")
        if self.full(logical) != full:
            raise ValueError(f"no topic of ours: {full!r}, expected {self.prefix}.NAME")
        return logical

    def __repr__(self) -> str:
        return f"Topics({self.prefix!r})"
