"""Findings as the processors send them, and a small reader of what alerting makes of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from mlmm.alerting.processor import AlertingProcessor, AlertingState
from mlmm.events import JSON, cloudevents_headers, decode_events, encode_json
from mlmm.events.types import CommandState, Drift, Event, Gap, Report, RunState, Subject
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.settings import AlertingSettings, Notifier, Order, Rule, Settings
from mlmm.runtime.ticks import tick

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
STOP = Order(kind="stop")
TYPES = {
    Report: "mlmm.report.v1",
    Drift: "mlmm.drift.v1",
    RunState: "mlmm.run.state.v1",
    CommandState: "mlmm.command.state.v1",
    Gap: "mlmm.gap.v1",
}


def settings(*rules: Rule, **alerting: Any) -> Settings:
    return Settings(
        rules=rules,
        alerting=AlertingSettings(**alerting),
        notifiers={name: Notifier(kind="email", to=("ml@example.org",)) for name in ("on_call", "chat")},
    )


def rule(**fields: Any) -> Rule:
    return Rule(**{"name": "accuracy fell", "notify": ("on_call",), "window": "10m", **fields})


def accuracy_rule(**fields: Any) -> Rule:
    return rule(**{"model": "fraud*", "metric": "accuracy", "below": 0.9, **fields})


def falling_rule(**fields: Any) -> Rule:
    return rule(**{"name": "hopeless run", "run": "churn*", "trigger": "falling", "command": STOP, **fields})


def report(nth: int, accuracy: float | None = 0.8, *, model: str = "fraud", **fields: Any) -> Report:
    """The report of the nth ten minutes; ``fields`` replace what it would say."""
    start = START + nth * 600 * SECOND
    figures = {} if accuracy is None else {"accuracy": accuracy}
    said: dict[str, Any] = {
        "subject": Subject(model=model),
        "kind": "performance",
        "window": "600s",
        "start": start,
        "end": start + 600 * SECOND,
        "log_time": start + 610 * SECOND,
        "events": 500,
        "figures": figures,
        "undefined": {} if figures else {"accuracy": "no pairs"},
    }
    return Report(**{**said, **fields})


def drift(seconds: float, *, series: str = "error", model: str = "fraud", **fields: Any) -> Drift:
    said: dict[str, Any] = {
        "subject": Subject(model=model),
        "series": series,
        "detector": "adwin",
        "params": {"delta": 0.002},
        "before": 0.05,
        "after": 0.25,
        "observed": 4000,
        "began": 120,
        "event_time": at(seconds),
        "log_time": at(seconds),
        "history": (0.05, 0.06, 0.05, 0.2, 0.25),
        "history_block": 100,
    }
    return Drift(**{**said, **fields})


def run_state(seconds: float, *, run: str = "churn-1", attempt: str = "a1", **fields: Any) -> RunState:
    said: dict[str, Any] = {
        "run_id": run,
        "attempt": attempt,
        "experiment": "churn",
        "status": "running",
        "log_time": at(seconds),
        "event_time": at(seconds),
        "step": 300,
    }
    return RunState(**{**said, **fields})


def trigger(seconds: float, **fields: Any) -> RunState:
    said = {
        "trigger": "falling",
        "metric": "val/accuracy",
        "reason": "0.71 is 0.09 under its best 0.80",
        "history": (0.8, 0.71),
    }
    return run_state(seconds, **{**said, **fields})


def said(seconds: float, command_id: str, state: str, *, run: str = "churn-1", **fields: Any) -> CommandState:
    return CommandState(
        **{"command_id": command_id, "state": state, "log_time": at(seconds), "target": run, "run_id": run, **fields}
    )


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


def key_of(finding: Any) -> bytes:
    if isinstance(finding, RunState):
        return finding.run_id.encode()
    if isinstance(finding, Gap):
        return f"{finding.topic}/{finding.partition}".encode()
    return (finding.target if isinstance(finding, CommandState) else finding.subject.model).encode()


def record(finding: Any, offset: int = 0, *, lag: float = 0, key: bytes | None = None) -> Record:
    """A finding as a record that the log took ``lag`` seconds after its cause; an int is a tick at that log time."""
    if isinstance(finding, int):
        message = tick("findings", "mlmm/alerting", finding)
        return Record(offset, finding, b"", message.value, message.headers)
    type_ = TYPES[type(finding)]
    cause = finding.last_read if isinstance(finding, Gap) else finding.log_time
    headers = cloudevents_headers(type_, f"{type_}:{cause}", "mlmm/serving/findings/0", cause, JSON)
    log_time = cause + round(lag * SECOND)
    return Record(offset, log_time, key if key is not None else key_of(finding), encode_json(finding), headers)


def tick_at(seconds: float) -> int:
    return at(seconds)


class Story:
    """A state that is told findings one by one, and what it put out."""

    def __init__(self, given: Settings) -> None:
        self.state: AlertingState = AlertingProcessor(given).state()
        self.outputs: list[Output] = []
        self._offset = 0

    def tell(self, *findings: Any, lag: float = 0) -> list[Output]:
        made = []
        for finding in findings:
            made += self.state.process([record(finding, self._offset, lag=lag)])
            self._offset += 1
        self.outputs += made
        return made

    def of(self, topic: str, outputs: Iterable[Output] | None = None) -> list[Any]:
        chosen = self.outputs if outputs is None else outputs
        return [decoded(output) for output in chosen if output.topic == topic]

    @property
    def incidents(self) -> list[Any]:
        return self.of("incidents")

    @property
    def mails(self) -> list[str]:
        return [note.incident.state for note in self.of("notifications")]

    @property
    def commands(self) -> list[Any]:
        return self.of("commands")


def decoded(output: Output) -> Event:
    (event,) = decode_events(output.type, JSON, output.value, key=output.key)
    return event


def states(incidents: Sequence[Any]) -> list[str]:
    return [incident.state for incident in incidents]
