"""What every section of the settings is: an immutable struct that checks and normalises itself when it is made."""

import difflib
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from mlmm.runtime.durations import parse_duration, parse_size
from mlmm.runtime.errors import Problem, SettingsError
from mlmm.runtime.settings.secret import Secret

__all__ = [
    "Number",
    "Positive",
    "Seconds",
    "Section",
    "Share",
    "Size",
    "bare",
    "closest",
    "coerce",
    "field_types",
    "kind_of",
    "section_of",
]

Seconds = Annotated[float, msgspec.Meta(ge=0, extra={"kind": "duration"})]
"""A duration: ``"10m"``, ``"250ms"`` or a number of seconds; kept as float seconds."""
Positive = Annotated[float, msgspec.Meta(gt=0, extra={"kind": "duration"})]
"""A duration longer than nothing."""
Size = Annotated[int, msgspec.Meta(ge=1, extra={"kind": "size"})]
"""Bytes: ``"64MiB"`` or a number."""
Number = Annotated[int, msgspec.Meta(ge=1)]
"""A whole number of at least 1."""
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
"""A number between 0 and 1, both excluded."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the settings. Values may be given as in the file (``"10m"``); wrong ones raise `SettingsError`."""

    def __post_init__(self) -> None:
        problems = []
        for name, hint in field_types(type(self)).items():
            if section_of(hint) is not None:
                continue
            try:
                value = coerce(hint, getattr(self, name))
            except ValueError as error:
                problems.append(Problem(name, str(error)))
            else:
                msgspec.structs.force_setattr(self, name, value)
        if not problems:
            self.normalise()
            problems.extend(Problem(name, reason) for name, reason in self.check())
        if problems:
            raise SettingsError(problems)

    def normalise(self) -> None:
        """Bring fields into their one form before they are checked."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, reason) for each rule between fields that is broken."""
        yield from ()


@cache
def field_types(section: type[Section]) -> dict[str, Any]:
    """Return field name → annotated type, in the order of the struct."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name] for name in section.__struct_fields__}


def kind_of(hint: Any) -> str:
    """Return ``"duration"``, ``"size"``, ``"durations"``, ``"secret"`` or ``""`` for a field's type."""
    if hint is Secret:
        return "secret"
    if get_origin(bare(hint)) is tuple:
        return "durations" if kind_of(get_args(bare(hint))[0]) == "duration" else ""
    for part in (hint, *_options(hint)):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra and "kind" in meta.extra:
                return str(meta.extra["kind"])
    return ""


def section_of(hint: Any) -> tuple[str, type[Section]] | None:
    """Return how a field holds sections (``"one"``, ``"list"``, ``"table"``) and their class, or None."""
    if isinstance(hint, type) and issubclass(hint, Section):
        return "one", hint
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and section_of(arguments[0]):
        return "list", arguments[0]
    if origin is dict and section_of(arguments[1]):
        return "table", arguments[1]
    for part in _options(hint):
        if section_of(part):
            return section_of(part)
    return None


def bare(hint: Any) -> Any:
    """Return ``hint`` without its annotations."""
    return hint.__origin__ if get_origin(hint) is Annotated else hint


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else ()


def coerce(hint: Any, value: Any, *, text: bool = False) -> Any:
    """Return ``value`` as the plain type ``hint`` wants it.

    Parameters
    ----------
    hint : type
        The annotated type of a field.
    value : object
        What was given.
    text : bool
        Whether it came as text (an environment variable): then numbers, booleans and lists are read from it.

    Raises
    ------
    ValueError
        Saying the value (never a secret's) and what is allowed.
    """
    kind = kind_of(hint)
    if kind == "secret":
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return Secret(value)
        raise ValueError("expected a text (the value is not shown)")
    if value is None and type(None) in _options(hint):
        return None
    try:
        if text and get_origin(bare(hint)) is tuple:
            value = _list_of(value)
        if kind == "duration":
            value = parse_duration(value)
        elif kind == "durations" and not isinstance(value, str):
            value = tuple(parse_duration(item) for item in value)
        elif kind == "size":
            value = parse_size(value)
        return msgspec.convert(value, hint, strict=not text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{_shown(value)}: {_reason(hint, value, error)}") from None


def _list_of(text: str) -> list[Any]:
    """Read a list from a variable: JSON where it begins with a bracket, else separated by commas."""
    if text.lstrip().startswith("["):
        try:
            items = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(f"expected a JSON list or values separated by commas ({error})") from None
        return list(items)
    return [item.strip() for item in text.split(",") if item.strip()]


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _reason(hint: Any, value: Any, error: Exception) -> str:
    """Say what is allowed; a literal's mistakes get the closest choice."""
    choices = [
        choice
        for part in (hint, *_options(hint), *get_args(hint))
        if get_origin(part) is Literal
        for choice in get_args(part)
    ]
    if choices:
        listed = ", ".join(f'"{choice}"' for choice in choices if choice != "")
        return f"expected one of {listed}{closest(str(value), [str(choice) for choice in choices])}"
    return str(error).replace("`", "").replace("Expected", "expected")


def closest(word: str, known: list[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` where something known is close to ``word``, else an empty text."""
    match = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean {match[0]!r}?)" if match else ""
