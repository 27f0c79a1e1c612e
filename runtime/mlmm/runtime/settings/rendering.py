"""Settings as people read them: each value with its origin, secrets masked."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mlmm.runtime.durations import format_duration, format_size
from mlmm.runtime.settings.secret import Secret
from mlmm.runtime.settings.section import Section, field_types, kind_of, section_of

if TYPE_CHECKING:
    from mlmm.runtime.settings.model import Settings

__all__ = ["rows", "shown"]


def rows(settings: "Settings") -> list[tuple[str, str, str]]:
    """Return (dotted key, value, origin) of every setting; of rules and other lists what was given only."""
    return [(path, text, settings.origin(path)) for path, text in _rows(settings, "", given_only=False)]


def _rows(section: Section, prefix: str, *, given_only: bool) -> Iterator[tuple[str, str]]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(section)} if given_only else {}
    for name, hint in field_types(type(section)).items():
        value, path = getattr(section, name), f"{prefix}{name}"
        shape = section_of(hint)
        if given_only and name in defaults and value == defaults[name]:
            continue
        if shape is None:
            yield path, shown(hint, value)
        elif isinstance(value, Section):
            yield from _rows(value, f"{path}.", given_only=given_only)
        elif isinstance(value, dict):
            for key, inner in value.items():
                yield from _rows(inner, f"{path}.{key}.", given_only=True)
        else:
            for index, inner in enumerate(value or ()):
                yield from _rows(inner, f"{path}[{index}].", given_only=True)


def shown(hint: Any, value: Any) -> str:
    """Return one value as it would stand in ``mlmm.toml``, a secret masked."""
    kind = kind_of(hint)
    if value is None:
        return ""
    if isinstance(value, Secret):
        return str(value)
    if kind == "duration":
        return format_duration(value)
    if kind == "size":
        return format_size(value)
    if kind == "durations":
        return ", ".join(format_duration(item) for item in value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
