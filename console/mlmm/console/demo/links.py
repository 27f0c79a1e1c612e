"""The chain that the demo shows, link by link: what must have happened, and how one knows."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlmm.console.demo.plan import Plan
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.traffic import Traffic
from mlmm.console.demo.watch import Watch
from mlmm.events import Drift

__all__ = ["Link", "chain", "found_drift"]

ENOUGH = 100


class Link(NamedTuple):
    """One link of the chain."""

    what: str
    happened: Callable[[], str]
    """How it happened, in words; empty while it has not."""
    where: str
    """Whose log to look into when it does not."""
    injected: bool = False
    """Whether the demo itself makes it happen."""


def chain(plan: Plan, traffic: Traffic, watch: Watch, sink: MailSink) -> list[Link]:
    """Return the links, about in the order in which they happen."""

    def served() -> str:
        return f"{len(traffic.times):,} answers" if len(traffic.times) >= ENOUGH else ""

    def joined() -> str:
        report = watch.performance
        accuracy = report.figures.get("accuracy") if report else None
        return f"accuracy {accuracy:.3f} over {report.events:,} pairs" if report and accuracy is not None else ""

    def noisy() -> str:
        last = watch.metrics
        return "injected" if last is not None and last.step >= plan.collapse_at else ""

    def high() -> str:
        return f"injected, after {traffic.before:,} predictions" if traffic.injected_at is not None else ""

    def triggered() -> str:
        state = watch.trigger
        return f"{state.metric} {state.trigger}, noticed at step {state.step}" if state else ""

    def commanded() -> str:
        return f"{watch.commands[0].kind}, to {watch.commands[0].run_id}" if watch.commands else ""

    def answered() -> str:
        done = [a for a in watch.answers if a.state == "completed"]
        if not done or not watch.run_ended:
            return ""
        checkpoint = Path((done[0].checkpoint or "").removeprefix("file://"))
        took = (done[0].time - watch.commands[0].issued_at) / 1e6 if watch.commands else 0.0
        return f"checkpoint {checkpoint.name}, {took:.1f} s after the cause" if checkpoint.exists() else ""

    def drifted() -> str:
        found = found_drift(plan, traffic, watch)
        if not found:
            return ""
        return f"{traffic.since_injection(found.event_time)} predictions after it began, by {found.detector}"

    def fell() -> str:
        incident = next((i for i in watch.fired.values() if i.rule == "accuracy fell"), None)
        return str(incident.evidence.get("was", incident.reason)) if incident else ""

    def mailed(rule: str) -> Callable[[], str]:
        def when() -> str:
            return next((mail.file.name for mail in sink.received if rule in mail.subject), "")

        return when

    return [
        Link("predictions over HTTP", served, "api"),
        Link("late labels joined", joined, "worker"),
        Link("trainer's labels turn to noise", noisy, "trainer", injected=True),
        Link("falling run noticed", triggered, "worker"),
        Link("stop command sent", commanded, "alerting"),
        Link("trainer saved and stopped", answered, "trainer"),
        Link("mail about the run", mailed("hopeless run"), "alerting"),
        Link(f"sensor {plan.sensor} reads high", high, "api", injected=True),
        Link(f"drift of sensor {plan.sensor} found", drifted, "worker"),
        Link("mail about the drift", mailed("input drift"), "alerting"),
        Link("fall of accuracy found", fell, "worker"),
        Link("mail about accuracy", mailed("accuracy fell"), "alerting"),
    ]


def found_drift(plan: Plan, traffic: Traffic, watch: Watch) -> Drift | None:
    """Return the first drift of the sensor that was made to read high."""
    if traffic.injected_at is None:
        return None
    return next(
        (d for d in watch.drifts if d.series == f"feature:{plan.sensor}" and d.event_time >= traffic.injected_at), None
    )
