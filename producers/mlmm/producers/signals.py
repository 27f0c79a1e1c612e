"""SIGTERM and Ctrl-C while a run is on: the first asks it to stop after its step, a second does what it always did."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Signals"]

_WATCHED = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Handlers that are there from `install` to `restore`. In other threads than the main one it does nothing.

    Parameters
    ----------
    caught : Callable[[str], None]
        Called with the signal's name, in the main thread, between two bytecodes: it must only take a note.
    """

    def __init__(self, caught: Callable[[str], None]) -> None:
        self._caught = caught
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()

    def install(self) -> None:
        """Take the handlers over, as far as they are Python's or ours to take."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _WATCHED:
            before = signal.getsignal(number)
            if before is not None:  # set by C code: not ours to replace
                self._before[number] = before
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Put the handlers of before back, where ours are still there; only the main thread may."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.SIG_DFL)
        signal.signal(number, before)  # a second one is not to be waited with
        if os.getpid() != self._pid:  # a data loader's worker: it has no run
            if callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                os.kill(os.getpid(), number)
            return
        self._caught(signal.Signals(number).name)
