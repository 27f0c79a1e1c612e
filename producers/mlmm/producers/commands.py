"""Which orders a trainer obeys: decisions alone, no I/O. ``docs/commands.md`` has the table."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from mlmm.events import JSON, SIGNATURE, Acked, Command, MalformedEvent, decode_events, header, verify
from mlmm.events.faults import check_id, check_time
from mlmm.events.limits import Limits

__all__ = ["Judge", "Verdict"]

_TYPE = "mlmm.command.v1"
_MOST = 10_000
"""Orders that are remembered; a trainer reads back a day."""
_UNPROVEN = 100
"""Records that prove nothing and are still answered: whoever floods the topic must not make the run flood another."""
_LIMITS = Limits(record_bytes=256 * 1024, events=1)
_AHEAD = 300_000_000
"""Microseconds that an issuer's clock may be ahead; no attempt could be told from those after it beyond that."""
_CUT = 80
_LONGEST_REASON = 1000
_NO_DATES: Mapping[str, int] = {}


class Verdict(NamedTuple):
    """What is to be done with a record of the commands topic."""

    answer: Literal["obey", "reject", "expire", "repeat", "ignore"]
    """``repeat``: what was answered before is to be answered again."""
    reason: str
    command: Command | None = None
    command_id: str = ""
    """Under which it is answered."""
    proven: bool = True
    """Whether the record is its issuer's, as far as signature and record key tell."""


class _Given(NamedTuple):
    """A record of the commands topic."""

    key: bytes
    value: bytes
    id_: str
    signature: bytes | None


class _Unreadable(Exception):  # noqa: N818 - it is caught in the method that calls
    """A record that is no order."""


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
    until : Mapping[str, int], optional
        Key id → microseconds from which on the key is refused.
    obeyed : collection of str, optional
        Ids of orders that earlier attempts obeyed, where that is known: clocks may say that they came after us.
    """

    def __init__(
        self,
        *,
        run_id: str,
        attempt: str,
        model: str | None,
        started: int,
        keys: Mapping[str, bytes],
        until: Mapping[str, int] = _NO_DATES,
        obeyed: Collection[str] = (),
    ) -> None:
        self._run_id = run_id
        self._attempt = attempt
        self._model = model
        self._started = started
        self._keys = keys
        self._until = until
        self._obeyed = obeyed
        self._decided: dict[str, None] = {}
        """Ids of genuine orders: what was forged under an id does not use it up, and does not push others out."""
        self._refused: set[tuple[str, str]] = set()
        """Id and reason of what proved nothing."""
        self.ended = False
        """Set when the run takes no more orders."""

    @property
    def flooded(self) -> bool:
        """Whether so much came that proved nothing that no more of it is answered."""
        return len(self._refused) >= _UNPROVEN

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
            ``ignore`` for what is not for this run; every other one is to be answered.
        """
        if header(headers, "ce_type") != _TYPE.encode():
            return Verdict("ignore", "is no command")
        id_ = (header(headers, "ce_id") or b"").decode(errors="replace")
        given = _Given(key or b"", value or b"", id_, header(headers, SIGNATURE))
        try:
            command = _read(given.value)
        except _Unreadable as error:
            return self._unreadable(given, f"can't be read: {error}")
        if not self._is_for_us(command):
            return Verdict("ignore", "is for others", command)
        if command.run_id is None and (command.kind != "stop" or command.issued_at <= self._started):
            # Promotions are for deployers; and a run that began afterwards is the remedy, not the disease.
            return Verdict("ignore", "is not for a run that began after it was issued", command)
        forged = self._forged(command, given, now)
        if forged is not None:
            return self._refuse(command.command_id, forged, command)
        if command.command_id in self._decided:
            return Verdict("repeat", "was decided before", command, command.command_id)
        self._decided[command.command_id] = None
        while len(self._decided) > _MOST:
            del self._decided[next(iter(self._decided))]
        answer, reason = self._decide(command, now)
        return Verdict(answer, reason, command, command.command_id)

    def _unreadable(self, given: _Given, reason: str) -> Verdict:
        """Answer what has our key and an id: who else could tell its issuer."""
        ours = {each.encode() for each in (self._run_id, self._model) if each is not None}
        try:
            check_id(given.id_, "ce_id")
        except MalformedEvent:
            return Verdict("ignore", reason)
        return self._refuse(given.id_, reason, None) if given.key in ours else Verdict("ignore", reason)

    def _refuse(self, command_id: str, reason: str, command: Command | None) -> Verdict:
        if self.flooded or (command_id, reason) in self._refused:
            return Verdict("ignore", reason, command, command_id, proven=False)
        self._refused.add((command_id, reason))
        return Verdict("reject", reason, command, command_id, proven=False)

    def _is_for_us(self, command: Command) -> bool:
        if command.run_id is not None:
            return command.run_id == self._run_id
        return command.model is not None and command.model == self._model

    def _forged(self, command: Command, given: _Given, now: int) -> str | None:
        """Say why a record is not what its issuer wrote; None where nothing speaks against it."""
        target = (command.model if command.run_id is None else command.run_id) or ""
        if given.key != target.encode():
            return f"its record key is {given.key[:_CUT]!r}, its target {target[:_CUT]!r}"
        if given.id_ != command.command_id:
            return f"its ce_id is {given.id_[:_CUT]!r}, its command_id {command.command_id[:_CUT]!r}"
        if not self._keys:
            return None
        key, value, id_, signature = given
        return verify(signature, self._keys, key, _TYPE, id_, value, until=self._until, now=now)

    def _decide(self, command: Command, now: int) -> tuple[Literal["obey", "reject", "expire"], str]:
        if command.kind != "stop":
            return "reject", f"a trainer obeys stop, not {command.kind}"
        if command.attempt is not None and command.attempt != self._attempt:
            return "reject", f"is for attempt {command.attempt[:_CUT]}, this is {self._attempt}"
        if command.attempt is None and command.issued_at <= self._started:
            return "reject", "was issued before this attempt began"
        if command.command_id in self._obeyed:
            return "reject", "was obeyed by an earlier attempt"
        if command.expires_at <= now:
            return "expire", f"expired {(now - command.expires_at) / 1e6:.0f} s ago"
        if command.attempt is None and command.issued_at > now + _AHEAD:
            ahead = (command.issued_at - now) / 1e6
            return "reject", f"was issued {ahead:.0f} s from now, by a clock that is wrong here or there"
        if self.ended:
            return "reject", "the run has ended"
        return "obey", command.reason

    def ack(
        self,
        command_id: str,
        state: Literal["accepted", "completed", "rejected", "expired"],
        now: int,
        *,
        reason: str = "",
        checkpoint: str | None = None,
        step: int | None = None,
        proven: bool = True,
    ) -> Acked:
        """Make the answer to a command."""
        return Acked(
            command_id=command_id,
            state=state,
            time=now,
            target=self._run_id,
            attempt=self._attempt,
            reason=reason[:_LONGEST_REASON].encode(errors="replace").decode(),
            checkpoint=checkpoint,
            step=step,
            unproven=not proven,
        )


def _read(value: bytes) -> Command:
    """Read one command, within bounds; `_Unreadable` says what is wrong."""
    try:
        (command,) = decode_events(_TYPE, JSON, value, limits=_LIMITS)
        if not isinstance(command, Command):  # decode_events gives what the type says
            raise _Unreadable("is no command")
        for name in ("issued_at", "expires_at"):
            check_time(getattr(command, name), name)
    except MalformedEvent as error:
        raise _Unreadable(str(error)[:_LONGEST_REASON]) from None
    return command
