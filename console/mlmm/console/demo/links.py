"""The chain that the demo shows, link by link: what must have happened, and how one knows."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlmm.console.demo.plan import Plan
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.traffic import Traffic
from mlmm.console.demo.watch import Watch

__all__ = ["Link", "chain"]


class Link(NamedTuple):
    """One link of the chain."""

    what: str
    happened: Callable[[], str]
    """How it happened, in words; empty while it has not."""


def chain(plan: Plan, traffic: Traffic, watch: Watch, sink: MailSink) -> list[Link]:
    """Return the links in the order in which they happen."""

    def served() -> str:
        return f"{len(traffic.times):,} over HTTP" if traffic.times else ""

    def joined() -> str:
        report = watch.performance
        return (
            f"accuracy {report.figures.get('accuracy', float('nan')):.3f} over {report.events} pairs" if report else ""
        )

    def drift() -> str:
        for found in watch.drifts:
            if (
                traffic.injected_at
                and found.event_time >= traffic.injected_at
                and found.series == f"feature:{plan.sensor}"
            ):
                after = traffic.predictions_since_injection(found.event_time)
                return f"{found.detector} after {after} predictions: {found.before:.3g} → {found.after:.3g}"
        return ""

    def fired(rule: str) -> Callable[[], str]:
        def when() -> str:
            found = [i for i in watch.incidents.values() if i.rule == rule and i.state != "pending"]
            return found[0].reason if rule in watch.fired and found else ""

        return when

    def mailed(rule: str) -> Callable[[], str]:
        def when() -> str:
            subjects = [subject for subject, _ in sink.received if rule in subject]
            return subjects[0] if subjects else ""

        return when

    def commanded() -> str:
        return f"{watch.commands[0].kind} {watch.commands[0].run_id}" if watch.commands else ""

    def answered() -> str:
        done = [a for a in watch.answers if a.state == "completed"]
        if not done or not watch.run_ended:
            return ""
        where = Path((done[0].checkpoint or "").removeprefix("file://"))
        return f"stopped at step {done[0].step}, checkpoint {where.name}" if where.exists() else ""

    return [
        Link("predictions served", served),
        Link("late labels joined", joined),
        Link(f"drift of sensor {plan.sensor} found", drift),
        Link("incident: input drift", fired("input drift")),
        Link("incident: accuracy fell", fired("accuracy fell")),
        Link("mail: input drift", mailed("input drift")),
        Link("mail: accuracy fell", mailed("accuracy fell")),
        Link("incident: hopeless run", fired("hopeless run")),
        Link("stop command sent", commanded),
        Link("trainer saved and stopped", answered),
        Link("mail: hopeless run", mailed("hopeless run")),
    ]
