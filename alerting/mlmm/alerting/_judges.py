"""What each kind of finding means to the rules that watch its subject."""

import math
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from mlmm.alerting._cells import Watch
from mlmm.alerting._commands import give, supersede
from mlmm.alerting._evidence import HISTORY, of_drift, of_gap, of_metric, of_run, of_silence
from mlmm.alerting._rules import BASELINE, Rulebook, Ruling, Verdict, judge
from mlmm.alerting._turn import Turn
from mlmm.alerting._words import MICROSECONDS, apart, clean, span
from mlmm.events.types import Drift, Gap, Report, RunState, Subject

__all__ = ["FORGOTTEN_AFTER", "WATCHES", "fell_silent", "hear_drift", "hear_gap", "hear_report", "hear_run"]

WATCHES = 1000
"""Subjects that one island watches; what goes over is counted and not judged."""
FORGOTTEN_AFTER = 30 * 86_400 * MICROSECONDS
"""What was not heard of for so long, and has no incident, begins anew."""


class Post(NamedTuple):
    """A rule's watch on one subject."""

    name: str
    watch: Watch
    ruling: Ruling


def _post(turn: Turn, ruling: Ruling, subject: Subject) -> Post | None:
    """Return the watch of a rule on a subject; None where the island is full."""
    name = f"{ruling.rule.name}\0{msgspec.json.encode(subject).decode()}"
    watch = turn.island.watches.get(name)
    if watch is None:
        if len(turn.island.watches) >= WATCHES and not _make_room(turn):
            turn.count("subjects_over_limit")
            return None
        watch = turn.island.watches[name] = Watch(ruling.rule.name, subject)
    return Post(name, watch, ruling)


def _make_room(turn: Turn) -> bool:
    """Forget what was heard of longest ago, such as a version that is retired; False where all of it is of use."""
    watches = turn.island.watches
    silent = [(watch.window[1], name) for name, watch in watches.items() if watch.case is None and not watch.quiet]
    heard, name = min(silent, default=(turn.time, ""))
    if turn.time - heard < FORGOTTEN_AFTER:
        return False
    del watches[name]
    return True


def hear_report(turn: Turn, report: Report, rulebook: Rulebook) -> None:
    """Judge the figures of a final report, and note that the model was heard of."""
    for ruling in rulebook.for_model(report.subject):
        if ruling.silence:
            if report.kind == "service":  # labels that still come in are no sign that the model is used
                _heard(turn, ruling, report)
        elif ruling.rule.metric is not None and report.final and report.window == ruling.window:
            value = report.figures.get(ruling.rule.metric)
            if value is None or not math.isfinite(value) or report.events < ruling.rule.min_count:
                turn.count(
                    "not_judged" if ruling.rule.metric in {*report.figures, *report.undefined} else "other_reports"
                )
                continue
            post = _post(turn, ruling, report.subject)
            if post is not None:
                _judge(turn, post, report, value)


def _judge(turn: Turn, post: Post, report: Report, value: float) -> None:
    _, watch, ruling = post
    _forget_revised(watch, report)
    verdict = judge(ruling.rule, value, watch.normal)
    broken = bool(verdict.broken)
    watch.window = (report.start, report.end)
    watch.held = (watch.held + bytes((broken,)))[-ruling.among :]
    watch.ends = [*watch.ends, report.end][-HISTORY:]
    watch.values = [*watch.values, value][-HISTORY:]
    if not broken and (ruling.rule.drops_by is not None or ruling.rule.rises_by is not None):
        watch.normal = [*watch.normal, value][-(BASELINE.stop - 1) :]
    if broken:
        _broken(turn, post, report, verdict)
    elif watch.case is not None and 1 not in watch.held:
        calm = f"the last {ruling.among} windows" if ruling.among > 1 else "the last window"
        turn.resolve(watch, f"{verdict.shown}, within its bound for {calm} ({span(ruling.rule.window)})")


def _forget_revised(watch: Watch, report: Report) -> None:
    """Take back what was made of an earlier revision of the same window."""
    if not report.revision or watch.window != (report.start, report.end) or not watch.held:
        return
    if not watch.held[-1] and watch.normal:
        watch.normal = watch.normal[:-1]
    watch.held, watch.ends, watch.values = watch.held[:-1], watch.ends[:-1], watch.values[:-1]


def _broken(turn: Turn, post: Post, report: Report, verdict: Verdict) -> None:
    name, watch, ruling = post
    count = sum(watch.held)
    reason = f"{verdict.shown} {verdict.how} ({span(ruling.rule.window)})"
    rule = ruling.rule
    case = watch.case
    if case is None:
        case = watch.case = turn.open(rule, watch.subject, rule.severity, rule.notify, reason)
    else:
        case.alarms += 1
    turn.update(
        case, reason=reason, evidence={**of_metric(ruling, watch, report, verdict, count), "alarms": case.alarms}
    )
    if case.incident.state == "pending" and count >= ruling.need:
        give(turn, name, watch, rule)
        turn.fire(case)
    else:
        turn.tell(case)


def hear_drift(turn: Turn, drift: Drift, rulebook: Rulebook) -> None:
    """Open or renew the incidents of a drift; it is resolved when no further alarm was heard for ``resolve_after``."""
    for ruling in rulebook.for_model(drift.subject):
        rule = ruling.rule
        if rule.drift is None or not fnmatchcase(drift.series, rule.drift):
            continue
        if drift.observed < rule.min_count or (drift.series == "error" and drift.after <= drift.before):
            turn.count("not_judged")  # a model that errs less is no incident
            continue
        post = _post(turn, ruling, drift.subject)
        if post is None:
            continue
        before, after = apart(drift.before, drift.after)
        verb = "rose" if drift.after > drift.before else "fell"
        series, detector = clean(drift.series, 80), clean(drift.detector, 40)
        reason = f"{series} {verb} from {before} to {after} ({detector}, about {drift.began:,} values ago)"
        watch = post.watch
        earlier = watch.case.incident.evidence.get("drifted", {}) if watch.case else {}
        _alarm(turn, post, reason, of_drift(ruling, drift, earlier))
        watch.quiet = turn.time + round(turn.settings.resolve_after * MICROSECONDS)


def hear_gap(turn: Turn, gap: Gap, rulebook: Rulebook) -> None:
    """Open or renew the incident of a partition that lost records; it is resolved when no more are lost for a while."""
    post = _post(turn, rulebook.lost, Subject(topic=gap.topic, partition=gap.partition))
    if post is None:
        return
    place = f"{clean(gap.topic, 80)}[{gap.partition}]"
    offsets = f"{gap.first:,} to {gap.until - 1:,}"
    reason = f"{gap.lost:,} records of {place} were deleted before they were read (offsets {offsets})"
    _alarm(turn, post, reason, of_gap(gap))
    post.watch.quiet = turn.time + round(turn.settings.resolve_after * MICROSECONDS)


def _alarm(turn: Turn, post: Post, reason: str, evidence: dict[str, Any]) -> None:
    """Fire, or bring the firing incident up to date without a further notification."""
    name, watch, ruling = post
    rule = ruling.rule
    case = watch.case
    if case is not None:
        case.alarms += 1
        turn.update(case, reason=reason, evidence={**evidence, "alarms": case.alarms})
        turn.tell(case)
        return
    case = watch.case = turn.open(rule, watch.subject, rule.severity, rule.notify, reason)
    turn.update(case, evidence={**evidence, "alarms": 1})
    give(turn, name, watch, rule)
    turn.fire(case)


def hear_run(turn: Turn, state: RunState, rulebook: Rulebook) -> None:
    """Follow a run: its triggers fire rules, its end or a newer attempt resolves what stands."""
    island = turn.island
    if island.attempt and island.attempt != state.attempt:
        for lost in (False, True):
            _resolve_run(turn, "a new attempt of the run began", silent=lost)
        supersede(turn, "a new attempt of the run began", attempt_over=True)
        island.watches.clear()
    island.attempt = state.attempt
    island.ended = state.status != "running"
    if state.status == "running":
        _resolve_run(turn, "the run is heard of again", silent=True)
    for ruling in rulebook.for_run(state.run_id, state.experiment):
        rule = ruling.rule
        if ruling.silence and state.status == "lost":
            reason = f"the run is lost: {clean(state.error or state.reason) or 'its heartbeats stopped'}"
        elif rule.trigger is not None and state.trigger is not None and fnmatchcase(state.trigger, rule.trigger):
            metric = f" on {clean(state.metric, 80)}" if state.metric else ""
            why = f": {clean(state.reason)}" if state.reason else ""
            reason = f"{clean(state.trigger, 80)}{metric}{why}"
        else:
            continue
        post = _post(turn, ruling, Subject(run=state.run_id, attempt=state.attempt, model=state.model))
        if post is not None:
            _alarm(turn, post, reason, of_run(ruling, state))
            if ruling.silence:
                post.watch.quiet = turn.time + round(turn.settings.resolve_after * MICROSECONDS)
    if island.ended:
        why = _ending(state)
        _resolve_run(turn, why)
        supersede(turn, why, attempt_over=False)


def _resolve_run(turn: Turn, why: str, *, silent: bool = False) -> None:
    """Resolve the run's incidents; ``silent``: those of a run that was lost, which its end does not resolve."""
    for watch in turn.island.watches.values():
        lost = watch.quiet > 0
        if watch.case is not None and watch.case.incident.subject.run is not None and lost == silent:
            watch.quiet = 0
            turn.resolve(watch, why)


def _ending(state: RunState) -> str:
    at = f" at step {state.step:,}" if state.step is not None else ""
    saved = f"; resumable from step {state.resumable_from:,}" if state.resumable_from is not None else ""
    error = f": {clean(state.error)}" if state.error else ""
    verb = {"lost": "was lost", "interrupted": "was interrupted", "stopped": "was stopped"}.get(
        state.status, state.status
    )
    return f"the run {verb}{at}{saved}{error}"


def _heard(turn: Turn, ruling: Ruling, report: Report) -> None:
    """Data came: start the silence anew."""
    of, rule = report.subject, ruling.rule
    subject = Subject(model=of.model, version=rule.version and of.version, segment=rule.segment and of.segment)
    post = _post(turn, ruling, subject)
    if post is None:
        return
    watch = post.watch
    if watch.case is not None:
        waited = span((turn.time - watch.window[1]) / MICROSECONDS)
        turn.resolve(watch, f"data again, after {waited} of silence")
    watch.window = (0, turn.time)
    watch.quiet = turn.time + ruling.silence


def fell_silent(turn: Turn, name: str, watch: Watch, ruling: Ruling) -> None:
    """The silence that a watch waited for is complete: a quiet drift is resolved, a model without data fires."""
    watch.quiet = 0
    if ruling.silence and ruling.rule.model is not None:
        reason = f"no data for {span(ruling.rule.no_data or 0)}"
        _alarm(turn, Post(name, watch, ruling), reason, of_silence(ruling, watch.window[1]))
    elif ruling.silence:
        turn.resolve(
            watch, f"the run stayed lost for {span(turn.settings.resolve_after)}; nothing more is expected of it"
        )
    else:
        turn.resolve(watch, f"no further alarm for {span(turn.settings.resolve_after)}")
