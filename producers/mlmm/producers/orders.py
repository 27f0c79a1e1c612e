"""Commands to one attempt: judged, answered, and remembered until the run has ended."""

import threading
from collections.abc import Callable, Sequence
from typing import Literal

from mlmm.events import Acked, Command
from mlmm.producers.commands import Judge, Verdict

__all__ = ["Orders"]


class Orders:
    """What a run was told, by commands or by a signal.

    Parameters
    ----------
    judge : Judge
    answer : Callable[[Acked], None]
        Sends an acknowledgement.
    clock : Callable[[], int]
        Microseconds.
    """

    def __init__(self, judge: Judge, answer: Callable[[Acked], None], clock: Callable[[], int]) -> None:
        self._judge = judge
        self._answer = answer
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.command: Command | None = None
        """The one that is obeyed."""
        self.signal: str | None = None
        """Name of the signal that asked to stop."""

    @property
    def should_stop(self) -> bool:
        """Whether the run is to end after its step."""
        return self._stop.is_set()

    def receive(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Verdict:
        """Judge one record of the commands topic, answer it, and stop the run where it says so. In any thread."""
        with self._lock:
            verdict = self._judge.judge(key, value, headers, self._clock())
            command = verdict.command
            if command is None or verdict.answer == "ignore":
                return verdict
            if verdict.answer == "obey" and self.command is not None:
                verdict = Verdict("reject", f"is stopping already, by {self.command.command_id}", command)
            if verdict.answer == "obey":
                self.command = command
                self._stop.set()  # first: a step may end while the answer is written
                self._answer(self._judge.ack(command, "accepted", self._clock(), reason=command.reason))
            else:
                state: Literal["rejected", "expired"] = "expired" if verdict.answer == "expire" else "rejected"
                self._answer(self._judge.ack(command, state, self._clock(), reason=verdict.reason))
            return verdict

    def caught(self, name: str) -> None:
        """Take a signal's name down. Runs inside a signal handler: no lock may be taken here."""
        self.signal = self.signal or name
        self._stop.set()

    def end(self) -> Command | None:
        """Take no more orders; return the one that is obeyed."""
        with self._lock:
            self._judge.ended = True
            return self.command

    def completed(self, command: Command, checkpoint: str | None, step: int | None) -> None:
        """Answer that the run has stopped, and what it left behind."""
        self._answer(
            self._judge.ack(
                command, "completed", self._clock(), reason=command.reason, checkpoint=checkpoint, step=step
            )
        )
