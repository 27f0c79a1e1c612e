"""How the command line speaks: results to standard output, everything else to standard error.

With ``--json`` a result is one JSON object a line and nothing else goes to standard output. Text may come from an
event, so it is never read as markup, and what a terminal would obey is not passed on to it.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["STYLES", "err", "out", "plain", "print_json", "print_line", "print_table", "say", "write_json"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

STYLES = {
    "fine": "green",
    "created": "green",
    "wrong": "bold red",
    "problem": "bold red",
    "unreachable": "bold red",
    "missing": "bold red",
    "differs": "yellow",
    "unknown": "yellow",
}


def plain(text: str) -> str:
    r"""Return text without what a terminal obeys: controls, escapes and changes of direction become U+FFFD.

    >>> plain("red \x1b[31mhot")
    'red �[31mhot'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_json(rows: Iterable[Any]) -> None:
    """Print one JSON object a line."""
    for row in rows:
        write_json(json.dumps(row, ensure_ascii=False, default=str))
    sys.stdout.flush()


def write_json(line: str) -> None:
    """Write a line of JSON; characters that a terminal obeys stay escaped, which JSON allows anywhere in a string."""
    if not line.isprintable():
        line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
    sys.stdout.write(f"{line}\n")


def print_line(text: str, style: str = "") -> None:
    """Print a line of text."""
    out.print(Text(plain(text), style=style))


def print_table(title: str, columns: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(str(cell)), style=STYLES.get(str(cell), "")) for cell in row))
    out.print(table, soft_wrap=False)


def say(message: str, fields: Mapping[str, object] | None = None) -> None:
    """Tell a person something on standard error."""
    text = Text(plain(message))
    for name, value in (fields or {}).items():
        text.append(plain(f"  {name}={value}"), style="dim")
    err.print(text)
