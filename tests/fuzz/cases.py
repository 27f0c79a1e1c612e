"""One record as someone might send it, and how it is kept as a file."""

import json
from pathlib import Path

import msgspec

__all__ = ["CORPUS", "Case", "load", "save"]

CORPUS = Path(__file__).parent / "corpus"
"""What was once found: each file is a regression test."""


class Case(msgspec.Struct, frozen=True):
    """One record of one input topic."""

    topic: str
    """Logical name."""
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]
    story: str = ""
    """What was done to it, for people."""


def save(folder: Path, name: str, cases: list[Case]) -> Path:
    """Write records that belong together, as a file that diffs."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    rows = [
        {
            "topic": case.topic,
            "key": case.key.hex(),
            "value": case.value.hex(),
            "headers": [[each, None if value is None else value.hex()] for each, value in case.headers],
            "story": case.story,
        }
        for case in cases
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return path


def load(path: Path) -> list[Case]:
    """Read what `save` wrote."""
    return [
        Case(
            row["topic"],
            bytes.fromhex(row["key"]),
            bytes.fromhex(row["value"]),
            tuple((name, None if value is None else bytes.fromhex(value)) for name, value in row["headers"]),
            row["story"],
        )
        for row in json.loads(path.read_text())
    ]
