"""What every benchmark prints: a table for people, or with ``--json`` one object a line and a figure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure, and what was measured beside it in the same run."""

    figure: str
    value: float
    unit: str
    beside: str = ""
    ratio: float | None = None


def show(title: str, figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        for figure in figures:
            print(json.dumps(asdict(figure)))
        return
    width = max(len(f.figure) for f in figures)
    print(f"\n{title}")
    for f in figures:
        ratio = f"{f.ratio:10.2f} × {f.beside}" if f.ratio is not None else ""
        print(f"  {f.figure:<{width}}  {f.value:>14,.2f} {f.unit:<10} {ratio}")
