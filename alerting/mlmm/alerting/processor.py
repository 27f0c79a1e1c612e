"""The alerting processor: findings in; incidents, notifications and commands out. Pure: time is in the findings."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import cast

from mlmm.alerting._cells import LAYOUT, Island, load_cell, save_cell
from mlmm.alerting._commands import answer
from mlmm.alerting._judges import FORGOTTEN_AFTER, hear_drift, hear_gap, hear_report, hear_run
from mlmm.alerting._rules import Rulebook
from mlmm.alerting._timers import Timer, fire, timers
from mlmm.alerting._turn import Turn
from mlmm.alerting._words import MICROSECONDS
from mlmm.events import MalformedEvent, decode_events, header
from mlmm.events.types import CommandState, Drift, Gap, Report, RunState
from mlmm.runtime.deadletters import dead_letter
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.settings import Settings
from mlmm.runtime.ticks import is_tick

__all__ = ["AlertingProcessor", "AlertingState"]

MAX_KEYS = 100_000
"""Models and runs of one partition that have state; the findings of further ones are dead letters."""
_AHEAD = 5 * 60 * MICROSECONDS
_CELL = b"k"
_TYPES = frozenset({"mlmm.report.v1", "mlmm.drift.v1", "mlmm.run.state.v1", "mlmm.command.state.v1", "mlmm.gap.v1"})

Finding = Report | Drift | RunState | CommandState | Gap


class AlertingProcessor:
    """Judges findings by the rules of the settings.

    Parameters
    ----------
    settings : Settings
        ``rules``, ``alerting`` and ``deployment`` are used.
    """

    name = "alerting"
    input = "findings"
    layouts: tuple[int, ...] = (LAYOUT,)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def state(self, layout: int | None = None) -> "AlertingState":
        """Make an empty state for one partition; there is one layout yet."""
        del layout
        return AlertingState(self._settings)

    def key_of(self, cell: bytes) -> bytes:
        """Return the finding key that a cell belongs to."""
        return cell[1:]


class AlertingState:
    """State of one partition of findings: an island a key, which nothing else in the partition changes.

    Everything that is put out speaks of cause time: a finding's ``log_time``, or the deadline of a timer. A timer fires
    before its key's next finding at or past the deadline, or at a tick that comes a grace later (see `_rules.grace`).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.alerting
        self._issuer = f"{settings.deployment}/alerting"
        self._rulebook = Rulebook(settings.rules, everyone=tuple(settings.notifiers))
        self._islands: dict[bytes, Island] = {}
        self._dirty: set[bytes] = set()
        self._due: dict[bytes, int] = {}
        self._queue: list[tuple[int, bytes]] = []
        self._old: list[tuple[int, bytes]] = []
        self._counters: Counter[str] = Counter()

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Take in stored cells, in any order and in several calls, before the first `process`.

        Raises ``ValueError`` naming the cell where a layout is unknown or damaged.
        """
        for name, cell in cells:
            if name[:1] != _CELL:
                raise ValueError(f"cell {name!r}: not one of alerting's")
            key = name[1:]
            self._islands[key] = load_cell(name, cell)
            self._schedule(key)

    def process(self, records: Sequence[Record]) -> list[Output]:
        """Fold records (ascending offsets) and return what they cause, ordered by input offset."""
        outputs: list[Output] = []
        for record in records:
            if is_tick(record):
                outputs.extend(self._tick(record))
                continue
            try:
                findings = self._decode(record)
                self._check_room(record.key)
            except MalformedEvent as error:
                self._counters["dead_letters"] += 1
                outputs.append(dead_letter(record, error))
                continue
            causation = (header(record.headers, "ce_id") or b"").decode("utf-8", "replace")
            for finding in findings:
                outputs.extend(self._hear(record, finding, causation))
        return outputs

    def changed(self) -> Mapping[bytes, bytes | None]:
        """Cells touched since the last call, with their new value or None where the cell is gone."""
        touched: dict[bytes, bytes | None] = {}
        for key in sorted(self._dirty):
            island = self._islands.get(key)
            touched[_CELL + key] = None if island is None else save_cell(island)
        self._dirty.clear()
        return touched

    def cells(self) -> Mapping[bytes, bytes]:
        """All cells: the canonical dump."""
        return {_CELL + key: save_cell(self._islands[key]) for key in sorted(self._islands)}

    def deadline(self) -> int | None:
        """Earliest log time at which a tick fires something, or None."""
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def counters(self) -> Mapping[str, int]:
        """Monotone counts: findings, ticks, dead letters, and what was put out."""
        return dict(self._counters)

    def _decode(self, record: Record) -> list[Finding]:
        type_ = (header(record.headers, "ce_type") or b"").decode("utf-8", "replace")
        if type_ not in _TYPES:
            raise MalformedEvent(f"{type_!r}: expected one of {', '.join(sorted(_TYPES))}", field="ce_type")
        content = (header(record.headers, "content-type") or b"application/json").decode("utf-8", "replace")
        findings = cast("list[Finding]", decode_events(type_, content, record.value, key=record.key))
        for finding in findings:
            if (time := _cause_time(finding, record)) > record.log_time + _AHEAD:
                raise MalformedEvent(f"{time}: later than the log by more than 5 minutes", field="log_time")
        return findings

    def _check_room(self, key: bytes) -> None:
        if len(self._islands) >= MAX_KEYS and key not in self._islands:
            raise MalformedEvent(f"more than {MAX_KEYS} models and runs in one partition", field="key")

    def _hear(self, record: Record, finding: Finding, causation: str) -> list[Output]:
        self._counters["findings"] += 1
        now = _cause_time(finding, record)
        island = self._islands.get(record.key)
        if island is None:
            island = Island(seen=now)
        elif now - island.seen >= FORGOTTEN_AFTER:
            _begin_anew(island)
        at = partial(self._turn, record.key, island, record.offset)
        turns = fire(island, _passed_by(finding, now), partial(at, causation=""), self._rulebook)
        turn = at(now, causation=causation)
        match finding:
            case Report():
                hear_report(turn, finding, self._rulebook)
            case Drift():
                hear_drift(turn, finding, self._rulebook)
            case RunState():
                hear_run(turn, finding, self._rulebook)
            case Gap():
                hear_gap(turn, finding, self._rulebook)
            case CommandState():
                turn.count("answers" if answer(turn, finding) else "answers_ignored")
        island.seen = max(island.seen, now)
        self._keep(record.key, island)
        return [output for each in (*turns, turn) for output in each.outputs]

    def _tick(self, record: Record) -> list[Output]:
        self._counters["ticks"] += 1
        now = record.log_time
        turns: list[Turn] = []
        while (due := self.deadline()) is not None and due <= now:
            key = self._queue[0][1]
            island = self._islands[key]
            at = partial(self._turn, key, island, record.offset, causation="")
            turns.extend(fire(island, lambda timer: timer.late <= now, at, self._rulebook))
            self._keep(key, island)
        self._forget(now)
        turns.sort(key=lambda turn: (turn.time, turn.key))
        return [output for turn in turns for output in turn.outputs]

    def _turn(self, key: bytes, island: Island, offset: int, time: int, *, causation: str) -> Turn:
        return Turn(
            key,
            island,
            time,
            offset=offset,
            causation=causation,
            settings=self._settings,
            issuer=self._issuer,
            counters=self._counters,
        )

    def _keep(self, key: bytes, island: Island) -> None:
        known = key in self._islands
        if _is_spent(island):
            if known:
                del self._islands[key]
                self._due.pop(key, None)
                self._dirty.add(key)
            return
        self._islands[key] = island
        self._dirty.add(key)
        self._schedule(key, new=not known)

    def _schedule(self, key: bytes, *, new: bool = True) -> None:
        island = self._islands[key]
        due = min((timer.late for timer in timers(island, self._settings, self._rulebook)), default=None)
        if due is None:
            self._due.pop(key, None)
        elif self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._queue, (due, key))
        if new:
            heapq.heappush(self._old, (island.seen + FORGOTTEN_AFTER, key))

    def _forget(self, now: int) -> None:
        kept: list[bytes] = []
        while self._old and self._old[0][0] <= now:
            key = heapq.heappop(self._old)[1]
            island = self._islands.get(key)
            if island is None:
                continue
            if now - island.seen >= FORGOTTEN_AFTER:
                _begin_anew(island)
                self._keep(key, island)
            if key in self._islands:
                kept.append(key)
        for key in dict.fromkeys(kept):  # those with an incident come up at each tick, as they would after a restart
            heapq.heappush(self._old, (self._islands[key].seen + FORGOTTEN_AFTER, key))


def _cause_time(finding: Finding, record: Record) -> int:
    """Return when it was: a gap is noticed when it is noticed, which only the log of the findings tells."""
    return record.log_time if isinstance(finding, Gap) else finding.log_time


def _passed_by(finding: Finding, now: int) -> Callable[[Timer], bool]:
    """Which timers a finding fires.

    Reports, drifts and run states of a key come in order from one worker: their silence is over at the deadline.
    Answers to commands may come from another one, so only an answer itself ends the wait for it at the deadline.
    """
    if isinstance(finding, CommandState):
        answered = finding.command_id
        return lambda timer: timer.late <= now or (timer.name == answered and timer.deadline <= now)
    return lambda timer: timer.late <= now or (timer.silence and timer.deadline <= now)


def _begin_anew(island: Island) -> None:
    island.watches = {name: watch for name, watch in island.watches.items() if watch.case is not None}


def _is_spent(island: Island) -> bool:
    if island.issued or any(watch.case is not None for watch in island.watches.values()):
        return False
    return island.ended or not island.watches
