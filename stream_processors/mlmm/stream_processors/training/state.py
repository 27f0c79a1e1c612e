"""The state of one partition of the training topic: which run does what, and what must be said about it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from mlmm.events.columns import MetricsBlock
from mlmm.events.decode import decode_blocks
from mlmm.events.errors import MalformedEvent
from mlmm.events.headers import header
from mlmm.events.singles import decode_events
from mlmm.events.types import TYPES, Acked, Checkpoint, CommandState, Heartbeat, RunEnded, RunStarted, Tick
from mlmm.runtime.deadletters import dead_letter
from mlmm.runtime.processor import Output, Record
from mlmm.stream_processors.training import _commands, triggers
from mlmm.stream_processors.training import _layout as at
from mlmm.stream_processors.training._findings import Findings
from mlmm.stream_processors.training._pending import Pending
from mlmm.stream_processors.training._run import Info, Places, Run
from mlmm.stream_processors.training._runs import Runs
from mlmm.stream_processors.training.bounds import Bounds

__all__ = ["TrainingState"]

_METRICS: Final = b"mlmm.run.metrics.v1"
_OTHERS: Final = {
    name.encode(): name
    for name, of in TYPES.items()
    if of in (RunStarted, Heartbeat, Checkpoint, RunEnded, Acked, Tick)
}
_TICK: Final = b"mlmm.tick.v1"
_OPEN: Final = ("running", "lost")
"""What an attempt that has not ended can be."""

_Word = RunStarted | Heartbeat | Checkpoint | RunEnded | Acked
_COUNTS: Final = ("records", "events", "runs_started", "ignored", "unkept", "lost", "triggers_fired", "dead_letters")


class TrainingState:
    """State of one partition (`mlmm.runtime.processor.State`).

    Parameters
    ----------
    lost_after : int
        Heartbeats that may be missing before a run counts as lost.
    bounds : Bounds
        How much is kept.
    """

    def __init__(self, lost_after: int, bounds: Bounds) -> None:
        self._lost_after = lost_after
        self._bounds = bounds
        self._ahead = round(bounds.max_event_ahead * 1e6)
        self._runs = Runs(bounds)
        self._pending = Pending(bounds.max_metrics * bounds.max_triggers)
        self._findings = Findings(self._runs.words)
        self._counts = dict.fromkeys(_COUNTS, 0)

    # --- records -----------------------------------------------------------------------------------------------------

    def process(self, records: Sequence[Record]) -> list[Output]:
        """Fold records; see `mlmm.runtime.processor.State`."""
        self._runs.settle()
        self._counts["records"] += len(records)
        for record in records:
            try:
                headers = record.headers
                # Ours come first in a fixed order; others' may stand anywhere.
                known = headers and headers[0][0] == "ce_type"
                kind = headers[0][1] if known else header(headers, "ce_type") or b""
                if kind == _METRICS:
                    self._take_metrics(record)
                else:
                    self._take_other(record, kind)
            except MalformedEvent as error:
                self._counts["dead_letters"] += 1
                self._findings.add(dead_letter(record, error))
        self._fold()
        return self._findings.take()

    def _take_metrics(self, record: Record) -> None:
        _, log_time, key, value, _ = record
        blocks: list[MetricsBlock] = decode_blocks(  # type: ignore[assignment]  # this type has no other blocks
            "mlmm.run.metrics.v1", _content_type(record), value, key=key
        )
        for block in blocks:
            if block.n == 1:
                latest = int.from_bytes(block.time, "little", signed=True)
            else:
                latest = int(np.frombuffer(block.time, dtype="<i8").max())
            if latest > log_time + self._ahead:
                raise _ahead(latest, record)
        run = self._runs.get(key)
        if run is None or log_time >= run.deadline:
            first = blocks[0]
            run = self._pass_time(record) or self._adopt(record, first.head.attempt, _first_time(first))
        info = run.info
        for block in blocks:
            head = block.head
            if head.attempt != info.attempt or info.status not in _OPEN:
                self._ignore(run, block.n)
                continue
            if info.status == "lost":
                self._revive(run, record, _first_time(block))
            self._hear(run, log_time)
            series, unkept = run.known(head) or self._places(run, block)
            self._pending.add(run, block, series, record)
            self._counts["events"] += block.n
            if unkept:
                info.unkept += unkept * block.n
                run.info_changed = True
                self._counts["unkept"] += unkept * block.n

    def _take_other(self, record: Record, kind: bytes) -> None:
        name = _OTHERS.get(kind)
        if name is None:
            what = (kind or b"").decode("utf-8", "replace")
            raise MalformedEvent(f"{what!r} does not belong on the training topic", field="ce_type")
        if kind == _TICK:
            decode_events(name, _content_type(record), record.value)
            self._tick(record)
            return
        events: list[_Word] = decode_events(name, _content_type(record), record.value, key=record.key)  # type: ignore[assignment]  # by `_OTHERS`
        for event in events:
            self._check(event, record)
        for event in events:
            self._take(event, record)

    def _check(self, event: _Word, record: Record) -> None:
        if event.time > record.log_time + self._ahead:
            raise _ahead(event.time, record)
        if isinstance(event, RunStarted):
            bounds = self._bounds
            triggers.check(event.triggers, limit=bounds.max_triggers)
            if not bounds.shortest_heartbeat <= event.heartbeat_every <= bounds.longest_heartbeat:
                allowed = f"{bounds.shortest_heartbeat:g}..{bounds.longest_heartbeat:g}"
                raise MalformedEvent(f"{event.heartbeat_every} s is not in {allowed}", field="heartbeat_every")
        elif isinstance(event, RunEnded) and event.status == "lost":
            # Who was called lost may speak again, who has ended may not: a run that says so of itself would be both.
            raise MalformedEvent("'lost' is said of a run that fell silent, never by it", field="status")

    def _take(self, event: _Word, record: Record) -> None:
        run = self._pass_time(record)
        if isinstance(event, RunStarted):
            self._start(run, event, record)
            return
        if isinstance(event, Acked):
            self._acked(run, event, record)
            return
        if run is None:
            run = self._adopt(record, event.attempt, event.time)
        info = run.info
        if event.attempt != info.attempt or info.status not in _OPEN:
            self._ignore(run, 1)
            return
        if isinstance(event, RunEnded):
            self._end(run, event, record)
            return
        if info.status == "lost":
            self._revive(run, record, event.time)
        self._hear(run, record.log_time)
        if isinstance(event, Checkpoint):
            self._checkpoint(run, event, record)
        elif event.step is not None:
            place, words = run.base + at.BEAT_STEP, self._runs.words
            words.i[place] = max(event.step, int(words.i[place]))

    # --- the life of a run -------------------------------------------------------------------------------------------

    def _adopt(self, record: Record, attempt: str, event_time: int) -> Run:
        """Take up a run whose start this log does not tell: it is watched for silence, by the default heartbeat."""
        patience = round(self._lost_after * self._bounds.heartbeat_every * 1e6)
        run = self._runs.admit(record.key, Info(attempt=attempt, patience=patience))
        run.open(self._runs.words)
        self._watch(run, record.log_time)
        self._findings.run(run, record.offset, record.log_time, event_time, "running")
        return run

    def _start(self, run: Run | None, event: RunStarted, record: Record) -> None:
        info = Info(
            attempt=event.attempt,
            experiment=event.experiment,
            model=event.model,
            declared=True,
            started=record.log_time,
            patience=round(self._lost_after * event.heartbeat_every * 1e6),
            triggers=event.triggers,
            resumable_from=event.resumed_from,
        )
        if run is None:
            run = self._runs.admit(record.key, info)
        else:
            old = run.info
            if event.attempt == old.attempt and old.declared:
                return  # the same word again: producers deliver at least once
            if event.attempt in old.earlier:
                self._ignore(run, 1)
                return
            self._fold_of(run)
            info.commands, info.ignored, info.earlier = old.commands, old.ignored, old.earlier
            if event.attempt != old.attempt:
                info.earlier = [*old.earlier, old.attempt][-self._bounds.max_attempts :]
                self._findings.close_commands(run, record.offset, record.log_time, "a newer attempt began", void=True)
            run.info = info
        run.open(self._runs.words)
        self._watch(run, record.log_time)
        self._counts["runs_started"] += 1
        self._findings.run(run, record.offset, record.log_time, event.time, "running")

    def _checkpoint(self, run: Run, event: Checkpoint, record: Record) -> None:
        info = run.info
        if (info.checkpoint, info.resumable_from) == (event.uri, event.step):
            return
        self._fold_of(run)
        info.checkpoint, info.resumable_from = event.uri, event.step
        run.info_changed = True
        self._findings.run(run, record.offset, record.log_time, event.time, f"checkpoint:{event.step}")

    def _end(self, run: Run, event: RunEnded, record: Record) -> None:
        self._fold_of(run)
        info = run.info
        info.last_step = run.step(self._runs.words) if event.last_step is None else event.last_step
        info.status, info.error, info.closed = event.status, event.error, record.log_time
        if event.resumable_from is not None:
            info.resumable_from = event.resumable_from
        findings = self._findings
        findings.run(run, record.offset, record.log_time, event.time, event.status, step=info.last_step)
        findings.close_commands(run, record.offset, record.log_time, f"the run ended: {event.status}", void=False)
        run.drop(self._runs.words)
        self._runs.close(run)

    def _lose(self, run: Run, offset: int) -> None:
        """Call a run lost as of its deadline, whenever that comes to light."""
        self._fold_of(run)
        deadline, info = run.deadline, run.info
        info.status, info.closed = "lost", deadline
        self._counts["lost"] += 1
        why = f"nothing was heard for {info.patience / 1e6:g} s"
        self._findings.run(run, offset, deadline, deadline, "lost", reason=why)
        self._findings.close_commands(run, offset, deadline, f"the run was lost: {why}", void=False)
        self._runs.close(run)

    def _revive(self, run: Run, record: Record, event_time: int) -> None:
        """A lost run that speaks again is running again."""
        run.info.status, run.info.closed = "running", 0
        self._watch(run, record.log_time)
        self._findings.run(run, record.offset, record.log_time, event_time, "running", reason="it was heard again")

    def _watch(self, run: Run, log_time: int) -> None:
        self._hear(run, log_time)
        run.info_changed = True
        self._runs.live.add(run.key, run.deadline)

    def _hear(self, run: Run, log_time: int) -> None:
        run.heard = log_time
        run.deadline = log_time + run.info.patience
        run.touched = True
        self._runs.touch(run)

    def _ignore(self, run: Run, events: int) -> None:
        """Record what other attempts, or one that ended, still say; it has no other effect."""
        run.info.ignored += events
        run.info_changed = True
        self._runs.touch(run)
        self._counts["ignored"] += events

    def _acked(self, run: Run | None, event: Acked, record: Record) -> None:
        state = CommandState(
            command_id=event.command_id,
            state=event.state,
            log_time=record.log_time,
            target=event.target,
            run_id=event.target,
            attempt=event.attempt,
            reason=event.reason,
            checkpoint=event.checkpoint,
            unproven=event.unproven,
        )
        if run is None:
            self._findings.command(state, None, record.offset)
            return
        info = run.info
        if event.attempt not in (None, info.attempt):
            self._ignore(run, 1)
            return
        if info.status == "lost":
            self._revive(run, record, event.time)
        if info.status == "running":
            self._hear(run, record.log_time)
        if not _commands.follow(info.commands, event):
            return
        run.info_changed = True
        self._runs.touch(run)
        self._fold_of(run)
        self._findings.command(state, info.model, record.offset)
        if info.status not in _OPEN:
            why = f"the run ended: {info.status}"
            self._findings.close_commands(run, record.offset, record.log_time, why, void=False)

    # --- time --------------------------------------------------------------------------------------------------------

    def _pass_time(self, record: Record) -> Run | None:
        """Fire what is due of the record's own run; return the run, if there (still) is one."""
        run = self._runs.get(record.key)
        if run is not None and record.log_time >= run.deadline and run.info.status == "running":
            self._lose(run, record.offset)
        if run is not None and record.log_time >= run.deadline:
            self._runs.forget(run)
            return None
        return run

    def _tick(self, record: Record) -> None:
        """Fire what is due of all runs."""
        for key in self._runs.live.due(record.log_time):
            self._lose(self._runs[key], record.offset)
        for key in self._runs.closed.due(record.log_time):
            self._runs.forget(self._runs[key])

    def deadline(self) -> int | None:
        """Return when the next run will be lost.

        Forgetting is no reason for ticks: it happens at a run's next record, or at a tick that others caused.
        """
        self._runs.settle()
        first = self._runs.live.first()
        return None if first is None else first[0]

    # --- figures -----------------------------------------------------------------------------------------------------

    def _places(self, run: Run, block: MetricsBlock) -> Places:
        """Find, and where needed make, the series of a block's metrics."""
        new = run.missing(block.head, self._bounds.max_metrics)
        if new:
            self._fold_of(run)  # blocks that wait know where the segment lies now
            for metric in new:
                run.add(self._runs.words, metric)
        return run.resolve(block.head)

    def _fold_of(self, run: Run) -> None:
        """Fold what waits of a run before something else is said of it."""
        if run.flush == self._pending.number:
            self._fold()

    def _fold(self) -> None:
        for fired in self._pending.fold(self._runs.words):
            self._counts["triggers_fired"] += len(fired.watches)
            self._findings.fired(fired)

    # --- cells -------------------------------------------------------------------------------------------------------

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Take in stored cells; see `mlmm.runtime.processor.State`."""
        self._runs.load(cells)

    def changed(self) -> Mapping[bytes, bytes | None]:
        """Cells touched since the last call; see `mlmm.runtime.processor.State`."""
        return self._runs.changed()

    def cells(self) -> Mapping[bytes, bytes]:
        """All cells; see `mlmm.runtime.processor.State`."""
        return self._runs.cells()

    def counters(self) -> Mapping[str, int]:
        """Monotone counts, for self-metrics."""
        return {**self._counts, "forgotten": self._runs.forgotten}


def _content_type(record: Record) -> str:
    headers = record.headers
    known = len(headers) > 1 and headers[1][0] == "content-type"
    value = headers[1][1] if known else header(headers, "content-type")
    return (value or b"").decode("utf-8", "replace")


def _first_time(block: MetricsBlock) -> int:
    return int.from_bytes(block.time[:8], "little", signed=True)


def _ahead(time: int, record: Record) -> MalformedEvent:
    return MalformedEvent(f"{(time - record.log_time) / 1e6:g} s ahead of the log's time", field="time")
