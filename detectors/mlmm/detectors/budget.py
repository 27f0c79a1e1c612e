"""One stated budget of false alarms for a whole model, shared over all that watches it.

False alarms add up whatever depends on whatever: the mean number of a hundred detectors is the sum of theirs. So a
budget is shared by rates, and holds without any assumption on how features depend on one another.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ._parameters import number, whole

__all__ = ["AlarmBudget", "Spending"]


class Spending(NamedTuple):
    """What one watcher had of the budget and what came of it."""

    name: str
    """Of the watcher: a series, or series and detector, or these and a segment."""
    weight: float
    mean_time: float
    """Values between two of its false alarms, by its present share."""
    values: int
    """Values that it judged."""
    expected: float
    """False alarms that it may have raised over these values, on average, where nothing changed."""
    alarms: int
    """Alarms that it raised."""


@dataclass
class _Watcher:
    weight: float
    values: int = 0
    expected: float = 0.0
    alarms: int = 0


@dataclass
class AlarmBudget:
    """A mean time between false alarms for all watchers together.

    Each watcher (a detector on a series, in a segment) has a share by its weight: with equal weights and a budget of
    100,000 events, each of 100 features may alarm falsely once in 10 million values. A watcher that comes or goes
    changes the shares of all from then on; what was spent before stays spent.

    Parameters
    ----------
    mean_time_between_false_alarms : float
        Events between two false alarms of any watcher, above 1. For a duration multiply it with the rate of events.

    Raises
    ------
    ValueError
        For a parameter out of its range.

    Examples
    --------
    >>> budget = AlarmBudget(100_000)
    >>> budget.enrol(["error"], weight=2.0)
    >>> budget.enrol(["amount", "age"])
    >>> budget.mean_time("error"), budget.mean_time("age")
    (200000.0, 400000.0)
    """

    mean_time_between_false_alarms: float
    _watchers: dict[str, _Watcher] = field(default_factory=dict, repr=False)
    _gone: _Watcher = field(default_factory=lambda: _Watcher(0.0), repr=False)
    _weight: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        self.mean_time_between_false_alarms = number(
            "mean_time_between_false_alarms", self.mean_time_between_false_alarms, above=1.0, below=float("inf")
        )

    def enrol(self, names: Iterable[str], *, weight: float = 1.0) -> None:
        """Give watchers a share; one that has a share already gets the new weight.

        Raises
        ------
        ValueError
            For a weight that is not above 0.
        """
        checked = number("weight", weight, above=0.0, below=float("inf"))
        for name in names:
            watcher = self._watchers.setdefault(name, _Watcher(0.0))
            self._weight += checked - watcher.weight
            watcher.weight = checked

    def withdraw(self, names: Iterable[str]) -> None:
        """Share what watchers had among the others; what they spent stays in the totals."""
        for name in names:
            watcher = self._watchers.pop(name, None)
            if watcher:
                self._weight = self._weight - watcher.weight if self._watchers else 0.0
                self._gone.values += watcher.values
                self._gone.expected += watcher.expected
                self._gone.alarms += watcher.alarms

    def mean_time(self, name: str) -> float:
        """Values between two false alarms that a watcher may raise, by its present share.

        Raises
        ------
        KeyError
            If there is no such watcher.
        """
        return self.mean_time_between_false_alarms * self._weight / self._watchers[name].weight

    def observe(self, name: str, values: int, alarms: int = 0) -> None:
        """Note values that a watcher judged, and alarms that it raised over them, at its present share."""
        watcher = self._watchers[name]
        watcher.values += whole("values", values, least=0, most=2**63 - 1)
        watcher.expected += values / self.mean_time(name)
        watcher.alarms += whole("alarms", alarms, least=0, most=2**63 - 1)

    def report(self) -> list[Spending]:
        """What the budget was spent on, most alarms first; those that left are one line, ``(withdrawn)``."""
        lines = [
            Spending(name, w.weight, self.mean_time(name), w.values, w.expected, w.alarms)
            for name, w in self._watchers.items()
        ]
        lines.sort(key=lambda line: (-line.alarms, -line.expected, line.name))
        if self._gone.values:
            gone = self._gone
            lines.append(Spending("(withdrawn)", 0.0, float("inf"), gone.values, gone.expected, gone.alarms))
        return lines

    @property
    def expected(self) -> float:
        """False alarms that all watchers together may have raised so far, on average, where nothing changed."""
        return sum(line.expected for line in self.report())

    @property
    def alarms(self) -> int:
        """Alarms that were raised."""
        return sum(line.alarms for line in self.report())

    @property
    def false_share(self) -> float:
        """Share of the alarms that may be false by the budget: expected over raised, at most 1; 0.0 without alarms."""
        return min(1.0, self.expected / self.alarms) if self.alarms else 0.0
