"""The serving processor's door."""

from typing import TYPE_CHECKING

from mlmm.runtime.settings import ServingSettings

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

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings

    def state(self) -> "State":
        """Make an empty state for one partition."""
        from ._state import ServingState  # noqa: PLC0415 - numba takes more than half a second

        return ServingState(self._settings)
