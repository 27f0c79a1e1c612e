"""Checkpoints on disk: whole or not there at all, and the damaged ones recognised.

``<dir>/<run id>/step-000000000500/`` holds what the user's ``save`` wrote, and ``manifest.json`` with size and SHA-256
of each file. It is written to a hidden folder, synced, then renamed: a crash at any instant leaves the checkpoint
before it. A step that is saved again gets the name ``step-000000000500.2``, then ``.3``: what stood there goes only
when its successor is safe. The file ``obeyed`` holds the ids of the orders at which the run's attempts stopped.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from mlmm.events import new_id
from mlmm.events.errors import MlmmError

__all__ = ["Checkpoints", "DamagedCheckpoint", "Saved"]

log = logging.getLogger("mlmm.producers")

_NAME = re.compile(r"step-(\d{12,19})(?:\.(\d{1,9}))?")
_MANIFEST = "manifest.json"
_OBEYED = "obeyed"
_OBEYED_MOST = 1000
_BLOCK = 1 << 20


class DamagedCheckpoint(MlmmError):  # noqa: N818 - named like the others of the tree
    """A checkpoint whose files are not those that were saved."""


class _File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    run_id: str
    attempt: str
    step: int
    files: dict[str, _File]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that is on disk, whole."""

    step: int
    path: Path
    size: int
    """Bytes of its files."""
    sha256: str
    """Digest of the manifest, and so of all files."""

    @property
    def uri(self) -> str:
        """The path, as others on this host or share find it."""
        return self.path.absolute().as_uri()


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : Path
        Where runs have their folders; made when needed.
    run_id, attempt : str
        Written into the manifest.
    keep : int
        Checkpoints that stay; older ones are removed after a newer one is safe.
    """

    def __init__(self, folder: Path, *, run_id: str, attempt: str, keep: int = 3) -> None:
        self.folder = folder / _folder_name(run_id)
        self._run_id = run_id
        self._attempt = attempt
        self._keep = keep

    def save(self, step: int, write: Callable[[Path], None]) -> Saved:
        """Let ``write`` fill an empty folder, and make it the checkpoint of ``step``.

        Raises
        ------
        OSError
            When the disk does not take it. What ``write`` raises goes through; nothing is left behind.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        staging = self.folder / f".writing-{new_id()}"
        staging.mkdir()
        try:
            write(staging)
            manifest = _Manifest(run_id=self._run_id, attempt=self._attempt, step=step, files=_seal(staging))
            encoded = msgspec.json.encode(manifest)
            (staging / _MANIFEST).write_bytes(encoded)
            _sync(staging / _MANIFEST)
            _sync(staging)
            path = self._place(staging, step)
            _sync(self.folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._prune(step, path)
        size = sum(file.size for file in manifest.files.values())
        return Saved(step=step, path=path, size=size, sha256=hashlib.sha256(encoded).hexdigest())

    def _place(self, staging: Path, step: int) -> Path:
        """Give a finished folder its name: the first that no checkpoint of the step has had yet."""
        last = max((number for found, number, _ in self._found() if found == step), default=0)
        while True:
            last += 1
            path = self.folder / (f"step-{step:012d}" if last == 1 else f"step-{step:012d}.{last}")
            try:
                staging.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process had the same thought
                    raise
            else:
                return path

    def good(self) -> Iterator[Saved]:
        """Yield the checkpoints that are whole, newest first; a damaged one is logged and passed over."""
        for step, _, path in self._found():
            try:
                yield _verify(step, path)
            except DamagedCheckpoint as error:
                log.error("%s: going back to the one before", error)  # noqa: TRY400 - the reason says all

    def remember(self, command_id: str) -> None:
        """Write down that an order was obeyed, for the attempts that follow; `OSError` when the disk does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _OBEYED
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(command_id) + "\n")
        _sync(path)

    def obeyed(self) -> frozenset[str]:
        """Return the orders that earlier attempts obeyed, the last thousand; a line that was cut is none."""
        try:
            lines = (self.folder / _OBEYED).read_bytes().splitlines()
        except OSError:
            return frozenset()
        found = set()
        for line in lines[-_OBEYED_MOST:]:
            with contextlib.suppress(ValueError):
                found.add(str(json.loads(line)))
        return frozenset(found)

    def _found(self) -> list[tuple[int, int, Path]]:
        """Steps, how often each had been saved, and where; newest first."""
        if not self.folder.is_dir():
            return []
        named = [(_NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return sorted(((int(match[1]), int(match[2] or 1), path) for match, path in named if match), reverse=True)

    def _prune(self, step: int, saved: Path) -> None:
        found = self._found()
        replaced = [path for of, _, path in found if of == step and path != saved]
        others = [path for of, _, path in found if of != step or path == saved]
        # Later steps may be damaged, or of an attempt that this one does not go on from: what was just saved stays.
        for path in (*replaced, *(each for each in others[self._keep :] if each != saved)):
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what earlier attempts left half written."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith(".writing-"):
                    shutil.rmtree(path, ignore_errors=True)


def _folder_name(run_id: str) -> str:
    """Return a file name for any run id; equal ids, and only these, have equal names."""
    name = quote(run_id, safe=" @+=,")
    return name if name.strip(".") else name.replace(".", "%2E")


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / _MANIFEST)


def _seal(folder: Path) -> dict[str, _File]:
    """Sync all files and folders to disk; return what they are."""
    files = {}
    for path in _files(folder):
        _sync(path)
        files[path.relative_to(folder).as_posix()] = _digest(path)
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync(path)
    return files


def _digest(path: Path) -> _File:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return _File(size, digest.hexdigest())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify(step: int, path: Path) -> Saved:
    try:
        encoded = (path / _MANIFEST).read_bytes()
        manifest = msgspec.json.decode(encoded, type=_Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise DamagedCheckpoint(f"checkpoint {path}: its manifest can't be read ({error})") from error
    for name, expected in manifest.files.items():
        try:
            found = _digest(path / name)
        except OSError as error:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} can't be read ({error})") from error
        if found != expected:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} is not the file that was saved")
    size = sum(file.size for file in manifest.files.values())
    return Saved(step=step, path=path, size=size, sha256=hashlib.sha256(encoded).hexdigest())
