"""All arrays of one partition, and how they grow together."""

import numpy as np

from mlmm.detectors import (
    AdwinArrays,
    PageHinkleyArrays,
    adwin_arrays,
    adwin_grow,
    page_hinkley_arrays,
    page_hinkley_grow,
)

from . import _fields as f
from ._arrays import Emitted, Lasts, Pending, Series, Windows, grown

__all__ = ["Store"]


class Store:
    """All arrays of one partition.

    Parameters
    ----------
    sizes : numpy.ndarray
        Window sizes in microseconds, ascending.
    ring : int
        Windows of one size and family that can be open at once.
    block : int
        Pairs a block of the last pairs.
    """

    def __init__(self, sizes: np.ndarray, ring: int, block: int) -> None:
        models = 4
        self._block = block
        self.count = 0
        """Models in use."""
        self.models = np.zeros((models, f.MODEL_COLUMNS), np.int64)
        self.touched = np.zeros(models, np.uint8)
        self.windows = Windows.make(sizes, ring, models)
        self.lasts = Lasts.make(models)
        self.pending = Pending.make()
        self.series = Series.make()
        self.series_count = 0
        self.groups = 0
        self.adwin: AdwinArrays = adwin_arrays(64)
        self.page_hinkley: PageHinkleyArrays = page_hinkley_arrays(64)
        self.emitted = Emitted.make(256)

    def add_model(self) -> int:
        """Make an empty model with its error series; return its slot."""
        slot = self.count
        if slot == len(self.models):
            capacity = 2 * slot
            self.models = grown(self.models, capacity)
            self.touched = grown(self.touched, capacity)
            self.windows = self.windows.for_models(capacity)
            self.lasts = Lasts(*(grown(array, capacity) for array in self.lasts))
        self.count += 1
        model = self.models[slot]
        model[[f.M_HEAD, f.M_TAIL]] = -1
        model[f.M_BLOCK] = self._block
        model[f.M_WATERMARK : f.M_LAST_LOG_1 + 1] = f.NEVER
        model[[f.M_FIRST_END, f.M_FIRST_END_1, f.M_DUE]] = f.ALWAYS
        model[f.M_ERROR_SERIES] = self.add_series(-1)
        self.touched[slot] = 1
        return slot

    def add_series(self, group: int) -> int:
        """Make an empty series; return its slot."""
        slot = self.series_count
        if slot == len(self.series.values):
            capacity = 2 * slot
            self.series = self.series._replace(
                values=grown(self.series.values, capacity),
                history=grown(self.series.history, capacity),
                group=grown(self.series.group, capacity, -1),
            )
            self.adwin = adwin_grow(self.adwin, capacity)
            self.page_hinkley = page_hinkley_grow(self.page_hinkley, capacity)
        self.series_count += 1
        self.series.group[slot] = group
        self.series.values[slot, f.S_BLOCK_SIZE] = f.HISTORY_BLOCK
        return slot

    def add_group(self) -> int:
        """Make a group of feature series."""
        if self.groups == len(self.series.touched):
            self.series = self.series._replace(
                touched=grown(self.series.touched, 2 * self.groups),
                members=grown(self.series.members, 2 * self.groups, -1),
            )
        self.groups += 1
        return self.groups - 1
