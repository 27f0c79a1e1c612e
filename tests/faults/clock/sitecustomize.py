"""Lets the wall clock of every Python process that finds this on its path jump, as a file says; monotonic ones do not.

The file that ``TEST_CLOCK`` names holds a number of seconds. Processes disagree: each multiplies it by -1, 0 or 1.
"""

import os
import time

_FILE = os.environ.get("TEST_CLOCK")
_LOOK = 0.2


def _install(path: str) -> None:
    real, real_ns, monotonic, sign = time.time, time.time_ns, time.monotonic, os.getpid() % 3 - 1
    state = {"next": 0.0, "shift": 0}

    def shift() -> int:
        now = monotonic()
        if now >= state["next"]:
            state["next"] = now + _LOOK
            try:
                with open(path) as file:  # noqa: PTH123 - loaded by every process that starts: as little as can be
                    state["shift"] = sign * int(file.read() or 0)
            except (OSError, ValueError):
                pass
        return int(state["shift"])

    time.time = lambda: real() + shift()
    time.time_ns = lambda: real_ns() + shift() * 1_000_000_000


if _FILE:
    _install(_FILE)
