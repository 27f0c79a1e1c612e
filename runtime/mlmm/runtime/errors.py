"""Errors of this room; the whole tree is drawn in `mlmm.events.errors`."""

from collections.abc import Iterable
from typing import NamedTuple

from mlmm.events.errors import MlmmError

__all__ = [
    "Fenced",
    "LogChanged",
    "MissingExtra",
    "MlmmError",
    "Problem",
    "ServiceUnavailable",
    "SettingsError",
    "StateRefused",
]


class Problem(NamedTuple):
    """One thing that is wrong with the settings."""

    key: str
    """Dotted path, such as ``"kafka.partitions"`` or ``"rules[0].below"``; empty for the file as a whole."""
    reason: str
    """The value at fault (never a secret) and what is allowed."""
    where: str = ""
    """File, environment variable or ``"argument"`` that it came from; empty for an object made in code."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.reason) if part)


class SettingsError(MlmmError):
    """Settings that are wrong or missing.

    Parameters
    ----------
    problems : iterable of Problem or str
        All that was found wrong, so that a person mends a file in one go.
    """

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        found = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in found))
        self.problems = found


class MissingExtra(MlmmError):  # noqa: N818 - the name is what a reader of a log needs
    """An optional dependency that is not installed.

    Parameters
    ----------
    module : str
        The module that could not be imported.
    extra : str
        The extra of the distribution that brings it.
    purpose : str
        What wanted it.
    """

    def __init__(self, module: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {module!r}, which is not installed: pip install 'mlmm[{extra}]'")
        self.module = module
        self.extra = extra


class ServiceUnavailable(MlmmError):  # noqa: N818 - as above
    """Kafka, Redis or a mail server can't be reached, or refuses us.

    Parameters
    ----------
    service : str
        ``"Kafka"``, ``"Redis"``, ``"SMTP"``.
    address : str
        Where it was looked for, without credentials.
    cause : str
        What happened.
    remedy : str
        What to do about it.
    """

    def __init__(self, service: str, address: str, cause: str, *, remedy: str) -> None:
        super().__init__(f"{service} at {address}: {cause}. {remedy}")
        self.service = service
        self.address = address
        self.cause = cause
        self.remedy = remedy


class Fenced(MlmmError):  # noqa: N818 - as above
    """Another worker claimed what this one writes: its process must end without acknowledging."""


class LogChanged(MlmmError):  # noqa: N818 - as above
    """The input topic is no longer the log that the state was made from; the message says how to adopt it."""


class StateRefused(MlmmError):  # noqa: N818 - as above
    """A stored state of a layout that this version does not read, or one that is damaged."""
