"""The serving processor's door."""

from typing import TYPE_CHECKING

from mlmm.runtime.settings import ServingSettings

from . import _layout

if TYPE_CHECKING:
    from mlmm.runtime.processor import State

__all__ = ["ServingProcessor"]


class ServingProcessor:
    """Folds predictions, labels and failures into reports and drift.

    Parameters
    ----------
    settings : ServingSettings
        The section ``[serving]``. States made with equal settings from equal logs are equal, byte for byte.
    """

    name = "serving"
    input = "serving"
    layouts: tuple[int, ...] = (_layout.LAYOUT,)

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings

    def state(self, layout: int | None = None) -> "State":
        """Make an empty state for one partition; there is one layout yet."""
        del layout
        from ._state import ServingState  # noqa: PLC0415 - numba takes more than half a second

        return ServingState(self._settings)

    def key_of(self, cell: bytes) -> bytes:
        """Return the record key that a cell belongs to."""
        return _layout.key_of(cell)
