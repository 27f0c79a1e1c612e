"""What became of the commands that a run was given, as far as it said."""

from typing import Final

from mlmm.events.types import Acked

__all__ = ["VOID", "close", "follow"]

VOID: Final = "void"
"""What an older attempt was told: nothing that is said of it counts any more."""

_RANK: Final = {"rejected": 0, "expired": 0, "accepted": 1, "superseded": 2, "completed": 3, VOID: 4}
"""An acknowledgement is news only when it ranks higher than the last one: they come at least once, and late.

A completion overrules ``superseded``: a run that was taken for lost may still have obeyed. Nothing that an attempt
accepted is refused by it afterwards: such a word is of a copy, and one that came first gives way to the acceptance.
"""
_KEPT: Final = 16
"""Commands that are remembered of a run; the oldest is forgotten first, one that is being obeyed last."""


def follow(commands: dict[str, str], acked: Acked) -> bool:
    """Take in an acknowledgement; return whether it says something new.

    What is unproven changes nothing: whoever may write to the commands topic can cause it under any id.
    """
    if acked.unproven:
        return True
    known = commands.get(acked.command_id)
    if known is not None and _RANK[acked.state] <= _RANK[known]:
        return False
    commands[acked.command_id] = acked.state
    while len(commands) > _KEPT:
        closed = (command_id for command_id, state in commands.items() if state != "accepted")
        del commands[next(closed, next(iter(commands)))]
    return True


def close(commands: dict[str, str], *, void: bool) -> list[str]:
    """Close the open commands, and return their ids.

    Parameters
    ----------
    commands : dict
        Command id → last state; changed in place.
    void : bool
        Whether a newer attempt closes them: then nothing that is still said of any of them counts.
    """
    made = [command_id for command_id, state in commands.items() if state == "accepted"]
    if void:
        commands.update(dict.fromkeys(commands, VOID))
    else:
        commands.update(dict.fromkeys(made, "superseded"))
    return made
