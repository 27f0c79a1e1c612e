"""``docs/settings.md``, made from the structs: ``python -m mlmm.runtime.settings.reference > docs/settings.md``."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import msgspec

from mlmm.runtime.settings.model import Settings
from mlmm.runtime.settings.rendering import shown
from mlmm.runtime.settings.secret import Secret
from mlmm.runtime.settings.section import Section, bare, field_types, kind_of, section_of

__all__ = ["reference"]

_INTRODUCTION = """\
# Settings

<!-- Made by `python -m mlmm.runtime.settings.reference`; a test holds it to the code. -->

A value is looked for in this order: arguments, environment, `$MLMM_CONFIG` or `./mlmm.toml`, defaults. `mlmm config
show` prints each value with its origin; secrets are masked there, in logs and in errors.

- **Environment**: `MLMM_SECTION__KEY`, such as `MLMM_KAFKA__BOOTSTRAP_SERVERS` or
  `MLMM_SERVING__DETECTORS__ADWIN_DELTA`, and `MLMM__KEY` for keys of no section. Only names with `__` are settings.
  Lists are JSON or values separated by commas; `MLMM__RULES` and `MLMM_ALERTING__KEYS` are JSON.
- **Secrets** may stand in a file: `password_file = "/run/secrets/redis"` or `MLMM_REDIS__PASSWORD_FILE`. A relative
  path in `mlmm.toml` is relative to the folder of `mlmm.toml`.
- **Durations** are texts such as `"250ms"`, `"10s"`, `"5m"`, `"1h30m"`, `"7d"`, or numbers of seconds. **Sizes** are
  texts such as `"512KiB"`, `"64MiB"`, `"1MB"`, or numbers of bytes.
- An unknown key, a wrong value and a rule that can't work are errors that name file, key, value and what is allowed,
  all at once. Exit code 2.
"""


def reference() -> str:
    """Return the page."""
    parts = [_INTRODUCTION, *_table(Settings, "", "## Keys of no section")]
    parts.extend(_sections(Settings, ""))
    return "\n".join(parts).rstrip() + "\n"


def _sections(section: type[Section], path: str) -> Iterator[str]:
    for name, hint in field_types(section).items():
        shape = section_of(hint)
        if shape is None:
            continue
        form, kind = shape
        inner = f"{path}{name}"
        header = {"one": f"[{inner}]", "list": f"[[{inner}]]", "table": f"[{inner}.NAME]"}[form]
        if inner.startswith("rules."):
            header = f"{name} (of a rule)"
        yield from _table(kind, inner, f"## `{header}`")
        yield from _sections(kind, f"{inner}.")


def _table(section: type[Section], path: str, title: str) -> Iterator[str]:
    told = _docstrings(section)
    yield f"\n{title}\n"
    if path:
        yield f"{_flat(inspect.getdoc(section) or '')}\n"
    yield "| key | default | allowed | |\n|---|---|---|---|"
    for field, (name, hint) in zip(msgspec.structs.fields(section), field_types(section).items(), strict=True):
        if section_of(hint) is None:
            default = "needed" if field.required else _default(hint, field.default)
            yield f"| `{name}` | {default} | {_allowed(hint)} | {told.get(name, '')} |"


def _default(hint: Any, value: Any) -> str:
    text = shown(hint, value)
    return f"`{text}`" if text else ""


def _allowed(hint: Any) -> str:
    """Say in a word what a value may be."""
    if hint is Secret:
        return "text, secret"
    words = {"duration": "duration", "durations": "durations", "size": "size"}
    if kind_of(hint):
        return words[kind_of(hint)]
    plain = bare(hint)
    if get_origin(plain) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(plain) if choice != "")
    if get_origin(plain) is tuple:
        inner = get_args(plain)[0]
        return "two numbers" if inner is float else f"list of {_allowed(inner)}"
    if type(None) in get_args(plain):
        return _allowed(get_args(plain)[0])
    plain_words: dict[type, str] = {str: "text", bool: "`true`, `false`", int: "whole number", float: "number"}
    word = plain_words.get(plain, "time with its zone")
    return f"{word}{_bounds(hint)}"


def _bounds(hint: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    found = [
        f"{sign} {getattr(m, name):g}" for m in metas for name, sign in signs.items() if getattr(m, name) is not None
    ]
    return "".join(f" {bound}" if index == 0 else f", {bound}" for index, bound in enumerate(found))


def _docstrings(section: type[Section]) -> dict[str, str]:
    """Return field → the text that stands below it in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(section)
    told: dict[str, str] = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            told[statement.target.id] = _flat(str(after.value.value))
    return told


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
