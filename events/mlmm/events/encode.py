"""Events and blocks → record."""

from collections.abc import Sequence
from math import isfinite, isnan

import msgspec

from mlmm.events.columns import Block
from mlmm.events.types import Event, Metrics, RunState

__all__ = ["COLUMNS_TYPE", "JSON", "encode_columns", "encode_json"]

JSON = "application/json"
"""Content type of one event, or an array of events, as JSON."""
COLUMNS_TYPE = "application/vnd.mlmm.columns+msgpack"
"""Content type of one block of events in columns."""

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def _spell(value: float | str) -> float | str:
    """JSON has no word for a number that is not finite."""
    if isinstance(value, str) or isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _speakable(event: Event) -> Event:
    if isinstance(event, Metrics):
        return msgspec.structs.replace(event, values={name: _spell(value) for name, value in event.values.items()})
    if isinstance(event, RunState):
        return msgspec.structs.replace(event, figures={name: _spell(value) for name, value in event.figures.items()})
    return event


def encode_json(event: Event | Sequence[Event]) -> bytes:
    """Write one event, or an array of events, as JSON.

    Numbers that are not finite stand as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` in `Metrics.values` and
    `RunState.figures`. Elsewhere they become null, which reads as missing where the field may be missing.
    """
    return _json.encode(_speakable(event) if isinstance(event, Event) else [_speakable(each) for each in event])


def encode_columns(block: Block) -> bytes:
    """Write one block; ``index`` is not on the wire."""
    return _msgpack.encode(msgspec.structs.replace(block, index=0) if block.index else block)
