"""All runs of a partition: who is there, until when, and in which cells."""

from collections.abc import Iterable, Mapping

from mlmm.events.errors import MalformedEvent
from mlmm.stream_processors.training._run import FIGURES, INFO, Info, Run, decode_info, encode_info
from mlmm.stream_processors.training._timers import Timers
from mlmm.stream_processors.training._words import Words
from mlmm.stream_processors.training.bounds import Bounds

__all__ = ["Runs"]


class Runs:
    """The runs of a partition.

    Parameters
    ----------
    bounds : Bounds
        How many there may be, and for how long.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.words = Words()
        self.live = Timers(self._lost_at)
        """When runs will be lost."""
        self.closed = Timers(self._forgotten_at)
        """When runs that ended or were lost will be forgotten."""
        self.forgotten = 0
        self.forget_after = round(bounds.forget_after * 1e6)
        self._most = bounds.max_runs
        self._watches = bounds.max_metrics * bounds.max_triggers
        self._runs: dict[bytes, Run] = {}
        self.get = self._runs.get
        self._touched: set[Run] = set()
        self.touch = self._touched.add
        """Say that a run's cells may have changed."""
        self._gone: set[bytes] = set()
        self._waiting: dict[bytes, bytes] = {}
        """Cells ``s`` that were loaded and not yet joined with their cell ``i``."""
        self._loaded = False

    def __getitem__(self, key: bytes) -> Run:
        return self._runs[key]

    def admit(self, key: bytes, info: Info) -> Run:
        """Make a run; the one that closed longest ago makes room for it.

        Raises
        ------
        MalformedEvent
            There are as many runs as there may be, and all are alive.
        """
        if len(self._runs) >= self._most:
            oldest = self.closed.first()
            if oldest is None:
                raise MalformedEvent(
                    f"{self._most} runs of this partition are alive, no more are followed", field="run_id"
                )
            self.forget(self._runs[oldest[1]])
        run = Run(key, info)
        self._runs[key] = run
        self.touch(run)
        return run

    def forget(self, run: Run) -> None:
        """Remove a run and its cells."""
        run.drop(self.words)
        del self._runs[run.key]
        self._touched.discard(run)
        self._gone.add(run.key)
        self.forgotten += 1

    def close(self, run: Run) -> None:
        """Let a run that ended or was lost be forgotten in time."""
        run.info_changed = True
        run.deadline = run.info.closed + self.forget_after
        self.closed.add(run.key, run.deadline)
        self.touch(run)

    def _lost_at(self, key: bytes) -> int | None:
        run = self.get(key)
        return run.deadline if run is not None and run.info.status == "running" else None

    def _forgotten_at(self, key: bytes) -> int | None:
        run = self.get(key)
        return run.deadline if run is not None and run.info.status != "running" else None

    # --- cells -------------------------------------------------------------------------------------------------------

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Take in stored cells."""
        self._loaded = True
        for cell, value in cells:
            key = cell[1:]
            if cell[:1] == INFO:
                self._runs[key] = Run(key, decode_info(cell, value))
                self._runs[key].info_changed = False
            elif cell[:1] == FIGURES:
                self._waiting[key] = value
            else:
                raise ValueError(f"training state: cell {cell!r} is not known")

    def settle(self) -> None:
        """Join the cells that were loaded, once all of them are there."""
        if not self._loaded:
            return
        self._loaded = False
        for key, value in self._waiting.items():
            if key not in self._runs:
                raise ValueError(f"training state: cell {FIGURES + key!r} has no cell {INFO + key!r} beside it")
            self._runs[key].load_figures(self.words, FIGURES + key, value, self._watches)
        self._waiting = {}
        for key, run in self._runs.items():
            info = run.info
            if info.status in ("running", "lost") and not run.words:
                raise ValueError(f"training state: cell {INFO + key!r} has no cell {FIGURES + key!r} beside it")
            run.deadline = run.heard + info.patience if info.status == "running" else info.closed + self.forget_after
        self.live.load((run.deadline, key) for key, run in self._runs.items() if run.info.status == "running")
        self.closed.load((run.deadline, key) for key, run in self._runs.items() if run.info.status != "running")

    def changed(self) -> Mapping[bytes, bytes | None]:
        """Cells touched since the last call."""
        made: dict[bytes, bytes | None] = {}
        for key in self._gone:
            made[INFO + key] = made[FIGURES + key] = None
        words = self.words
        for run in self._touched:
            if run.info_changed:
                made[INFO + run.key] = encode_info(run.info)
                run.info_changed = False
            if run.touched:
                made[FIGURES + run.key] = run.figures_cell(words) if run.words else None
                run.touched = False
        self._gone.clear()
        self._touched.clear()
        return made

    def cells(self) -> Mapping[bytes, bytes]:
        """All cells."""
        self.settle()
        made: dict[bytes, bytes] = {}
        for key in sorted(self._runs):
            run = self._runs[key]
            made[INFO + key] = encode_info(run.info)
            if run.words:
                made[FIGURES + key] = run.figures_cell(self.words)
        return made
