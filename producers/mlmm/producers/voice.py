"""How a run speaks: each thing that it says, as an event on its way."""

import logging
import socket
from collections.abc import Callable, Mapping
from time import time_ns
from typing import Any

import msgspec

from mlmm.events import Checkpoint, Event, Heartbeat, RunEnded, RunStarted
from mlmm.events.types import Trigger
from mlmm.producers.capture import mapping, number, refuse
from mlmm.producers.checkpoints import Saved
from mlmm.producers.modes import Outlet
from mlmm.producers.outcome import Outcome
from mlmm.producers.run_stack import RunStack, Said

__all__ = ["Declared", "Voice", "now", "ordinal"]

log = logging.getLogger("mlmm.producers")

_LONGEST_TEXT = 1000
_LARGEST_PARAMS = 256 * 1024


def now() -> int:
    """Return the time in microseconds since the epoch."""
    return time_ns() // 1000


def ordinal(step: object) -> int:
    """Return a step's number; `MalformedEvent` where it is no whole number of at least 0."""
    if isinstance(step, bool) or not hasattr(type(step), "__index__"):
        raise refuse("step", step, "a whole number of at least 0")
    number_: int = step.__index__()  # type: ignore[attr-defined]  # it has one
    if not 0 <= number_ < 1 << 62:
        raise refuse("step", step, "a whole number of at least 0")
    return number_


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of itself when it begins."""

    experiment: str
    params: Mapping[str, Any]
    triggers: tuple[Trigger, ...]
    total_steps: int | None
    model: str | None
    heartbeat_every: float


class Voice:
    """Says what one attempt does.

    Parameters
    ----------
    outlet : Outlet
    refused : Callable[[Exception], None]
        Called inside an ``except`` with what went wrong.
    run_id, attempt : str
    """

    def __init__(self, outlet: Outlet, refused: Callable[[Exception], None], run_id: str, attempt: str) -> None:
        self._outlet = outlet
        self._refused = refused
        self._run_id = run_id
        self._attempt = attempt
        self._stack = RunStack(outlet.intake, run_id, attempt)

    def say(self, event: Event, *, urgent: bool = True, size: int = 0) -> None:
        """Send an event; ``urgent`` ones do not linger. Never raises, but with ``on_error="raise"``."""
        if self._outlet.off:
            return
        try:
            self._stack.say(event, size)
            if urgent:
                self._outlet.hurry()
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's training
            self._refused(error)

    def started(self, declared: Declared, time: int, resumed_from: int | None) -> None:
        """Say that the attempt begins."""
        params = {str(name): _plain(value) for name, value in declared.params.items()}
        size = len(msgspec.json.encode(params))
        if size > _LARGEST_PARAMS:
            log.warning("run %r: params of %d bytes are left out", self._run_id, size)
            params = {}
        event = RunStarted(
            run_id=self._run_id,
            attempt=self._attempt,
            time=time,
            experiment=declared.experiment,
            params=params,
            triggers=declared.triggers,
            total_steps=declared.total_steps,
            model=declared.model,
            resumed_from=resumed_from,
            host=socket.gethostname(),
            heartbeat_every=declared.heartbeat_every,
        )
        self.say(event, size=size)

    def metrics(self, data: Mapping[str, Any], step: int, phase: str) -> None:
        """Say the figures of one step; raises for what are none."""
        names = tuple(mapping(data, "data"))
        values = tuple([number(value, f"data.{name}") for name, value in data.items()])
        if not isinstance(phase, str):
            raise refuse("phase", phase, "a string")
        if self._outlet.off or not values:
            return
        said = Said(names, phase, step, now(), values)
        if not self._stack.log(said):
            block = self._outlet.when_full == "block"
            self._outlet.intake.turned(lambda: self._stack.log(said), 1, self._stack.size_of(said), block=block)

    def heartbeat(self, step: int | None, reader_age: float | None) -> None:
        """Say that the trainer lives."""
        event = Heartbeat(run_id=self._run_id, attempt=self._attempt, time=now(), step=step, reader_age=reader_age)
        self.say(event, urgent=False)

    def checkpointed(self, saved: Saved) -> None:
        """Say that a checkpoint is on disk."""
        self.say(
            Checkpoint(
                run_id=self._run_id,
                attempt=self._attempt,
                time=now(),
                step=saved.step,
                uri=saved.uri,
                size=saved.size,
                sha256=saved.sha256,
            )
        )

    def ended(self, outcome: Outcome, resumable_from: int | None) -> None:
        """Say that the attempt ended."""
        self.say(
            RunEnded(
                run_id=self._run_id,
                attempt=self._attempt,
                time=now(),
                status=outcome.status,
                error=_text(outcome.reason) if outcome.status == "failed" else "",
                last_step=outcome.step,
                resumable_from=resumable_from,
            )
        )


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; one that JSON has no word for as it prints."""
    try:
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=str)
        msgspec.json.encode(plain)
    except (TypeError, ValueError, RecursionError):
        return _text(repr(value))
    return plain


def _text(text: str) -> str:
    return text[:_LONGEST_TEXT].encode(errors="replace").decode()
