"""Which orders a trainer obeys: decisions alone, no I/O. The rules are those of the contract, section "Commands"."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from mlmm.events import SIGNATURE, Acked, Command, header, verify

__all__ = ["Judge", "Verdict"]

_TYPE = b"mlmm.command.v1"
_MOST = 10_000
"""Orders that are remembered; a trainer reads back a day."""


class Verdict(NamedTuple):
    """What is to be done with a record of the commands topic."""

    answer: Literal["obey", "reject", "expire", "ignore"]
    reason: str
    command: Command | None = None


class Judge:
    """Decides for one attempt at a run.

    Parameters
    ----------
    run_id, attempt : str
        Who we are.
    model : str or None
        The model that the run declared.
    started : int
        When the attempt began, in microseconds.
    keys : Mapping[str, bytes]
        Signing keys by id; where there is one, an order must be signed.
    """

    def __init__(
        self, *, run_id: str, attempt: str, model: str | None, started: int, keys: Mapping[str, bytes]
    ) -> None:
        self._run_id = run_id
        self._attempt = attempt
        self._model = model
        self._started = started
        self._keys = keys
        self._seen: dict[tuple[str, bool], None] = {}
        """Command id, and whether it was genuine: what was forged under an id does not use it up."""
        self.ended = False
        """Set when the run takes no more orders."""

    def judge(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]], now: int) -> Verdict:
        """Say what is to be done with one record.

        Parameters
        ----------
        key, value, headers
            The record as it was read.
        now : int
            Microseconds.

        Returns
        -------
        Verdict
            ``ignore`` for what is not for this run, or was decided before; every other one is to be answered.
        """
        if header(headers, "ce_type") != _TYPE:
            return Verdict("ignore", "is no command")
        try:
            command = msgspec.json.decode(value or b"", type=Command)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Verdict("ignore", f"can't be read: {error}")
        if not self._is_for_us(command):
            return Verdict("ignore", "is for others", command)
        forged = self._forged(command, key or b"", value or b"", headers)
        known = (command.command_id, forged is None)
        if known in self._seen or (command.command_id, True) in self._seen:
            return Verdict("ignore", "was decided before", command)
        verdict = self._decide(command, forged, now)
        if verdict.answer != "ignore":
            self._seen[known] = None
            while len(self._seen) > _MOST:
                del self._seen[next(iter(self._seen))]
        return verdict

    def _is_for_us(self, command: Command) -> bool:
        if command.run_id is not None:
            return command.run_id == self._run_id
        return command.model is not None and command.model == self._model

    def _forged(self, command: Command, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> str | None:
        """Say why a record is not what its issuer wrote; None where nothing speaks against it."""
        target = command.model if command.run_id is None else command.run_id
        if key != (target or "").encode():
            return f"its record key is {key!r}, its target {target!r}"
        if not self._keys:
            return None
        id_ = (header(headers, "ce_id") or b"").decode(errors="replace")
        return verify(header(headers, SIGNATURE), self._keys, key, _TYPE.decode(), id_, value)

    def _decide(self, command: Command, forged: str | None, now: int) -> Verdict:
        of_model = command.run_id is None
        if of_model and (command.kind != "stop" or command.issued_at <= self._started):
            # Promotions are for deployers; and a run that began afterwards is the remedy, not the disease.
            return Verdict("ignore", "is not for a run that began after it was issued", command)
        if forged is not None:
            return Verdict("reject", forged, command)
        if command.kind != "stop":
            return Verdict("reject", f"a trainer obeys stop, not {command.kind}", command)
        if command.attempt is not None and command.attempt != self._attempt:
            return Verdict("reject", f"is for attempt {command.attempt}, this is {self._attempt}", command)
        if command.attempt is None and command.issued_at <= self._started:
            return Verdict("reject", "was issued before this attempt began", command)
        if command.expires_at <= now:
            return Verdict("expire", f"expired {(now - command.expires_at) / 1e6:.0f} s ago", command)
        if self.ended:
            return Verdict("reject", "the run has ended", command)
        return Verdict("obey", command.reason, command)

    def ack(
        self,
        command: Command,
        state: Literal["accepted", "completed", "rejected", "expired"],
        now: int,
        *,
        reason: str = "",
        checkpoint: str | None = None,
        step: int | None = None,
    ) -> Acked:
        """Make the answer to a command."""
        return Acked(
            command_id=command.command_id,
            state=state,
            time=now,
            target=self._run_id,
            attempt=self._attempt,
            reason=reason,
            checkpoint=checkpoint,
            step=step,
        )
