"""How a run ended."""

from pathlib import Path
from typing import Literal

import msgspec

from mlmm.events.errors import MlmmError

__all__ = ["Outcome", "RunStopped", "Status"]

Status = Literal["completed", "stopped", "interrupted", "failed"]


class RunStopped(MlmmError):  # noqa: N818 - named like the others of the tree
    """A run did not complete, so that what it trained must not be published.

    Parameters
    ----------
    outcome : Outcome
    """

    def __init__(self, outcome: "Outcome") -> None:
        super().__init__(f"the run was {outcome.status}: {outcome.reason or 'no reason was given'}")
        self.outcome = outcome


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, and what it left behind."""

    status: Status
    reason: str = ""
    """Of the command, the signal or the exception."""
    command_id: str | None = None
    """The command that stopped it."""
    checkpoint: Path | None = None
    """The last good checkpoint."""
    step: int | None = None
    """The last step that was done."""

    def raise_if_stopped(self) -> None:
        """Raise `RunStopped` unless the run completed."""
        if self.status != "completed":
            raise RunStopped(self)
