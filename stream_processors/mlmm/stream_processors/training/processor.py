"""The training processor: what the harness runs and `mlmm replay` replays."""

from typing import Protocol

from mlmm.stream_processors.training._layout import LAYOUT
from mlmm.stream_processors.training.bounds import Bounds
from mlmm.stream_processors.training.state import TrainingState

__all__ = ["TrainingProcessor", "TrainingSettings"]


class TrainingSettings(Protocol):
    """What the section ``[training]`` must say."""

    @property
    def lost_after(self) -> int:
        """Heartbeats that may be missing before a run counts as lost."""


class TrainingProcessor:
    """Follows runs: what they do, whether they still live, and whether a trigger of theirs fires.

    Parameters
    ----------
    settings : TrainingSettings
        The section ``[training]``.
    bounds : Bounds, optional
        How much is kept.
    """

    name = "training"
    input = "training"
    layouts: tuple[int, ...] = (LAYOUT,)

    def __init__(self, settings: TrainingSettings, *, bounds: Bounds | None = None) -> None:
        self._lost_after = settings.lost_after
        self._bounds = bounds or Bounds()

    def state(self, layout: int | None = None) -> TrainingState:
        """Make an empty state for one partition; there is one layout yet."""
        del layout
        return TrainingState(self._lost_after, self._bounds)

    def key_of(self, cell: bytes) -> bytes:
        """Return the run id that a cell belongs to."""
        return cell[1:]
