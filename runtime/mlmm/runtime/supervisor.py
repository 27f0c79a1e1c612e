"""Keeps processes running: one a slot, each under its fixed name, started again when it ends.

What to do is decided by `Slots`, which is pure: it knows no process and no clock. `supervise` does it.
"""

import ctypes
import enum
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NamedTuple

from mlmm.runtime import logs

__all__ = ["Action", "Policy", "Slots", "supervise"]

_HOPELESS = {
    2: "its command line or settings are wrong",
    4: "another process runs under its slot's name, and the two would fight for ever",
    5: "its input is no longer the log that the state was made from: a person must decide",
    6: "the state is of a layout that it does not read, or damaged: a person must decide",
}
"""Exit codes (`mlmm.runtime.harness.Exit`) after which starting again is of no use."""
_AWAY = 3
"""Exit code of a process whose Kafka or Redis stayed away: it is started again for as long as that lasts."""
_PDEATHSIG = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""
_LOOK = 0.1
"""Seconds between looks at the processes."""

log = logs.get("mlmm.supervisor")


class Policy(NamedTuple):
    """When to start again and when to give up; all in seconds, ``failures`` a count."""

    first_delay: float = 0.2
    """Wait before the first restart of a process that ended soon; doubled each time."""
    longest_delay: float = 30.0
    """The doubling ends here."""
    well_after: float = 10.0
    """A process that ran for so long ran well: its next restart is at once and the count of failures begins anew."""
    failures: int = 10
    """So many ends in a row, none of which ran well, and the supervisor gives up; ends for a service that was away
    only lengthen the delay."""
    grace: float = 30.0
    """How long processes that were asked to end may take before they are killed."""


class Action(enum.Enum):
    """What `Slots.due` wants done."""

    START = "start"
    KILL = "kill"


class _Slot:
    """One process under one name."""

    def __init__(self) -> None:
        self.running = False
        self.started = 0.0
        self.due: float | None = 0.0
        self.ends = 0
        """In a row, none of which ran well."""
        self.failures = 0
        """Those of them that no absent service explains."""
        self.killed = False


class Slots:
    """Decides for a fixed number of slots: when each is started, whether to give up, with which exit code.

    Parameters
    ----------
    count : int
        Number of slots, 0 to ``count - 1``.
    policy : Policy
        Delays and limits.
    """

    def __init__(self, count: int, policy: Policy) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._policy = policy
        self._deadline: float | None = None
        self.exit_code = 0
        """What the supervisor ends with."""

    @property
    def stopping(self) -> bool:
        """Whether all are to end."""
        return self._deadline is not None

    @property
    def finished(self) -> bool:
        """Whether nothing runs any more and nothing will be started."""
        return self.stopping and not any(slot.running for slot in self._slots)

    def due(self, now: float) -> list[tuple[Action, int]]:
        """Return what is to be done now."""
        if self._deadline is not None:
            late = now >= self._deadline
            kills = [i for i, slot in enumerate(self._slots) if late and slot.running and not slot.killed]
            for i in kills:
                self._slots[i].killed = True
            return [(Action.KILL, i) for i in kills]
        return [
            (Action.START, i)
            for i, slot in enumerate(self._slots)
            if not slot.running and slot.due is not None and slot.due <= now
        ]

    def started(self, index: int, now: float) -> None:
        """Take note that a slot's process runs."""
        slot = self._slots[index]
        slot.running, slot.started, slot.due = True, now, None

    def ended(self, index: int, code: int, now: float) -> str:
        """Take note that a slot's process ended, and return what follows, for the log.

        Parameters
        ----------
        index : int
            The slot.
        code : int
            Exit code; negative for a signal, as `subprocess` has it.
        now : float
            Seconds on a clock that never goes back.
        """
        slot = self._slots[index]
        slot.running = False
        if self.stopping:
            return "stopping"
        if code in _HOPELESS:
            self.stop(now, exit_code=code)
            return f"giving up: {_HOPELESS[code]}"
        well = now - slot.started >= self._policy.well_after
        slot.ends = 0 if well else slot.ends + 1
        slot.failures = 0 if well else slot.failures + (code != _AWAY)
        if slot.failures >= self._policy.failures:
            self.stop(now, exit_code=code if code > 0 else 1)
            return f"giving up: it ended {slot.failures} times in a row"
        doubled = self._policy.first_delay * 2.0 ** min(max(0, slot.ends - 1), 32)
        delay = 0.0 if well else min(self._policy.longest_delay, doubled)
        slot.due = now + delay
        return f"starting again in {delay:g} s"

    def stop(self, now: float, *, exit_code: int = 0) -> None:
        """End all: who has not ended after the grace period is killed. The first exit code counts."""
        if self._deadline is None:
            self._deadline = now + self._policy.grace
            self.exit_code = exit_code


def supervise(
    make_command: Callable[[int], Sequence[str]],
    slots: int,
    *,
    policy: Policy | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Run ``slots`` processes until SIGTERM or SIGINT; return the exit code.

    Each ends with its own SIGTERM first, with SIGKILL when the grace period is over. A process that ends by itself is
    started again, at once when it ran well, else after a delay that doubles. Where the supervisor itself is killed,
    its processes get a SIGTERM (Linux; elsewhere they work on unsupervised until one that is started anew takes their
    slots' names).

    Parameters
    ----------
    make_command : callable
        Slot number → command line; the same for a slot each time, so that its name stays.
    slots : int
        How many.
    policy : Policy, optional
        Delays and limits.
    stop : threading.Event, optional
        Ends all when it is set, as a signal would.

    Returns
    -------
    int
        0 after a signal, else the code of the process that ended hopelessly (2, 4, 5, 6) or kept failing.
    """
    decided = Slots(slots, policy or Policy())
    stop = stop or threading.Event()
    processes: dict[int, subprocess.Popen[bytes]] = {}
    with_us = _ends_with_us()
    restore = _on_signals(stop)
    try:
        while not decided.finished:
            if stop.is_set() and not decided.stopping:
                decided.stop(time.monotonic())
                _ask_to_end(processes)
            _reap(decided, processes)
            for action, slot in decided.due(time.monotonic()):
                if action is Action.KILL:
                    log.warning("process killed", extra={"slot": slot, "pid": processes[slot].pid})
                    processes[slot].kill()
                else:
                    processes[slot] = subprocess.Popen(list(make_command(slot)), preexec_fn=with_us)  # noqa: S603, PLW1509 - our own command; see `_ends_with_us`
                    decided.started(slot, time.monotonic())
                    log.info("process started", extra={"slot": slot, "pid": processes[slot].pid})
            if decided.stopping:
                time.sleep(_LOOK)  # the event is set by now and would not wait
            else:
                stop.wait(_LOOK)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        restore()
    return decided.exit_code


def _ends_with_us() -> Callable[[], None] | None:
    """Make what a child does before it becomes a worker: ask to be told to end when its parent dies.

    It runs in a copy of this process, where other threads may have held locks: all it needs is looked up before.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent, end, getppid = ctypes.CDLL(None).prctl, os.getpid(), int(signal.SIGTERM), os.getppid

    def ask() -> None:
        prctl(_PDEATHSIG, end)
        if getppid() != parent:  # it died before it could be asked
            os._exit(0)

    return ask


def _reap(decided: Slots, processes: dict[int, subprocess.Popen[bytes]]) -> None:
    for slot, process in list(processes.items()):
        code = process.poll()
        if code is None:
            continue
        del processes[slot]
        was_stopping = decided.stopping
        follows = decided.ended(slot, code, time.monotonic())
        level = log.info if was_stopping else log.warning
        level("process ended", extra={"slot": slot, "pid": process.pid, "exit_code": code, "then": follows})
        if decided.stopping and not was_stopping:
            _ask_to_end(processes)


def _ask_to_end(processes: dict[int, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        process.terminate()


def _on_signals(stop: threading.Event) -> Callable[[], None]:
    """Let SIGTERM and SIGINT set the event; return what puts the handlers back. Nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore
