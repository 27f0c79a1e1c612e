"""Connecting beside the emitter's thread, which has a spool to write to meanwhile."""

import threading
from collections.abc import Callable

from mlmm.producers.delivery import Link, StillConnecting

__all__ = ["Dialler"]


class Dialler:
    """Makes links in a thread of its own: making one blocks for seconds where no broker answers.

    Parameters
    ----------
    connect : Callable[[], Link]
    wake : Callable[[], None]
        Called when a link was made, or could not be.
    """

    def __init__(self, connect: Callable[[], Link], wake: Callable[[], None]) -> None:
        self._connect = connect
        self._wake = wake
        self._lock = threading.Lock()
        self._dialling = False
        self._given_up = False
        self._made: Link | None = None
        self._error: Exception | None = None

    def __call__(self) -> Link:
        """Return the link; raise what kept it from being made, or `StillConnecting`."""
        with self._lock:
            made, self._made = self._made, None
            error, self._error = self._error, None
            dial = made is None and error is None and not self._dialling
            self._dialling = self._dialling or dial
        if made is not None:
            return made
        if error is not None:
            raise error
        if dial:
            try:
                threading.Thread(target=self._dial, name="mlmm-dialler", daemon=True).start()
            except RuntimeError:  # at the limit of threads: the next call tries again
                self._dialling = False
                raise
        raise StillConnecting

    def _dial(self) -> None:
        made: Link | None = None
        error: Exception | None = None
        try:
            made = self._connect()
        except Exception as failure:  # noqa: BLE001 - it is raised where the link is asked for
            error = failure
        with self._lock:
            self._dialling = False
            given_up = self._given_up
            if not given_up:
                self._made, self._error = made, error
        if given_up and made is not None:
            made.close(0.0)
        self._wake()

    def give_up(self) -> None:
        """Want no link any more."""
        with self._lock:
            self._given_up = True
            made, self._made = self._made, None
        if made is not None:
            made.close(0.0)

    def forget(self) -> None:
        """Let go of a link that was made: this is a forked child, and a thread of the parent may hold the lock."""
        if self._made is not None:
            self._made.forget()
