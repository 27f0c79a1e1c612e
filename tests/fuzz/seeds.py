"""Good records to begin from: the golden bytes, and some that reach further into the processors."""

from mlmm.events import COLUMNS_TYPE, JSON, cloudevents_headers, encode_json, types
from tests.events.samples import GOLDEN, SAMPLES, TIME
from tests.fuzz.cases import Case

__all__ = ["KEYS", "seeds"]

TOPICS = {
    "mlmm.predictions.v1": "serving",
    "mlmm.labels.v1": "serving",
    "mlmm.failures.v1": "serving",
    "mlmm.run.started.v1": "training",
    "mlmm.run.metrics.v1": "training",
    "mlmm.run.heartbeat.v1": "training",
    "mlmm.run.checkpoint.v1": "training",
    "mlmm.run.ended.v1": "training",
    "mlmm.command.acked.v1": "training",
    "mlmm.report.v1": "findings",
    "mlmm.drift.v1": "findings",
    "mlmm.run.state.v1": "findings",
    "mlmm.command.state.v1": "findings",
    "mlmm.command.v1": "commands",
}
"""Type → the topic it is sent to; what stands in no worker's input is not here."""
KEYS = {"predictions-mixed": b"animals", "labels-mixed": b"animals"}


def _key(name: str, event: types.Event) -> bytes:
    for field in ("target", "run_id", "model"):
        if (found := getattr(event, field, None)) is not None:
            return found.encode()
    return (event.subject.model or event.subject.run).encode()  # type: ignore[attr-defined]


def case(topic: str, key: bytes, type_: str, content: str, value: bytes, story: str) -> Case:
    headers = cloudevents_headers(type_, f"seed:{story}", "mlmm://fuzz/1", TIME, content)
    return Case(topic, key, value, tuple(headers), story)


def _more() -> list[tuple[str, types.Event]]:
    triggers = (
        types.Falling(metric="loss", mode="min", patience=2, drop=0.1),
        types.FallingStrict(metric="val/accuracy", count=2),
        types.NotFinite(),
        types.Plateau(metric="loss", evaluations=3),
    )
    started = types.RunStarted(
        run_id="run", attempt="a1", time=TIME, experiment="e", params={"lr": 1e-3}, triggers=triggers, model="fraud"
    )
    metrics = [
        types.Metrics(
            run_id="run", attempt="a1", time=TIME, step=step, values={"loss": 1.0 + step, "val/accuracy": "NaN"}
        )
        for step in range(4)
    ]
    state = types.RunState(
        run_id="run", attempt="a1", experiment="e", status="running", log_time=TIME, event_time=TIME, trigger="falling",
        metric="loss", reason="it falls", figures={"loss": "NaN"}, history=(1.0, 2.0),
    )  # fmt: skip
    report = types.Report(
        subject=types.Subject(model="fraud"), kind="performance", window="60s", start=TIME - 60_000_000, end=TIME,
        log_time=TIME, events=500, figures={"accuracy": 0.5}, undefined={"f1": "no labels"},
    )  # fmt: skip
    ended = types.RunEnded(run_id="run", attempt="a1", time=TIME, status="failed", error="OOM", last_step=7)
    acked = types.Acked(
        command_id="c", state="completed", time=TIME, target="run", attempt="a1", checkpoint="x", step=3
    )
    return [
        ("mlmm.run.started.v1", started),
        *(("mlmm.run.metrics.v1", each) for each in metrics),
        ("mlmm.run.state.v1", state),
        ("mlmm.report.v1", report),
        ("mlmm.run.ended.v1", ended),
        ("mlmm.command.acked.v1", acked),
    ]


def seeds() -> list[Case]:
    """Every golden record of a topic that someone else writes to, and a few more."""
    found = []
    for name, (type_, events) in SAMPLES.items():
        if type_ not in TOPICS:
            continue
        for suffix, content in ((".json", JSON), (".columns", COLUMNS_TYPE)):
            path = GOLDEN / f"{name}{suffix}"
            if path.exists():
                found.append(
                    case(TOPICS[type_], _key(name, events[0]), type_, content, path.read_bytes(), f"{name}{suffix}")
                )
    for type_, event in _more():
        story = f"more:{type_}"
        found.append(case(TOPICS[type_], _key(story, event), type_, JSON, encode_json(event), story))
    return found
