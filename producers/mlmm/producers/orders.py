"""Commands to one attempt: judged, answered, and remembered until the run has ended."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Literal

from mlmm.events import Acked, Command
from mlmm.producers.commands import Judge, Verdict

__all__ = ["Orders"]

log = logging.getLogger("mlmm.producers")

_REPEATS = 100
"""Answers that are given again, in all: a record that is replayed for ever must not fill another topic."""
_MOST = 10_000
"""Answers that are remembered."""


class Orders:
    """What a run was told, by commands or by a signal.

    Parameters
    ----------
    judge : Judge
    answer : Callable[[Acked], None]
        Sends an acknowledgement.
    clock : Callable[[], int]
        Microseconds.
    remember : Callable[[str], None], optional
        Called with the id of the order that is obeyed, for attempts to come.
    """

    def __init__(
        self,
        judge: Judge,
        answer: Callable[[Acked], None],
        clock: Callable[[], int],
        remember: Callable[[str], None] | None = None,
    ) -> None:
        self._judge = judge
        self._answer = answer
        self._clock = clock
        self._remember = remember
        self._lock = threading.Lock()
        self._stop = False  # no Event: its lock would keep a signal handler waiting for its own thread
        self._answers: dict[str, Acked] = {}
        """The last word on each genuine order, to be said again."""
        self._repeats = 0
        self.command: Command | None = None
        """The one that is obeyed."""
        self.signal: str | None = None
        """Name of the signal that asked to stop."""

    @property
    def should_stop(self) -> bool:
        """Whether the run is to end after its step."""
        return self._stop

    def receive(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Verdict:
        """Judge one record of the commands topic, answer it, and stop the run where it says so. In any thread."""
        with self._lock:
            verdict = self._judge.judge(key, value, headers, self._clock())
            if verdict.answer == "obey" and self.command is not None:
                if verdict.command_id == self.command.command_id:
                    verdict = verdict._replace(answer="repeat")
                else:
                    reason = f"is stopping already, by {self.command.command_id}"
                    verdict = verdict._replace(answer="reject", reason=reason)
            if verdict.answer == "ignore":
                return verdict
            if verdict.answer == "repeat":
                self._repeat(verdict.command_id)
            elif not verdict.proven:
                self._refuse(verdict)
            elif verdict.answer == "obey":
                self.command = verdict.command
                self._stop = True  # first: a step may end while the answer is written
                self._say(verdict, "accepted")
                self._keep(verdict.command_id)
                log.warning("told to stop after this step, by command %s: %.200r", verdict.command_id, verdict.reason)
            else:
                self._say(verdict, "expired" if verdict.answer == "expire" else "rejected")
            return verdict

    def _say(self, verdict: Verdict, state: Literal["accepted", "rejected", "expired"]) -> None:
        answer = self._judge.ack(verdict.command_id, state, self._clock(), reason=verdict.reason)
        self._answers[verdict.command_id] = answer
        while len(self._answers) > _MOST:
            del self._answers[next(iter(self._answers))]
        self._answer(answer)

    def _keep(self, command_id: str) -> None:
        if self._remember is None:
            return
        try:
            self._remember(command_id)
        except OSError as error:
            log.warning("that the run obeyed command %s can't be written down: %s", command_id, error)

    def _repeat(self, command_id: str) -> None:
        answer = self._answers.get(command_id)
        if answer is not None and self._repeats < _REPEATS:
            self._repeats += 1
            self._answer(answer)

    def _refuse(self, verdict: Verdict) -> None:
        self._answer(
            self._judge.ack(verdict.command_id, "rejected", self._clock(), reason=verdict.reason, proven=False)
        )
        if self._judge.flooded:
            log.warning("so many orders were not their issuer's that further ones are not answered")

    def caught(self, name: str) -> None:
        """Take a signal's name down. Runs inside a signal handler: no lock may be taken here."""
        self.signal = self.signal or name
        self._stop = True

    def end(self) -> Command | None:
        """Take no more orders; return the one that is obeyed."""
        with self._lock:
            self._judge.ended = True
            return self.command

    def completed(self, command: Command, checkpoint: str | None, step: int | None, *, reason: str = "") -> None:
        """Answer that the run has stopped, and what it left behind."""
        with self._lock:
            answer = self._judge.ack(
                command.command_id,
                "completed",
                self._clock(),
                reason=reason or command.reason,
                checkpoint=checkpoint,
                step=step,
            )
            self._answers[command.command_id] = answer
            self._answer(answer)
