"""One emitter a process and settings."""

import os
import threading

from mlmm.producers.emitter import Emitter
from mlmm.runtime.settings import Settings

__all__ = ["emitter_for"]

_lock = threading.Lock()
_emitters: list[Emitter] = []


def _matters(settings: Settings) -> tuple[object, ...]:
    return settings.topic_prefix, settings.kafka, settings.emitter


def emitter_for(settings: Settings) -> Emitter:
    """Return the emitter that all monitors and runs with these settings share; a closed one is replaced."""
    with _lock:
        _emitters[:] = [emitter for emitter in _emitters if not emitter.intake.closed]
        for emitter in _emitters:
            if _matters(emitter.settings) == _matters(settings):
                return emitter
        emitter = Emitter(settings)
        _emitters.append(emitter)
        return emitter


def _forked() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)
