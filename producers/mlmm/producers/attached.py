"""What monitors and runs have in common: where their events go, and what became of them."""

from mlmm.events import Event
from mlmm.producers.complaints import Complaints
from mlmm.producers.intake import Stats
from mlmm.producers.modes import Outlet

__all__ = ["Attached"]


class Attached:
    """Something of the user's that emits.

    Parameters
    ----------
    outlet : Outlet
    complaints : Complaints
    """

    def __init__(self, outlet: Outlet, complaints: Complaints) -> None:
        self._outlet = outlet
        self._intake = outlet.intake
        self._complaints = complaints

    @property
    def events(self) -> list[Event]:
        """In memory mode, what was logged so far, as it would be read from the topics."""
        return self._outlet.events()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until what was logged is delivered; False when within ``timeout`` seconds some was not."""
        return self._outlet.flush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flush. The emitter, which others share, is closed at the end of the process."""
        return self._outlet.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same words as flush
        """Do what `flush` does without blocking the event loop."""
        return await self._outlet.aflush(timeout)

    async def aclose(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the same words as close
        """Do what `close` does without blocking the event loop."""
        return await self._outlet.aflush(timeout)

    def stats(self) -> Stats:
        """Counts of the emitter, which all monitors and runs of these settings share."""
        return self._intake.stats()

    def _refused(self, error: Exception) -> None:
        """Count and report a wrong argument. Call inside the ``except``."""
        with self._intake.lock:
            self._intake.refused += 1
        self._complaints.report(error)
