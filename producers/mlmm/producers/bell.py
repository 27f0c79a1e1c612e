"""What wakes the emitter's thread, from any thread and from a signal handler."""

import threading

__all__ = ["Bell"]


class Bell:
    """A `threading.Event` that a signal handler may set while its own thread is in the midst of setting it.

    The standard library's holds a lock that is not reentrant: such a handler would wait for itself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._rung = False

    def is_set(self) -> bool:
        """Whether it was set and not cleared since."""
        return self._rung

    def set(self) -> None:
        """Wake who waits."""
        with self._changed:
            self._rung = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Let who comes next wait."""
        self._rung = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for at most ``timeout`` seconds; return whether it is."""
        with self._changed:
            if not self._rung:
                self._changed.wait(timeout)
            return self._rung
