"""The serving state: polls in, findings out, cells for the harness."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mlmm.events import Acked, MalformedEvent, decode_events, header
from mlmm.runtime.deadletters import dead_letter
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.settings import ServingSettings

from . import _fields as f
from ._cells import Cells
from ._emit import Writer, command_state
from ._fold import fold
from ._intake import Intake, Poll
from ._load import load
from ._models import Models
from ._store import Store
from ._watch import watch

__all__ = ["ServingState"]


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


class ServingState:
    """All models of one partition of ``mlmm.serving``.

    Each record key (``model`` or ``model#shard``) is an island: nothing of it depends on another key.

    Parameters
    ----------
    settings : ServingSettings
    """

    def __init__(self, settings: ServingSettings) -> None:
        detectors = settings.detectors
        sizes = np.array(sorted({_micros(window) for window in settings.windows}), np.int64)
        lateness = _micros(settings.allowed_lateness)
        self._cfg = cfg = f.Config(
            lateness=lateness,
            # At least a microsecond, so that no deadline lies within the record that set it.
            idle=max(1, _micros(settings.idle_after)),
            horizon=max(1, _micros(settings.label_horizon)),
            max_pending=max(1, settings.max_pending),
            block=max(1, settings.last // 10),
            baseline=max(2, detectors.baseline),
            adwin=detectors.adwin,
            page_hinkley=detectors.page_hinkley,
            watch_error="error" in detectors.series,
            adwin_delta=detectors.adwin_delta,
            page_hinkley_delta=detectors.page_hinkley_delta,
            page_hinkley_threshold=detectors.page_hinkley_threshold,
            clip=detectors.clip,
        )
        ring = -(-lateness // int(sizes[0])) + 2
        self._store = store = Store(sizes, ring, cfg.block)
        self._models = models = Models(
            store, settings.max_models, settings.max_features, watch="features" in detectors.series
        )
        self._intake = Intake(models, _micros(settings.max_event_ahead))
        self._writer = Writer(settings, models, sizes, cfg.block)
        self._cells = Cells(cfg, store, models)
        self._loading: dict[bytes, bytes] = {}
        self._dead = 0
        self._records = 0

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Take in stored cells, in any order and in several calls, before the first `process`.

        They are read at the first use of the state, when all are there: a ValueError naming a cell comes from there.
        """
        self._loading.update(cells)

    def _loaded(self) -> None:
        if self._loading:
            cells, self._loading = self._loading, {}
            load(cells, self._cfg, self._store, self._models)

    def process(self, records: Sequence[Record]) -> list[Output]:
        """Fold records (ascending offsets); return findings and dead letters, ordered by offset and event."""
        self._loaded()
        self._records += len(records)
        poll = self._intake(records)
        if len(poll.batch.blocks):
            self._run(poll)
        outputs = self._outputs(records, poll)
        self._cells.note_gone()
        self._intake.forget()
        return outputs

    def _run(self, poll: Poll) -> None:
        store = self._store
        store.emitted.counts[0] = 0
        store.pending = store.pending.reserve(poll.rows, min(poll.models, store.count))
        cursor = np.zeros(4, np.int64)
        most = 2 * len(store.windows.sizes) * store.windows.open.shape[3] + 4
        while not fold(
            self._cfg, poll.batch, store.pending, store.windows, store.lasts, store.models, store.touched, store.series,
            store.adwin, store.page_hinkley, store.emitted, cursor, store.count,
        ):  # fmt: skip
            store.windows = store.windows.reserve(2 * len(store.windows.sizes))
            while len(store.emitted.ints) - store.emitted.counts[0] < most:
                store.emitted = store.emitted.larger()
        cursor[:] = 0
        while len(poll.order) and not watch(
            self._cfg,
            poll.batch,
            poll.order,
            store.models,
            store.series,
            store.adwin,
            store.page_hinkley,
            store.emitted,
            cursor,
        ):
            store.emitted = store.emitted.larger()

    def _outputs(self, records: Sequence[Record], poll: Poll) -> list[Output]:
        """Write what a poll caused in the order of its causes: by event; timers, then its error, then its features."""
        made: list[tuple[tuple[Any, ...], Output]] = []
        count = int(self._store.emitted.counts[0]) if len(poll.batch.blocks) else 0
        if count:
            emitted = self._store.emitted
            starts = poll.batch.blocks[:, f.B_PLACE].tolist()
            for ints, floats in zip(emitted.ints[:count].tolist(), emitted.floats[:count].tolist(), strict=True):
                place = ints[f.E_PLACE]
                owner = poll.records[bisect_right(starts, place) - 1]
                timer = ints[f.E_TIMER]
                # Of many keys' timers at one tick the deadline decides, then the key.
                rank = (ints[f.E_LOG], self._models.by_slot[ints[f.E_MODEL]].key) if timer == 1 else (0, b"")
                made.append(((owner, place, 1 - timer, rank), self._writer.write(ints, floats, records[owner].offset)))
        for owner, error in poll.dead:
            made.append(((owner,), self._bury(records[owner], error)))
        for owner in poll.acked:
            made += [((owner,), output) for output in self._acknowledged(records[owner])]
        made.sort(key=lambda each: each[0])  # stable: within one cause as the kernels emitted
        return [output for _, output in made]

    def _bury(self, record: Record, error: MalformedEvent) -> Output:
        self._dead += 1
        return dead_letter(record, error)

    def _acknowledged(self, record: Record) -> list[Output]:
        content = (header(record.headers, "content-type") or b"").decode("utf-8", "replace")
        try:
            events = decode_events("mlmm.command.acked.v1", content, record.value)
        except MalformedEvent as error:
            return [self._bury(record, error)]
        return [command_state(record, event) for event in events if isinstance(event, Acked)]

    def changed(self) -> Mapping[bytes, bytes | None]:
        """Cells touched since the last call, with their new value or None where the cell is gone."""
        self._loaded()
        return self._cells.changed()

    def cells(self) -> Mapping[bytes, bytes]:
        """All cells: equal for equal histories however they were packed and cut."""
        self._loaded()
        return self._cells.all()

    def deadline(self) -> int | None:
        """Earliest log time at which a window closes or a row expires by itself, or None."""
        self._loaded()
        due = int(self._store.models[: self._store.count, f.M_DUE].min(initial=f.ALWAYS))
        return None if due == f.ALWAYS else due

    def counters(self) -> Mapping[str, int]:
        """Monotone counts. Those of records and dead letters are this process's, all others are part of the state."""
        self._loaded()
        models = self._store.models[: self._store.count]
        totals = models.sum(axis=0, dtype=np.int64)
        counts = {name: int(totals[column]) for name, column in f.COUNTERS.items()}
        counts["events"] = counts["predictions"] + counts["labels"] + counts["failures"]
        counts["records"] = self._records
        counts["dead_letters"] = self._dead
        return counts
