"""Where values come from: arguments, environment, file; each value remembers its origin."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlmm.runtime.errors import Problem, SettingsError

__all__ = ["Leaf", "Tree", "from_arguments", "from_environment", "from_file", "merge", "wrap"]

ENVIRONMENT_PREFIX = "MLMM_"


class Leaf(NamedTuple):
    """A value and where it came from."""

    value: Any
    origin: str
    text: bool = False
    """Whether it is text of an environment variable, from which numbers and lists are read."""
    folder: Path = Path()
    """What relative paths of secret files are relative to."""


Tree = dict[str, "Leaf | Tree"]


def wrap(values: Mapping[str, Any], origin: str, folder: Path = Path()) -> Tree:
    """Give every value of nested tables its origin."""
    return {
        name: wrap(value, origin, folder) if isinstance(value, Mapping) else Leaf(value, origin, folder=folder)
        for name, value in values.items()
    }


def from_file(path: Path) -> Tree:
    """Read a TOML file; `SettingsError` where it is absent or no TOML."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([Problem("", f"can't be read: {error.strerror or error}", str(path))]) from error
    except ValueError as error:  # both UnicodeDecodeError and TOMLDecodeError; the cause may carry the whole text
        raise SettingsError([Problem("", f"is no valid TOML: {_without_text(error)}", str(path))]) from None
    return wrap(values, str(path), path.parent)


def _without_text(error: ValueError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def from_environment(env: Mapping[str, str], tables: Mapping[str, Any]) -> Tree:
    """Read ``MLMM_SECTION__KEY``; names without ``__`` are not settings. ``MLMM__KEY`` sets a key of the first level.

    ``tables`` is what the file says: names of people's own (notifiers) keep the case that they have there.
    """
    tree: Tree = {}
    for variable in sorted(env):
        if not variable.startswith(ENVIRONMENT_PREFIX) or "__" not in variable:
            continue
        words = variable.removeprefix(ENVIRONMENT_PREFIX).removeprefix("_").lower().split("__")
        place, known = tree, tables
        for word in words[:-1]:
            name = next((name for name in known if name.lower() == word), word)
            inner = place.setdefault(name, {})
            if isinstance(inner, Leaf):
                raise SettingsError([Problem(name, f"{variable} and {inner.origin} contradict one another")])
            below = known.get(name)
            place, known = inner, below if isinstance(below, dict) else {}
        place[words[-1]] = Leaf(env[variable], variable, text=True)
    return tree


def from_arguments(arguments: Mapping[str, Any]) -> Tree:
    """Read nested mappings and dotted keys: ``{"kafka.partitions": 6}`` is ``{"kafka": {"partitions": 6}}``."""
    tree: Tree = {}
    for path, value in _paths(arguments):
        place = tree
        for word in path[:-1]:
            inner = place.setdefault(word, {})
            place = inner if isinstance(inner, dict) else {}
        place[path[-1]] = Leaf(value, "argument")
    return tree


def _paths(values: Mapping[str, Any]) -> Iterator[tuple[list[str], Any]]:
    for name, value in values.items():
        words = name.split(".")
        if isinstance(value, Mapping):
            for path, leaf in _paths(value):
                yield words + path, leaf
        else:
            yield words, value


def merge(lower: Tree, higher: Tree) -> Tree:
    """Lay ``higher`` over ``lower``: tables are united, values replaced, a secret by its ``_file`` too and back."""
    merged = dict(lower)
    for name, value in higher.items():
        below = merged.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[name] = merge(below, value)
            continue
        twin = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
        if twin not in higher:
            merged.pop(twin, None)
        merged[name] = value
    return merged
