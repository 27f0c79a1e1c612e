"""State of alerting: one island a finding key, one cell an island, in a versioned layout.

A cell is the layout's number in one byte, then the island as msgpack. Its name is the finding key as received.
"""

import msgspec

from mlmm.events.types import Command, Incident, Subject

__all__ = ["LAYOUT", "Case", "Island", "Issued", "Watch", "load_cell", "save_cell"]

LAYOUT = 1


class Case(msgspec.Struct, array_like=True):
    """An incident that is not resolved, and whom it concerns."""

    incident: Incident
    notify: tuple[str, ...]
    """Notifiers that are told; kept here, since the rule may leave the settings before the incident is resolved."""
    alarms: int = 1
    """How often its condition was met."""
    command: str = ""
    """Id of the command that it gave, or would have given if it had not stood already."""


class Watch(msgspec.Struct, array_like=True):
    """One rule on one subject."""

    rule: str
    subject: Subject
    held: bytes = b""
    """A byte for each of the last windows judged, oldest first: 1 where the bound was broken."""
    ends: list[int] = []
    """Ends of the last windows, oldest first, in microseconds, with their ``values``: the picture."""
    values: list[float] = []
    normal: list[float] = []
    """The figure in the last windows that kept the bound: what a change is measured against."""
    window: tuple[int, int] = (0, 0)
    """Start and end of the last window judged; a revision of it takes its place."""
    quiet: int = 0
    """When the silence that the rule waits for is complete, in cause time; 0: no timer."""
    case: Case | None = None


class Issued(msgspec.Struct, array_like=True):
    """A command that was given, until its target's last word or its expiry."""

    command: Command
    rule: str
    watches: list[str]
    """The watches whose incidents wait for it: the one that gave it, then those that would have given the same."""
    notify: tuple[str, ...]
    severity: str
    state: str = "issued"
    """``issued``, ``accepted``, or how it ended: ``completed``, ``rejected``, ``expired``, ``superseded``."""
    answers: dict[str, tuple[str, int, str, str]] = {}
    """Who answered → state, log time, reason, checkpoint: the latest word of each."""
    due: int = 0
    """When an answer is overdue, in cause time; 0 once there is one, or once that was said."""
    closed: dict[str, Case] = {}
    """Watch → its incident, where that was resolved before the target's last word."""
    case: Case | None = None
    """The incident of a command that nobody obeyed."""


class Island(msgspec.Struct, array_like=True):
    """All state of one finding key."""

    watches: dict[str, Watch] = {}
    issued: dict[str, Issued] = {}
    attempt: str = ""
    """The run's current attempt."""
    ended: bool = False
    """Whether that attempt is over."""
    seen: int = 0
    """Latest cause time."""


_decoder = msgspec.msgpack.Decoder(Island)
_encoder = msgspec.msgpack.Encoder()
_VERSION = bytes((LAYOUT,))


def save_cell(island: Island) -> bytes:
    """Write an island; equal islands give equal bytes."""
    return _VERSION + _encoder.encode(island)


def load_cell(name: bytes, cell: bytes) -> Island:
    """Read an island; ``ValueError`` naming the cell where its layout is unknown or damaged."""
    if cell[:1] != _VERSION:
        raise ValueError(f"cell {name!r}: layout {cell[:1].hex() or 'missing'}, this version reads {LAYOUT}")
    try:
        return _decoder.decode(memoryview(cell)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"cell {name!r}: damaged ({error})") from None
