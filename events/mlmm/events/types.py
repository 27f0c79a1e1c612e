"""Every event of the contract, one event as one object.

Times are integer microseconds since the epoch (UTC), durations float seconds, ratios lie in 0..1. Unknown fields are
ignored; a missing required field is a `MalformedEvent` that names it. Batches in columns are in `mlmm.events.columns`.
"""

from typing import Any, Literal

import msgspec

__all__ = [
    "TYPES",
    "Acked",
    "Checkpoint",
    "Command",
    "CommandState",
    "Drift",
    "Failure",
    "Falling",
    "FallingStrict",
    "Gap",
    "Heartbeat",
    "Incident",
    "Label",
    "Metrics",
    "NotFinite",
    "Notification",
    "NotificationOutcome",
    "Plateau",
    "Prediction",
    "Report",
    "RunEnded",
    "RunStarted",
    "RunState",
    "Subject",
    "Tick",
    "Trigger",
]

Scalar = float | str | bool | None
Task = Literal["binary", "multiclass", "regression"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event is: immutable, by keyword, defaults left out on the wire."""


# --- serving -----------------------------------------------------------------------------------------------------


class Prediction(Event, frozen=True, kw_only=True):
    """One answer of a served model. A second one of the same ``prediction_id`` is counted and dropped."""

    prediction_id: str
    time: int
    model: str
    output: float | str | bool
    features: dict[str, Scalar] = {}
    version: str | None = None
    score: float | dict[str, float] | None = None
    task: Task = "binary"
    positive: float | str | bool = 1
    threshold: float | None = None
    latency: float | None = None
    segments: dict[str, str] = {}
    weight: float | None = None
    value: float | None = None
    route: Literal["champion", "challenger", "shadow"] = "champion"


class Label(Event, frozen=True, kw_only=True):
    """The truth for one prediction; a later one of the same id corrects it."""

    prediction_id: str
    time: int
    model: str
    value: float | str | bool
    weight: float | None = None


class Failure(Event, frozen=True, kw_only=True):
    """A request that got no answer."""

    time: int
    model: str
    kind: str
    message: str = ""
    version: str | None = None
    status: int | None = None
    latency: float | None = None


# --- training ----------------------------------------------------------------------------------------------------


class FallingStrict(Event, frozen=True, kw_only=True, tag_field="kind", tag="falling_strict"):
    """``count`` values in a row, each worse than the one before. The literal rule: noise hides a real fall from it."""

    metric: str
    count: int = 10
    mode: Literal["max", "min"] = "max"
    """``max``: higher is better (an accuracy), so falling is bad; ``min``: lower is better (a loss)."""


class Falling(Event, frozen=True, kw_only=True, tag_field="kind", tag="falling"):
    """The smoothed metric stays at least ``drop`` worse than its best for ``patience`` values in a row."""

    metric: str
    alpha: float = 0.05
    drop: float = 0.05
    patience: int = 10
    mode: Literal["max", "min"] = "max"


class NotFinite(Event, frozen=True, kw_only=True, tag_field="kind", tag="not_finite"):
    """A metric is NaN or infinite. ``metric`` may be a glob; the default watches all of them."""

    metric: str = "*"


class Plateau(Event, frozen=True, kw_only=True, tag_field="kind", tag="plateau"):
    """No improvement of at least ``min_delta`` within ``evaluations`` values (evaluations, never steps)."""

    metric: str
    evaluations: int = 20
    min_delta: float = 0.0
    mode: Literal["max", "min"] = "max"


Trigger = FallingStrict | Falling | NotFinite | Plateau


class RunStarted(Event, frozen=True, kw_only=True):
    """An attempt at a run begins. The last one in the partition names the current attempt."""

    run_id: str
    attempt: str
    time: int
    experiment: str
    params: dict[str, Any] = {}
    triggers: tuple[Trigger, ...] = ()
    total_steps: int | None = None
    model: str | None = None
    resumed_from: int | None = None
    host: str = ""
    heartbeat_every: float = 10.0
    """Seconds between heartbeats; the run counts as lost after several of them are missing."""


class Metrics(Event, frozen=True, kw_only=True):
    """Figures of one step."""

    run_id: str
    attempt: str
    time: int
    step: int
    values: dict[str, float | str]
    """JSON has no NaN: ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` stand for themselves."""
    phase: str = "train"


class Heartbeat(Event, frozen=True, kw_only=True):
    """The trainer lives."""

    run_id: str
    attempt: str
    time: int
    step: int | None = None
    reader_age: float | None = None
    """Seconds since the command reader last had an answer from the broker."""


class Checkpoint(Event, frozen=True, kw_only=True):
    """A checkpoint that is on disk, whole."""

    run_id: str
    attempt: str
    time: int
    step: int
    uri: str
    size: int
    sha256: str


class RunEnded(Event, frozen=True, kw_only=True):
    """An attempt ended, by its own word (or ``lost``, by the processor's)."""

    run_id: str
    attempt: str
    time: int
    status: Literal["completed", "stopped", "interrupted", "failed", "lost"]
    error: str = ""
    last_step: int | None = None
    resumable_from: int | None = None


class Acked(Event, frozen=True, kw_only=True):
    """What a target says to a command. At least once; ``ce_id`` is ``<command_id>:<state>`` (or ``:unproven``)."""

    command_id: str
    state: Literal["accepted", "completed", "rejected", "expired"]
    time: int
    target: str
    """Run id (or model) that answers: the record key."""
    attempt: str | None = None
    reason: str = ""
    checkpoint: str | None = None
    step: int | None = None
    unproven: bool = False
    """Whether what is answered was not shown to be its issuer's: a refusal that says nothing of a genuine order."""


# --- findings ----------------------------------------------------------------------------------------------------


class Subject(Event, frozen=True, kw_only=True):
    """What a finding speaks of: a model (with version, route, segment), a run (with attempt), a host, or a topic."""

    model: str | None = None
    version: str | None = None
    route: str | None = None
    segment: str | None = None
    run: str | None = None
    attempt: str | None = None
    host: str | None = None
    topic: str | None = None
    """Full name, with ``partition``."""
    partition: int | None = None


class Report(Event, frozen=True, kw_only=True):
    """Figures of one window."""

    subject: Subject
    kind: Literal["service", "performance", "training"]
    window: str
    """``"60s"`` for a window of time, ``"last 1000"`` for one over the last pairs."""
    start: int
    end: int
    log_time: int
    """Log time of what closed the window: the cause's clock, by which alerting reckons."""
    events: int
    figures: dict[str, float]
    undefined: dict[str, str] = {}
    """Figure → why it has no value."""
    coverage: float | None = None
    revision: int = 0
    final: bool = True


class Drift(Event, frozen=True, kw_only=True):
    """A series no longer behaves as it did."""

    subject: Subject
    series: str
    """``"error"``, ``"feature:amount"``, ``"prediction"``."""
    detector: str
    params: dict[str, float]
    before: float
    after: float
    observed: int
    """Values seen of this series since its detectors last began anew, the alarming one included."""
    began: int
    """Estimate: how many values ago the change set in."""
    event_time: int
    log_time: int
    history: tuple[float, ...] = ()
    """Means of equal blocks of the series, oldest first, for a picture."""
    history_block: int = 1
    """Values a block."""


class RunState(Event, frozen=True, kw_only=True):
    """What is known of a run: sent when it changes, and when a trigger fires."""

    run_id: str
    attempt: str
    experiment: str
    status: Literal["running", "completed", "stopped", "interrupted", "failed", "lost"]
    log_time: int
    event_time: int
    step: int | None = None
    model: str | None = None
    error: str = ""
    resumable_from: int | None = None
    checkpoint: str | None = None
    trigger: str | None = None
    """Kind of the trigger that fired, with ``metric``, ``reason`` and ``history`` as its evidence."""
    metric: str | None = None
    reason: str = ""
    figures: dict[str, float | str] = {}
    history: tuple[float, ...] = ()
    started: int | None = None
    """Log time of this attempt's ``run.started``."""


class CommandState(Event, frozen=True, kw_only=True):
    """What became of a command, as far as the target said. Keyed by the command's target."""

    command_id: str
    state: Literal["accepted", "completed", "rejected", "expired", "superseded"]
    log_time: int
    target: str
    run_id: str | None = None
    attempt: str | None = None
    reason: str = ""
    checkpoint: str | None = None
    unproven: bool = False
    """As in `Acked`."""


class Gap(Event, frozen=True, kw_only=True):
    """Records of an input that were deleted (retention) before they were read. Keyed by ``<topic>/<partition>``."""

    topic: str
    """Full name."""
    partition: int
    first: int
    """Offset that was to be read next."""
    until: int
    """Offset of the oldest record that is left."""
    lost: int
    """Offsets between the two: how many records were lost, at most."""
    last_read: int | None = None
    """Log time of the last record that was read before; None where there was none."""


# --- alerting ----------------------------------------------------------------------------------------------------


class Incident(Event, frozen=True, kw_only=True):
    """A rule that holds, from pending to resolved. The last record of an id is how it stands."""

    incident_id: str
    rule: str
    state: Literal["pending", "firing", "resolved"]
    severity: Literal["info", "warning", "critical"]
    subject: Subject
    started: int
    updated: int
    reason: str
    evidence: dict[str, Any] = {}
    ended: int | None = None


class Notification(Event, frozen=True, kw_only=True):
    """A message to be delivered by one notifier."""

    notification_id: str
    notifier: str
    incident: Incident
    created: int


class NotificationOutcome(Event, frozen=True, kw_only=True):
    """What became of a notification; compacted by id, so that nothing is sent again.

    ``retrying`` is no end yet: it says who has it so far (``delivered_to``), so that whoever goes on tells only others,
    and how many tries ended with nobody knowing (``unsure``), so that they count for whoever goes on.
    """

    notification_id: str
    notifier: str
    state: Literal["delivered", "failed", "retrying"]
    time: int
    attempts: int
    error: str = ""
    delivered_to: tuple[str, ...] = ()
    unsure: int = 0
    """Tries after which nobody knows whether it arrived."""


class Command(Event, frozen=True, kw_only=True):
    """An order. A target is a run and attempt, or a model: then every run that declared it and began before."""

    command_id: str
    kind: Literal["stop", "retrain", "promote", "rollback"]
    issued_at: int
    expires_at: int
    issued_by: str
    run_id: str | None = None
    attempt: str | None = None
    """None: whichever attempt runs that began before ``issued_at``."""
    model: str | None = None
    reason: str = ""
    evidence: dict[str, Any] = {}


class Tick(Event, frozen=True, kw_only=True):
    """Time passes: lets deadlines fire when nothing else arrives."""

    time: int


TYPES: dict[str, type[Event]] = {
    "mlmm.predictions.v1": Prediction,
    "mlmm.labels.v1": Label,
    "mlmm.failures.v1": Failure,
    "mlmm.run.started.v1": RunStarted,
    "mlmm.run.metrics.v1": Metrics,
    "mlmm.run.heartbeat.v1": Heartbeat,
    "mlmm.run.checkpoint.v1": Checkpoint,
    "mlmm.run.ended.v1": RunEnded,
    "mlmm.command.acked.v1": Acked,
    "mlmm.report.v1": Report,
    "mlmm.drift.v1": Drift,
    "mlmm.run.state.v1": RunState,
    "mlmm.command.state.v1": CommandState,
    "mlmm.gap.v1": Gap,
    "mlmm.incident.v1": Incident,
    "mlmm.notification.v1": Notification,
    "mlmm.notification.outcome.v1": NotificationOutcome,
    "mlmm.command.v1": Command,
    "mlmm.tick.v1": Tick,
}
