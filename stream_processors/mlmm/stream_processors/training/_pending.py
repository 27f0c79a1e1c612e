"""Metrics that wait to be folded: all blocks of a poll go to the kernel in one call."""

from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mlmm.events.columns import MetricsBlock
from mlmm.runtime.processor import Record
from mlmm.stream_processors.training._kernels import fold
from mlmm.stream_processors.training._run import Run
from mlmm.stream_processors.training._words import Words

__all__ = ["Fired", "Pending"]


class Fired(NamedTuple):
    """Watches that fired in one event."""

    run: Run
    record: Record
    event_time: int
    step: int
    watches: list[list[int]]
    """(series, watch), as words of the partition."""


class Pending:
    """Blocks of a poll, in log order.

    Parameters
    ----------
    watches : int
        Most watches that can fire in one event.
    """

    def __init__(self, watches: int) -> None:
        self.number = 0
        """Number of the fold that takes what is added now."""
        self._fired = np.zeros((watches, 2), dtype=np.int64)
        self._begin()

    def _begin(self) -> None:
        self._from: list[tuple[Run, MetricsBlock, Record]] = []
        self._blocks = array("q")
        self._series: list[bytes] = []
        self._steps: list[bytes] = []
        self._values: list[bytes] = []
        self._step = self._value = self._entry = 0

    def add(self, run: Run, block: MetricsBlock, series: bytes, record: Record) -> None:
        """Add a block; its run's segment must not move before it is folded."""
        events, metrics = block.n, len(series) >> 3
        self._from.append((run, block, record))
        self._blocks.extend((run.base, events, metrics, self._step, self._value, self._entry))
        self._series.append(series)
        self._steps.append(block.step)
        self._values.append(block.values)
        self._step += events
        self._value += events * metrics
        self._entry += metrics
        run.flush = self.number

    def fold(self, words: Words) -> Iterator[Fired]:
        """Fold all that waits; what fires is told with the words as they were right after that event."""
        if not self._from:
            return
        blocks = np.frombuffer(self._blocks, dtype=np.int64).reshape(-1, 6)
        series = np.frombuffer(bytearray().join(self._series), dtype=np.int64)
        steps = np.frombuffer(bytearray().join(self._steps), dtype=np.int64)
        values = np.frombuffer(bytearray().join(self._values), dtype=np.float64)
        came, fired = self._from, self._fired
        self._begin()
        self.number += 1
        place = row = 0
        while True:
            place, row, count = fold(words.f, words.i, blocks, series, steps, values, place, row, fired)
            if not count:
                return
            run, block, record = came[place]
            cut = slice(8 * row, 8 * row + 8)
            event_time = int.from_bytes(block.time[cut], "little", signed=True)
            step = int.from_bytes(block.step[cut], "little", signed=True)
            yield Fired(run, record, event_time, step, fired[:count].tolist())
            row += 1
