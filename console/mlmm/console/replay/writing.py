"""What a replay leaves behind: three files of JSON lines, all or none."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from mlmm.console.replay.engine import Made, Replay
from mlmm.console.replay.errors import WrongInput

__all__ = ["FILES", "check_folder", "write"]

FILES: Final = ("findings.jsonl", "incidents.jsonl", "commands.jsonl")

_encoder = msgspec.json.Encoder()


class _Written(msgspec.Struct, kw_only=True):
    topic: str
    key: str
    partition: int
    log_time: int
    type: str
    id: str
    data: msgspec.Raw


def check_folder(out: Path, *, force: bool) -> None:
    """Refuse a folder that holds something, unless ``force``."""
    if out.exists() and not out.is_dir():
        raise WrongInput(f"--out {out}: is a file, a folder is expected")
    if not force and out.is_dir() and any(out.iterdir()):
        raise WrongInput(f"--out {out}: the folder is not empty; --force writes into it all the same")


def write(replay: Replay, out: Path, *, force: bool) -> None:
    """Write the files of a replay.

    They are made beside ``out`` and take its place when all of them are whole. With ``force`` they replace older ones
    one by one, and other files stay.
    """
    check_folder(out, force=force)
    try:
        with _beside(out) as made:
            contents = (replay.findings, replay.incidents, replay.commands)
            for name, entries in zip(FILES, contents, strict=True):
                _write(made / name, entries)
            if out.is_dir() and any(out.iterdir()):
                for name in FILES:
                    (made / name).replace(out / name)
            else:
                made.replace(out)  # an empty folder may be replaced by another
    except OSError as error:
        raise WrongInput(f"--out {out}: {error.strerror or error}") from error


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    made = parent / f".{out.name}-{secrets.token_hex(8)}"
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(path: Path, entries: Iterable[Made]) -> None:
    with path.open("wb") as file:
        for made in entries:
            output = made.output
            line = _Written(
                topic=output.topic,
                key=output.key.decode("utf-8", "replace"),
                partition=made.partition,
                log_time=output.time,
                type=output.type,
                id=output.id,
                data=msgspec.Raw(output.value),
            )
            file.write(_encoder.encode(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())
