"""Rules as the processor uses them: whom a rule watches, and what it says of one figure."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from mlmm.alerting._words import MICROSECONDS, apart, figure, span
from mlmm.events.types import Subject
from mlmm.runtime.durations import window_name
from mlmm.runtime.settings import Rule

__all__ = ["BASELINE", "LOST", "Rulebook", "Ruling", "Verdict", "grace", "judge"]

BASELINE = range(3, 21)
"""How many of the preceding windows that kept the bound ``drops_by`` and ``rises_by`` compare with (their mean)."""
LOST = "records lost"
"""The rule that no settings need: records were deleted before they were read, and everyone is told."""
_CACHED_SUBJECTS = 10_000
_LONGEST_GRACE = 15 * MICROSECONDS


def grace(wait: int) -> int:
    """Return how much later than a deadline after ``wait`` a tick may fire it, in microseconds.

    Findings come from workers that may be restarting: a quarter of the wait, at most 15 s, lets what they have to say
    arrive. What the timer puts out speaks of the deadline, so that a worker which was killed changes no byte of it.
    """
    return min(wait // 4, _LONGEST_GRACE)


class Verdict(NamedTuple):
    """What a rule says of one figure."""

    broken: bool | None
    """Whether the bound is broken; None where there is nothing to compare with yet."""
    shown: str
    """``"accuracy 0.81"``."""
    how: str
    """``"below 0.9"``, or why there is no verdict."""
    limits: tuple[float, ...] = ()
    """The bound as figures, for a picture."""
    baseline: float | None = None
    """What a change is measured against."""


def judge(rule: Rule, value: float, normal: Sequence[float]) -> Verdict:
    """Hold one figure against a rule's bound.

    Parameters
    ----------
    rule : Rule
        A rule with a metric.
    value : float
        The figure; finite.
    normal : sequence of float
        The figure in the preceding windows that kept the bound, oldest first.
    """
    if rule.below is not None:
        figures = apart(value, rule.below)
        return Verdict(value < rule.below, f"{rule.metric} {figures[0]}", f"below {figures[1]}", (rule.below,))
    if rule.above is not None:
        figures = apart(value, rule.above)
        return Verdict(value > rule.above, f"{rule.metric} {figures[0]}", f"above {figures[1]}", (rule.above,))
    if rule.outside is not None:
        low, high = rule.outside
        shown = apart(value, low if value < low else high)[0]
        return Verdict(
            not low <= value <= high, f"{rule.metric} {shown}", f"outside {figure(low)} to {figure(high)}", rule.outside
        )
    if len(normal) < BASELINE.start:
        return Verdict(
            None, f"{rule.metric} {figure(value)}", f"has {len(normal)} of {BASELINE.start} windows to compare with", ()
        )
    mean = sum(normal) / len(normal)
    shown, usual = apart(value, mean)
    change = value - mean
    if rule.drops_by is not None:
        words = f"is {figure(-change)} under its usual {usual}"
        return Verdict(-change >= rule.drops_by, f"{rule.metric} {shown}", words, (mean - rule.drops_by,), mean)
    limit = rule.rises_by or 0.0
    words = f"is {figure(change)} over its usual {usual}"
    return Verdict(change >= limit, f"{rule.metric} {shown}", words, (mean + limit,), mean)


class Ruling(NamedTuple):
    """A rule with what is worked out once."""

    rule: Rule
    window: str
    need: int
    among: int
    silence: int
    """``no_data`` in microseconds; 0 where the rule has none."""

    @property
    def condition(self) -> str:
        """The rule's condition in words."""
        rule = self.rule
        if rule.metric is None:
            if rule.drift is not None:
                return f"drift of {rule.drift}"
            return f"trigger {rule.trigger}" if rule.trigger else f"no data for {span(rule.no_data or 0)}"
        for bound in ("below", "above", "drops_by", "rises_by"):
            limit = getattr(rule, bound)
            if limit is not None:
                return f"{bound.replace('_', ' ')} {figure(limit)}"
        low, high = rule.outside or (0.0, 0.0)
        return f"outside {figure(low)} to {figure(high)}"


class Rulebook:
    """All rules, and which of them watch a subject.

    Parameters
    ----------
    rules : iterable of Rule
        From the settings; names are unique.
    everyone : sequence of str
        All notifiers of the settings: they are told where the monitoring itself has a hole.
    """

    def __init__(self, rules: Iterable[Rule], *, everyone: Sequence[str] = ()) -> None:
        self._rulings = tuple(
            Ruling(rule, window_name(rule.window), *rule.held, round((rule.no_data or 0) * MICROSECONDS))
            for rule in rules
        )
        self._models: dict[Subject, tuple[Ruling, ...]] = {}
        # It watches topics, whatever the model: no finding of a model or run is shown to it.
        rule = Rule(name=LOST, model="*", drift="*", severity="critical", notify=tuple(everyone))
        self.lost = Ruling(rule, "", 1, 1, 0)
        self.named = {LOST: self.lost, **{ruling.rule.name: ruling for ruling in self._rulings}}

    def for_model(self, subject: Subject) -> tuple[Ruling, ...]:
        """Return the rules that watch a model's finding.

        A rule without ``version`` watches every version, one without ``segment`` only the model as a whole.
        """
        found = self._models.get(subject)
        if found is None:
            if len(self._models) >= _CACHED_SUBJECTS:
                self._models.clear()
            found = tuple(ruling for ruling in self._rulings if _watches_model(ruling.rule, subject))
            self._models[subject] = found
        return found

    def for_run(self, run_id: str, experiment: str) -> tuple[Ruling, ...]:
        """Return the rules that watch a run, by its id or its experiment."""
        return tuple(
            ruling
            for ruling in self._rulings
            if ruling.rule.run is not None
            and (fnmatchcase(run_id, ruling.rule.run) or fnmatchcase(experiment, ruling.rule.run))
        )


def _watches_model(rule: Rule, subject: Subject) -> bool:
    if rule.model is None or subject.model is None or not fnmatchcase(subject.model, rule.model):
        return False
    if rule.version is not None and not fnmatchcase(subject.version or "", rule.version):
        return False
    if rule.segment is None:
        return subject.segment is None
    return subject.segment is not None and fnmatchcase(subject.segment, rule.segment)
