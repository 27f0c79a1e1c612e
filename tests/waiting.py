"""Wait for a condition with a deadline: the one place where a test lets time pass."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, timeout: float, what: str, every: float = 0.02) -> T:
    """Return the first truthy value of ``condition``; fail naming ``what`` when ``timeout`` seconds have passed."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"waited {timeout} s for {what}; last seen: {value!r}"
            raise AssertionError(message)
        pause.wait(every)
