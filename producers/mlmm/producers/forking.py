"""Keeps a process from forking while a thread of ours imports, or takes a lock that a child must let go of.

A child that is forked in the middle of another thread's import has the module half made, for good: nobody is left to
finish it (tried: gunicorn with ``--preload`` forked three of four workers into that, and none of them ever delivered).
"""

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["unforked"]

_LONGEST = 30.0
"""Seconds that a fork waits for an import. Importing Kafka's client takes less than one on an idle machine."""

_gate = threading.RLock()
_held = False


@contextlib.contextmanager
def unforked() -> Iterator[None]:
    """Import inside, or lock a file: until the end of the block no other thread forks this process."""
    with _gate:
        yield


def _before() -> None:
    global _held  # noqa: PLW0603 - a process forks or does not
    held = _gate.acquire(timeout=_LONGEST)
    _held = held


def _after() -> None:
    if _held:
        _gate.release()


def _after_in_child() -> None:
    global _gate  # noqa: PLW0603 - a thread of the parent may hold the old one
    if _held:
        _gate.release()
    else:
        _gate = threading.RLock()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
