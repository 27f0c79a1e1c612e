"""What every drift detector of this room, or of a user, offers."""

from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Detector"]


@runtime_checkable
class Detector(Protocol):
    """A drift detector on one series of numbers.

    The constructor takes keyword parameters, has a default for each, stores them under their own names and raises
    ``ValueError`` for a value that it can't work with. State is a function of parameters and of the values in order:
    one by one or many at once makes no difference. A value that is NaN, infinite or beyond 1e100 counts as missing: the
    detector adds one to `missing`, raises no alarm and goes on as if the value had not been there.
    """

    @property
    def drift_detected(self) -> bool:
        """Whether the last value raised an alarm."""

    @property
    def warning_detected(self) -> bool:
        """Whether the last value raised a warning; False for a detector that has no warning zone."""

    @property
    def estimation(self) -> float:
        """Mean of what the detector takes for the present regime; 0.0 before the first value."""

    @property
    def missing(self) -> int:
        """Values that were left out."""

    def update(self, value: float, /) -> bool:
        """Add one value; return `drift_detected` (river's returns nothing)."""

    def update_many(self, values: npt.ArrayLike, /) -> npt.NDArray[np.int64]:
        """Add a 1-D array of values; return the positions in it at which an alarm was raised, ascending."""

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""

    @classmethod
    def from_bytes(cls, data: bytes, /) -> Self:
        """Make the detector again; it goes on exactly where it was. ``ValueError`` for damaged or foreign bytes."""
