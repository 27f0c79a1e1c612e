"""One record of every type and shape, whose bytes are held in ``golden/``.

``python -m tests.events.samples`` writes the files anew: only where the contract gained something, never to make a test
pass.
"""

from collections.abc import Mapping, Sequence
from math import inf, nan
from pathlib import Path

from mlmm.events import blocks_of, encode_columns, encode_json, types

GOLDEN = Path(__file__).parent / "golden"
TIME = 1_790_000_000_000_000
"""2026-09-21T14:13:20Z"""

_numbers = [
    types.Prediction(
        prediction_id=f"order-{i}",
        time=TIME + i,
        model="fraud",
        version="2026.11",
        output=i % 2,
        features={"amount": 12.5 * i, "new": i == 0, "age": None if i == 1 else 30 + i},
        score=0.25 * i,
        latency=0.004,
        threshold=0.5,
    )
    for i in range(3)
]
_mixed = [
    types.Prediction(
        prediction_id=["é", "日本", "x" * 300][i],
        time=TIME + i,
        model="animals",
        task="multiclass",
        route="challenger",
        positive="cat",
        output=["cat", 1, "dog"][i],
        features={"weight": 4.5, "colour": ["black", None, "grey"][i]},
        segments={"country": ["DE", "FR", "DE"][i]},
        score={"cat": 0.5, "dog": 0.25},
        weight=None if i else 2.0,
        value=9.99,
    )
    for i in range(3)
]
_subject = types.Subject(model="fraud", version="2026.11")
_incident = types.Incident(
    incident_id="i-1",
    rule="accuracy fell",
    state="firing",
    severity="critical",
    subject=_subject,
    started=TIME,
    updated=TIME + 60_000_000,
    reason="accuracy 0.71 is below 0.9",
    evidence={"accuracy": 0.71, "window": "10m"},
)

SAMPLES: Mapping[str, tuple[str, Sequence[types.Event]]] = {
    "predictions-numbers": ("mlmm.predictions.v1", _numbers),
    "predictions-mixed": ("mlmm.predictions.v1", _mixed),
    "labels-numbers": (
        "mlmm.labels.v1",
        [types.Label(prediction_id=f"order-{i}", time=TIME, model="fraud", value=i, weight=2.0) for i in range(2)],
    ),
    "labels-mixed": (
        "mlmm.labels.v1",
        [types.Label(prediction_id="é", time=TIME, model="animals", value=value) for value in ("cat", 1, "1", 1.0)],
    ),
    "failures": (
        "mlmm.failures.v1",
        [
            types.Failure(
                time=TIME, model="fraud", kind="ValueError", message="no such column", version="1", status=500
            ),
            types.Failure(time=TIME, model="fraud", kind="TimeoutError", version="1", latency=30.0),
        ],
    ),
    "run-metrics": (
        "mlmm.run.metrics.v1",
        [
            types.Metrics(
                run_id="churn-1", attempt="a1", time=TIME + i, step=i, values={"loss": loss, "val/accuracy": 0.5}
            )
            for i, loss in enumerate((1.5, nan, inf, -inf))
        ],
    ),
    "run-started": (
        "mlmm.run.started.v1",
        [
            types.RunStarted(
                run_id="churn-1",
                attempt="a1",
                time=TIME,
                experiment="churn",
                params={"lr": 0.001, "layers": [64, 32]},
                triggers=(
                    types.Falling(metric="val/accuracy"),
                    types.FallingStrict(metric="loss", mode="min"),
                    types.NotFinite(),
                    types.Plateau(metric="loss", evaluations=5),
                ),
                total_steps=10_000,
                model="churn",
            )
        ],
    ),
    "run-heartbeat": (
        "mlmm.run.heartbeat.v1",
        [types.Heartbeat(run_id="churn-1", attempt="a1", time=TIME, step=7, reader_age=0.5)],
    ),
    "run-checkpoint": (
        "mlmm.run.checkpoint.v1",
        [
            types.Checkpoint(
                run_id="churn-1", attempt="a1", time=TIME, step=7, uri="file:///c/7", size=9, sha256="00" * 32
            )
        ],
    ),
    "run-ended": (
        "mlmm.run.ended.v1",
        [types.RunEnded(run_id="churn-1", attempt="a1", time=TIME, status="stopped", last_step=8, resumable_from=7)],
    ),
    "command-acked": (
        "mlmm.command.acked.v1",
        [
            types.Acked(
                command_id="c-1", state="completed", time=TIME, target="churn-1", attempt="a1", checkpoint="file:///c/7"
            )
        ],
    ),
    "report": (
        "mlmm.report.v1",
        [
            types.Report(
                subject=_subject,
                kind="performance",
                window="last 1000",
                start=TIME,
                end=TIME + 1,
                log_time=TIME + 2,
                events=1000,
                figures={"accuracy": 0.71},
                undefined={"auc": "all labels are of one class"},
                coverage=0.5,
            )
        ],
    ),
    "drift": (
        "mlmm.drift.v1",
        [
            types.Drift(
                subject=_subject,
                series="feature:amount",
                detector="adwin",
                params={"delta": 0.002},
                before=1.0,
                after=2.0,
                observed=1023,
                began=32,
                event_time=TIME,
                log_time=TIME + 1,
                history=(1.0, 1.0, 2.0),
                history_block=32,
            )
        ],
    ),
    "gap": (
        "mlmm.gap.v1",
        [types.Gap(topic="mlmm.serving", partition=2, first=1000, until=1250, lost=250, last_read=TIME)],
    ),
    "run-state": (
        "mlmm.run.state.v1",
        [
            types.RunState(
                run_id="churn-1",
                attempt="a1",
                experiment="churn",
                status="running",
                log_time=TIME,
                event_time=TIME,
                trigger="not_finite",
                metric="loss",
                reason="loss is NaN",
                figures={"loss": nan, "val/accuracy": 0.5},
            )
        ],
    ),
    "command-state": (
        "mlmm.command.state.v1",
        [types.CommandState(command_id="c-1", state="superseded", log_time=TIME, target="churn-1")],
    ),
    "incident": ("mlmm.incident.v1", [_incident]),
    "notification": (
        "mlmm.notification.v1",
        [types.Notification(notification_id="n-1", notifier="on_call", incident=_incident, created=TIME)],
    ),
    "notification-outcome": (
        "mlmm.notification.outcome.v1",
        [
            types.NotificationOutcome(
                notification_id="n-1",
                notifier="on_call",
                state="delivered",
                time=TIME,
                attempts=2,
                delivered_to=("a@b.c",),
            )
        ],
    ),
    "command": (
        "mlmm.command.v1",
        [
            types.Command(
                command_id="c-1",
                kind="stop",
                issued_at=TIME,
                expires_at=TIME + 3_600_000_000,
                issued_by="rule: hopeless run",
                run_id="churn-1",
                attempt="a1",
                reason="val/accuracy falls",
                evidence={"best": 0.9, "now": 0.7},
            )
        ],
    ),
    "tick": ("mlmm.tick.v1", [types.Tick(time=TIME)]),
}
"""Name of the golden file → type and events of the record."""


def files() -> dict[str, bytes]:
    """Name → bytes of every golden file, as the code of today writes them."""
    made = {}
    for name, (type_, events) in SAMPLES.items():
        made[f"{name}.json"] = encode_json(events[0] if len(events) == 1 else events)
        if type_ in _IN_COLUMNS:
            (block,) = blocks_of(events)
            made[f"{name}.columns"] = encode_columns(block)
    return made


_IN_COLUMNS = ("mlmm.predictions.v1", "mlmm.labels.v1", "mlmm.failures.v1", "mlmm.run.metrics.v1")

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, content in files().items():
        (GOLDEN / name).write_bytes(content)
