"""The past, once more: the processors and the rules over a file, without Kafka (``docs/replay.md``).

`replay_file` is ``mlmm replay``; `replay_records` is the same for records in memory; `to_lines` and `from_lines` are
the form in which ``mlmm tail --json`` writes a log and ``mlmm replay`` reads it. Names load what they need when they
are used: writing lines needs no compiled code.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmm.console.replay.engine import Made, Replay, Replayer, replay_records
    from mlmm.console.replay.errors import WrongInput
    from mlmm.console.replay.lines import from_lines, to_lines
    from mlmm.console.replay.run import ReplayResult, replay_file
    from mlmm.console.replay.screen import run_command
    from mlmm.console.replay.table import TableColumns

__all__ = [
    "Made",
    "Replay",
    "ReplayResult",
    "Replayer",
    "TableColumns",
    "WrongInput",
    "from_lines",
    "replay_file",
    "replay_records",
    "run_command",
    "to_lines",
]

_HOMES = {
    "Made": "engine",
    "Replay": "engine",
    "ReplayResult": "run",
    "Replayer": "engine",
    "TableColumns": "table",
    "WrongInput": "errors",
    "from_lines": "lines",
    "replay_file": "run",
    "replay_records": "engine",
    "run_command": "screen",
    "to_lines": "lines",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
