"""Evidence: the figures of an incident, and the history that its picture is drawn from. Plain and bounded."""

import math
from collections.abc import Sequence
from typing import Any

from mlmm.alerting._cells import Watch
from mlmm.alerting._rules import Ruling, Verdict
from mlmm.alerting._words import clean, moment, period, span
from mlmm.events.types import Drift, Gap, Report, RunState

__all__ = ["DRIFTED", "HISTORY", "of_drift", "of_gap", "of_metric", "of_run", "of_silence"]

HISTORY = 48
"""Points of a picture."""
DRIFTED = 20
"""Series that one incident lists."""
_FIGURES = 24
_NAME = 80


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _points(values: Sequence[float], limit: int = HISTORY) -> list[float | None]:
    return [_plain(value) for value in values[-limit:]]


def of_metric(ruling: Ruling, watch: Watch, report: Report, verdict: Verdict, broken: int) -> dict[str, Any]:
    """Return the evidence of a figure that breaks its bound."""
    rule = ruling.rule
    metric = rule.metric or ""
    figures: dict[str, Any] = {metric: report.figures[metric], "bound": ruling.condition}
    if verdict.baseline is not None:
        figures["usual"] = verdict.baseline
    figures["window"] = f"{period(report.start, report.end)} ({span(rule.window)})"
    figures["events"] = report.events
    if report.coverage is not None:
        figures["coverage"] = report.coverage
    if ruling.among > 1:
        figures["windows that break it"] = f"{broken} of the last {min(len(watch.held), ruling.among)}"
    others = [name for name in report.figures if name != metric][:_FIGURES]
    since = len(watch.held) - watch.held.find(1) if 1 in watch.held else 0
    return {
        "what": "metric",
        "condition": f"{metric} {ruling.condition}",
        "figures": figures,
        "report": {clean(name, _NAME): _plain(report.figures[name]) for name in others},
        "history": {
            "name": metric,
            "values": _points(watch.values),
            "ends": list(watch.ends[-HISTORY:]),
            "limits": list(verdict.limits),
            "change": max(min(len(watch.values), HISTORY) - since, 0),
        },
    }


def of_drift(ruling: Ruling, drift: Drift, earlier: dict[str, Any]) -> dict[str, Any]:
    """Return the evidence of a drift; ``earlier`` lists the series that drifted before in the same incident."""
    name = clean(drift.series, _NAME)
    listed = {series: entry for series, entry in earlier.items() if series != name}
    for oldest in list(listed)[: max(len(listed) + 1 - DRIFTED, 0)]:
        del listed[oldest]
    listed[name] = {
        "detector": clean(drift.detector, _NAME),
        "before": _plain(drift.before),
        "after": _plain(drift.after),
        "at": drift.log_time,
    }
    values = _points(drift.history, 4 * HISTORY)
    block = max(drift.history_block, 1)
    change = max(len(values) - math.ceil(drift.began / block), 0)
    if drift.began < block:  # the last block is mostly of before: what came after would not be seen
        values = [*values, _plain(drift.after)]
    return {
        "what": "drift",
        "condition": ruling.condition,
        "figures": {
            "series": name,
            "before": _plain(drift.before),
            "after": _plain(drift.after),
            "set in": f"about {drift.began:,} values ago",
            "values seen": drift.observed,
            "detector": clean(drift.detector, _NAME),
            "found at": moment(drift.log_time),
        },
        "drifted": listed,
        "history": {
            "name": name,
            "values": values,
            "block": block,
            "change": change,
        },
    }


def of_run(ruling: Ruling, state: RunState) -> dict[str, Any]:
    """Return the evidence of a trigger that fired, or of a run that went silent."""
    figures: dict[str, Any] = {"trigger": state.trigger or state.status}
    if state.metric:
        figures["metric"] = clean(state.metric, _NAME)
    if state.step is not None:
        figures["step"] = state.step
    for name in list(state.figures)[:_FIGURES]:
        value = state.figures[name]
        figures.setdefault(clean(name, _NAME), clean(value) if isinstance(value, str) else _plain(value))
    figures["experiment"] = clean(state.experiment, _NAME)
    if state.model:
        figures["model"] = clean(state.model, _NAME)
    if state.checkpoint:
        figures["checkpoint"] = clean(state.checkpoint)
    evidence: dict[str, Any] = {"what": "run", "condition": ruling.condition, "figures": figures}
    if state.history:
        name = clean(state.metric or state.trigger or "", _NAME)
        evidence["history"] = {"name": name, "values": _points(state.history, 4 * HISTORY)}
    return evidence


def of_silence(ruling: Ruling, last: int) -> dict[str, Any]:
    """Return the evidence of a model that nothing is heard of."""
    return {
        "what": "no_data",
        "condition": ruling.condition,
        "figures": {"last report": moment(last), "allowed silence": span(ruling.rule.no_data or 0)},
    }


def of_gap(gap: Gap) -> dict[str, Any]:
    """Return the evidence of records that were lost."""
    return {
        "what": "gap",
        "condition": "records deleted before they were read",
        "figures": {
            "topic": clean(gap.topic, _NAME),
            "partition": gap.partition,
            "records lost": gap.lost,
            "first offset lost": gap.first,
            "goes on at offset": gap.until,
            "last read before": moment(gap.last_read) if gap.last_read else "nothing yet",
        },
    }
