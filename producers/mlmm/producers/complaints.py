"""A wrong argument: reported once a call site and field, clearly; counted always; never raised into a request."""

import logging
import sys
from typing import Literal

from mlmm.events.errors import MalformedEvent

__all__ = ["Complaints"]

log = logging.getLogger("mlmm.producers")
_MOST = 1000
"""Call sites that are remembered; beyond them nothing more is logged."""


class Complaints:
    """What to do with errors of one monitor's or run's log calls.

    Parameters
    ----------
    of : str
        Whose they are, such as ``"Monitor('fraud')"``.
    on_error : {"report", "raise"}
        Whether to log or to raise (for tests).
    """

    def __init__(self, of: str, on_error: Literal["report", "raise"] = "report") -> None:
        self._of = of
        self._on_error = on_error
        self._seen: set[tuple[str, int, str]] = set()

    def report(self, error: Exception) -> None:
        """Raise, or log with the caller's place, once for each place and field. Call inside the ``except``."""
        if self._on_error == "raise":
            raise error
        file, line = _call_site()
        field = error.field if isinstance(error, MalformedEvent) else type(error).__name__
        # Without a lock: it could be held when the process forks. Two threads may both log their first complaint.
        if (file, line, field) in self._seen or len(self._seen) >= _MOST:
            return
        self._seen.add((file, line, field))
        log.error(
            "%s: call at %s:%d refused (further ones from here are counted, not logged): %s",
            self._of,
            file,
            line,
            error,
            exc_info=None if isinstance(error, MalformedEvent) else error,
        )

    def note(self, message: str, *values: object) -> None:
        """Log what went wrong, with ``values`` for the ``%s`` in ``message``, and was got over."""
        log.warning("%s: %s", self._of, message % values)


def _call_site() -> tuple[str, int]:
    """File and line of the nearest frame outside this room."""
    frame = sys._getframe(1)  # noqa: SLF001 - the way that logging finds its caller, too
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("mlmm.producers", "contextlib")):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
