"""Checks on single events of the types that have no columns: what a number, a time or a text may be at all."""

from typing import Any, Final

import msgspec

from mlmm.events.errors import MalformedEvent
from mlmm.events.faults import check_id, check_model, check_text, check_time
from mlmm.events.limits import DEPTH, NAME_BYTES, NAMES, PHASE_BYTES, TIME_MAX, TIME_MIN
from mlmm.events.types import Command, Incident, RunStarted

__all__ = ["check_event"]

_IDS: Final = frozenset(
    {"run_id", "attempt", "command_id", "incident_id", "notification_id", "target", "notifier", "experiment"}
)
_MAY_BE_EMPTY: Final = frozenset({"experiment"})
_TIMES: Final = frozenset(
    {"time", "log_time", "event_time", "issued_at", "expires_at", "started", "updated", "ended", "created"}
)
_FREE: Final = frozenset({(RunStarted, "params"), (Incident, "evidence"), (Command, "evidence")})
"""What may hold anything that JSON can say, in any amount that a record holds: nothing is reckoned with it."""
_EDGES: Final = frozenset({"start", "end"})
_YEAR: Final = 366 * 86_400_000_000
"""Microseconds by which a window may reach beyond the times of its events: the longest window."""
_INT64: Final = 1 << 63
_LABEL_BYTES: Final = PHASE_BYTES + 1 + NAME_BYTES
"""Longest name of a figure: a metric's, with its phase before it."""
_PLAIN: Final = 500
"""Characters up to which an ASCII text needs no closer look."""


def check_event(event: Any, path: str) -> None:
    """Check one event by the names and types of its fields.

    Integers fit into 64 bits, times lie in the years 2000..2199, ids and model names are ids and model names, texts are
    UTF-8 of bounded length, maps and lists of bounded size: no arithmetic, layout or header that comes later can fail
    for what is in it. ``params`` and ``evidence`` may hold anything, but are not nested without end.

    Parameters
    ----------
    event : Event
        As msgspec decoded it: the types are right.
    path : str
        What stands before a field's name, such as ``"[3]."``.

    Raises
    ------
    MalformedEvent
        Naming the field.
    """
    of = type(event)
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is None or value is True or value is False or type(value) is float:
            continue
        field = f"{path}{name}"
        if type(value) is int:
            _check_integer(name, value, field)
        elif name == "model":
            check_model(value, field)
        elif name in _IDS:
            if value or name not in _MAY_BE_EMPTY:
                check_id(value, field)
        elif (of, name) in _FREE:
            _check_depth(value, field, DEPTH)
        else:
            _check_value(value, field)


def _check_integer(name: str, value: int, field: str) -> None:
    if name in _TIMES or (name in _EDGES and not TIME_MIN - _YEAR <= value < TIME_MAX + _YEAR):
        check_time(value, field)
    elif not -_INT64 <= value < _INT64:
        raise MalformedEvent("does not fit into 64 bits", field=field)


def _check_value(value: Any, field: str) -> None:
    """Check what is not known by its name."""
    kind = type(value)
    if kind is str:
        if len(value) > _PLAIN or not value.isascii():
            check_text(value, field)
    elif kind is int:
        if not -_INT64 <= value < _INT64:
            raise MalformedEvent("does not fit into 64 bits", field=field)
    elif kind is dict:
        _check_size(value, field)
        for name, each in value.items():
            check_text(name, field, _LABEL_BYTES)
            _check_value(each, field)
    elif kind is tuple:
        _check_size(value, field)
        for place, each in enumerate(value):
            _check_value(each, f"{field}[{place}]")
    elif isinstance(value, msgspec.Struct):
        check_event(value, f"{field}.")


def _check_size(value: Any, field: str) -> None:
    if len(value) > NAMES:
        raise MalformedEvent(f"{len(value)} entries, at most {NAMES} are allowed", field=field)


def _check_depth(value: Any, field: str, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not left:
        raise MalformedEvent(f"nested too deeply: at most {DEPTH} levels are allowed", field=field)
    for each in value.values() if isinstance(value, dict) else value:
        _check_depth(each, field, left - 1)
