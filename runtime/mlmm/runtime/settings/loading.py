"""From layers of values to one checked `Settings` object."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlmm.runtime.errors import Problem, SettingsError
from mlmm.runtime.settings.layers import Leaf, Tree, from_arguments, from_environment, from_file, merge, wrap
from mlmm.runtime.settings.model import Settings
from mlmm.runtime.settings.secret import Secret
from mlmm.runtime.settings.section import Section, closest, coerce, field_types, section_of

__all__ = ["load", "override"]

S = TypeVar("S", bound=Section)


def load(
    config: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    sections: Collection[str] | None = None,
) -> Settings:
    """Read the settings: ``arguments``, then the environment, then the file, then defaults.

    Parameters
    ----------
    config : Path, optional
        The file. By default ``$MLMM_CONFIG``, else ``./mlmm.toml`` where there is one.
    env : mapping, optional
        The environment; by default the process's own. ``MLMM_SECTION__KEY`` sets a value; lists are JSON or separated
        by commas.
    arguments : mapping, optional
        Values by section or dotted key; what is None counts as not given.
    sections : collection of str, optional
        The sections that are wanted: others keep their defaults, unread, so that a serving process does not fail for
        a rule.

    Raises
    ------
    SettingsError
        Naming each wrong key with its file or variable, its value (never a secret) and what is allowed.
    """
    env = os.environ if env is None else env
    tree: Tree = {}
    path = _config_path(config, env)
    if path is not None:
        tree = from_file(path)
    tree = merge(tree, from_environment(env, tree))
    tree = merge(tree, from_arguments({k: v for k, v in (arguments or {}).items() if v is not None}))
    if sections is not None:
        unwanted = {name for name, hint in field_types(Settings).items() if section_of(hint)} - set(sections)
        tree = {name: value for name, value in tree.items() if name not in unwanted}
    return _finish(tree)


def override(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return ``settings`` with other values at dotted keys, such as those of `EmbeddedKafka.overrides`."""
    builder = _Builder()
    changes = builder.changes(settings, from_arguments(values), "")
    if builder.problems:
        raise SettingsError(builder.problems)
    changed = _checked(Settings, {**_values(settings), **changes}, "", builder)
    if changed is None:
        raise SettingsError(builder.problems)
    changed.__dict__["origins"] = {**settings.__dict__.get("origins", {}), **builder.origins}
    return changed


def _config_path(config: Path | str | None, env: Mapping[str, str]) -> Path | None:
    chosen = config or env.get("MLMM_CONFIG")
    if chosen:
        return Path(chosen)
    return path if (path := Path("mlmm.toml")).exists() else None


def _finish(tree: Tree) -> Settings:
    builder = _Builder()
    settings = builder.section(Settings, tree, "")
    if settings is None or builder.problems:
        raise SettingsError(builder.problems)
    settings.__dict__["origins"] = builder.origins
    return settings


def _values(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.__struct_fields__}


class _Builder:
    """Builds sections from trees, and gathers every problem on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[str, str] = {}

    def section(self, kind: type[S], tree: "Leaf | Tree", path: str) -> S | None:
        """Return a section made from a table; None when there were problems."""
        if isinstance(tree, Leaf):
            if isinstance(tree.value, kind):
                self.origins[path] = tree.origin
                return tree.value
            self.problems.append(Problem(path, "expected a table of keys", tree.origin))
            return None
        before = len(self.problems)
        values = self.values(kind, tree, path)
        for name, field in zip(kind.__struct_fields__, msgspec.structs.fields(kind), strict=True):
            if field.required and name not in values and not self._told(_join(path, name), before):
                self.problems.append(Problem(_join(path, name), "is needed", self._where(path, tree)))
        return None if len(self.problems) > before else _checked(kind, values, path, self)

    def changes(self, base: Section, tree: Tree, path: str) -> dict[str, Any]:
        """Return the fields of ``base`` that ``tree`` changes; a section inside is ``base``'s own, changed."""
        values: dict[str, Any] = {}
        for name, value in tree.items():
            inner = getattr(base, name, None)
            if isinstance(inner, Section) and isinstance(value, dict):
                inside = self.changes(inner, value, _join(path, name))
                made = (
                    None
                    if self.problems
                    else _checked(type(inner), {**_values(inner), **inside}, _join(path, name), self)
                )
                values[name] = made
            else:
                values.update(self.values(type(base), {name: value}, path))
        return values

    def values(self, kind: type[Section], tree: Tree, path: str) -> dict[str, Any]:
        """Return field values from a table, unknown names and wrong values noted as problems."""
        hints = field_types(kind)
        values: dict[str, Any] = {}
        for given, value in tree.items():
            name, where = given, _join(path, given)
            if given not in hints and hints.get(given.removesuffix("_file")) is Secret:
                name = given.removesuffix("_file")
                if name in tree:
                    self.problems.append(Problem(where, f"expected only one of {name} and {given}", _origin(value)))
                    continue
                content = self._read_secret(value, where)
                if content is None:
                    continue
                value = content  # noqa: PLW2901 - the file's content takes the path's place
            if name not in hints:
                known = [*hints, *(f"{key}_file" for key, hint in hints.items() if hint is Secret)]
                reason = f"there is no such key{closest(given, known)}; known here: {', '.join(known)}"
                self.problems.append(Problem(where, reason, _origin(value)))
                continue
            made = self._field(hints[name], value, _join(path, name))
            if made is not None:
                values[name] = made
        return values

    def _field(self, hint: Any, value: "Leaf | Tree", path: str) -> Any:
        shape = section_of(hint)
        if shape is None:
            return self._plain(hint, value, path)
        form, kind = shape
        if form == "one":
            return self.section(kind, value, path)
        if form == "table":
            if isinstance(value, Leaf):
                value = wrap(value.value, value.origin) if isinstance(value.value, Mapping) else value
            if isinstance(value, Leaf):
                self.problems.append(Problem(path, "expected a table of tables", value.origin))
                return None
            made = {name: self.section(kind, inner, f"{path}.{name}") for name, inner in value.items()}
            return None if None in made.values() else made
        return self._list(kind, value, path)

    def _plain(self, hint: Any, value: "Leaf | Tree", path: str) -> Any:
        if not isinstance(value, Leaf):
            self.problems.append(Problem(path, "expected a value, not a table", _origin(value)))
            return None
        self.origins[path] = value.origin
        try:
            return coerce(hint, value.value, text=value.text)
        except ValueError as error:
            self.problems.append(Problem(path, str(error), value.origin))
            return None

    def _list(self, kind: type[Section], value: "Leaf | Tree", path: str) -> tuple[Section, ...] | None:
        items: Any = None
        if isinstance(value, Leaf):
            items = _decoded(value.value) if value.text else value.value
        if not isinstance(items, list | tuple) or not isinstance(value, Leaf):
            self.problems.append(Problem(path, "expected a list of tables", _origin(value)))
            return None
        self.origins[path] = value.origin
        made = [
            self.section(
                kind,
                wrap(item, value.origin, value.folder) if isinstance(item, Mapping) else value._replace(value=item),
                f"{path}[{index}]",
            )
            for index, item in enumerate(items)
        ]
        return None if None in made else tuple(item for item in made if item is not None)

    def _read_secret(self, value: "Leaf | Tree", path: str) -> Leaf | None:
        """Return a secret that stands in a file, without the newline at its end."""
        if not isinstance(value, Leaf) or not isinstance(value.value, str | Path):
            self.problems.append(Problem(path, "expected the path of a file", _origin(value)))
            return None
        file = value.folder / value.value
        try:
            content = file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self.problems.append(Problem(path, f"{str(file)!r} can't be read: {reason}", value.origin))
            return None
        return Leaf(content, f"{file} ({value.origin})")

    def _told(self, path: str, since: int) -> bool:
        return any(problem.key.removesuffix("_file") == path for problem in self.problems[since:])

    def _where(self, path: str, tree: Tree) -> str:
        return _origin(tree) or self.origins.get(path, "")


def _checked(kind: type[S], values: dict[str, Any], path: str, builder: _Builder) -> S | None:
    """Make the section; what breaks its own rules is noted with path and origin."""
    try:
        return kind(**values)
    except SettingsError as error:
        for key, reason, _ in error.problems:
            place = _join(path, key)
            where = builder.origins.get(place) or next(
                (
                    origin
                    for known, origin in builder.origins.items()
                    if known.startswith(f"{path}." if path else place)
                ),
                "",
            )
            builder.problems.append(Problem(place, reason, where))
        return None


def _decoded(text: str) -> Any:
    """Read JSON; None where it is none. Nothing of it is shown: there may be secrets in it."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _origin(value: "Leaf | Tree") -> str:
    """Return where a value, or the first one in a table, came from."""
    if isinstance(value, Leaf):
        return value.origin
    return next((origin for inner in value.values() if (origin := _origin(inner))), "")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
