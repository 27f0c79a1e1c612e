"""What can be said of rules before they run: for ``mlmm rules check``."""

from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from mlmm.alerting._rules import BASELINE
from mlmm.alerting._words import clean, span
from mlmm.runtime.settings import Rule, Settings

__all__ = ["FIGURES", "RuleNote", "check_rules"]

_SHARES = frozenset({"accuracy", "precision", "recall", "f1", "error_rate", "positive_rate", "coverage"})
_AT_LEAST_ZERO = frozenset(
    {"predictions", "failures", "throughput", "late", "duplicates", "pairs", "corrections", "mae", "rmse"}
    | {"latency_mean", "latency_p50", "latency_p95", "latency_p99", "label_lag_mean"}
)
FIGURES = _SHARES - {"coverage"} | _AT_LEAST_ZERO | {"output_mean", "bias"}
"""Names of the figures that reports hold."""


class RuleNote(NamedTuple):
    """One thing to know about a rule."""

    rule: str
    """Its name; empty where it is about no single rule."""
    level: Literal["problem", "note"]
    """``problem``: the rule can't do what it is there for; ``note``: it may be meant so."""
    text: str
    """In words, with what to do."""


def check_rules(settings: Settings) -> list[RuleNote]:
    """Read the rules and say what will not work, or not as one may think.

    What is plainly wrong (an unknown notifier, two bounds) does not get here: the settings refuse it at load.

    Parameters
    ----------
    settings : Settings
        As loaded.

    Returns
    -------
    list of RuleNote
        In the order of the rules; empty when there is nothing to say.
    """
    if not settings.rules:
        return [RuleNote("", "note", "there are no rules: nothing will alert; add [[rules]] to mlmm.toml")]
    return [
        RuleNote(rule.name, level, text)
        for rule in settings.rules
        for level, text in (*_check_condition(rule, settings), *_check_consequence(rule, settings))
    ]


Said = Iterator[tuple[Literal["problem", "note"], str]]


def _check_condition(rule: Rule, settings: Settings) -> Said:
    if rule.metric is not None:
        yield from _check_metric(rule, settings)
    if rule.drift is not None:
        yield from _check_drift(rule, settings)
    if rule.no_data is not None and rule.model is not None:
        shortest = min(settings.serving.windows, default=0.0)
        if rule.no_data < 2 * shortest:
            silence, window = span(rule.no_data), span(shortest)
            yield (
                "problem",
                f"no_data = {silence} is shorter than two windows of {window}: it would fire while all is well",
            )
    if rule.no_data is not None and rule.run is not None:
        lost = settings.training.lost_after
        yield (
            "note",
            f"a run is silent when it misses {lost} heartbeats ([training] lost_after), however long no_data is",
        )


def _check_metric(rule: Rule, settings: Settings) -> Said:
    metric = rule.metric or ""
    if metric not in FIGURES:
        close = get_close_matches(metric, FIGURES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(sorted(FIGURES))}"
        yield "problem", f"no report holds a figure {clean(metric)!r}{hint}"
        return
    if rule.window not in settings.serving.windows:
        windows = ", ".join(span(window) for window in settings.serving.windows)
        yield "problem", f"no report has a window of {span(rule.window)}; [serving] windows has {windows}"
    low = 0.0 if metric in _SHARES or metric in _AT_LEAST_ZERO else float("-inf")
    high = 1.0 if metric in _SHARES else float("inf")
    lower, upper = (rule.below, rule.above) if rule.outside is None else rule.outside
    never = [
        lower is not None and lower <= low and (upper is None or upper >= high),
        upper is not None and upper >= high and lower is None,
        rule.drops_by is not None and rule.drops_by > high - low,
        rule.rises_by is not None and rule.rises_by > high - low,
    ]
    if any(never):
        yield "problem", f"it can never hold: {metric} lies between {low:g} and {high:g}"
    if (rule.below is not None and rule.below > high) or (rule.above is not None and rule.above < low):
        yield "problem", f"it always holds: {metric} lies between {low:g} and {high:g}"
    if rule.drops_by is not None or rule.rises_by is not None:
        first = f"{BASELINE.start} windows ({span(BASELINE.start * rule.window)})"
        yield "note", f"a change is judged once {first} kept the bound; those that break it are not taken for normal"
    if rule.min_count == 0 and metric in _SHARES:
        yield "note", "min_count is 0: a window of a single event is judged; min_count = 100 keeps chance out"


def _check_drift(rule: Rule, settings: Settings) -> Said:
    series = settings.serving.detectors.series
    pattern = rule.drift or ""
    if not (settings.serving.detectors.adwin or settings.serving.detectors.page_hinkley):
        yield "problem", "no detector runs: set adwin or page_hinkley in [serving.detectors]"
    watched = ("error" in series and fnmatchcase("error", pattern)) or (
        "features" in series and (fnmatchcase("feature:x", pattern) or pattern.startswith("feature:"))
    )
    if not watched:
        listed = ", ".join(series) or "none"
        hint = f"; did you mean 'feature:{pattern}'?" if pattern.isidentifier() and pattern != "error" else ""
        yield "problem", f"no detector watches {clean(pattern)!r}: [serving.detectors] series has {listed}{hint}"
    if rule.window != 60.0:
        yield "note", "window is not used: detectors judge each value as it comes"


def _check_consequence(rule: Rule, settings: Settings) -> Said:
    if not rule.notify and rule.command is None:
        yield "note", "it tells nobody and orders nothing: its incidents are only on the incidents topic"
    if rule.notify and settings.smtp.host == "localhost" and settings.smtp.port == 25:
        yield "note", "mail goes to localhost:25; set [smtp] host where another server takes it"
    if rule.command is not None and settings.alerting.signing_key is None:
        yield "note", f"its {rule.command.kind} commands are not signed: add [[alerting.keys]] with active = true"
    if rule.command is not None and rule.command.kind == "stop" and rule.metric is not None and rule.held == (1, 1):
        yield "note", 'a single window stops every run of the model; hold = "3 of 5" asks for more'
