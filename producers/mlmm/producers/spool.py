"""The spool: a folder in which emitters of all processes keep what they can't send, and inherit from those that died.

Files: ``PREFIX~OWNER~TOPIC~NUMBER.seg`` and ``PREFIX~OWNER.lock``, which its owner holds locked (``flock``) while it
lives. The kernel lets go of the lock of a process that is killed: who can have it inherits the segments.
"""

import contextlib
import fcntl
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic

from mlmm.events import new_id
from mlmm.producers.forking import unforked
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed
from mlmm.producers.segments import Segment, UnreadableSegment
from mlmm.producers.shelf import Shelf, Slip, Taken
from mlmm.runtime.settings import EmitterSettings

__all__ = ["Spool", "prepare"]

log = logging.getLogger("mlmm.producers")

_SEGMENT = 4 << 20
"""Bytes of a segment; less where ``spool_bytes`` is small: it has room for eight at least."""
_LOOK_AGAIN = 30.0
"""Seconds between looks for what other processes left."""
_TRY_AGAIN = 1.0
"""Seconds until a full or broken disk is tried again."""


def prepare(folder: Path) -> None:
    """Make the folder, for its owner alone; `OSError` where it can't be written."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(13, "it can't be read and written", str(folder))


class Spool:
    """What one emitter keeps on the disk. Used by the emitter's thread alone; touches no file before it must.

    Parameters
    ----------
    options : EmitterSettings
        The keys that begin with ``spool_``.
    prefix : str
        Of the topics: other deployments in the same folder are left alone.
    intake : Intake
        Where events are counted.
    clock : Callable[[], float]
        Monotonic seconds.
    """

    def __init__(
        self, options: EmitterSettings, prefix: str, intake: Intake, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._folder = Path(options.spool_dir)
        self._limit = options.spool_bytes
        self._segment = min(_SEGMENT, options.spool_bytes // 8)
        self._sync = options.spool_sync
        self._always = options.spool_when == "always"
        self._prefix = prefix
        self._intake = intake
        self._clock = clock
        self._owner = ""
        self._locks: dict[str, int] = {}
        self._own: dict[str, Shelf] = {}
        self._inherited: list[tuple[str, Shelf]] = []
        self._numbers = 0
        self._try_at = 0.0
        self._look_at = 0.0
        self._unsynced_since: float | None = None
        self._told: set[str] = set()

    # --- in ----------------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether it is worth trying to write."""
        return self._clock() >= self._try_at

    def caught_up(self, topic: str) -> bool:
        """Whether nothing of a topic waits here to be read back: what comes next may be sent at once."""
        shelf = self._own.get(topic)
        return shelf is None or shelf.caught_up

    def append(self, packed: Packed, turn: int, *, in_hand: bool) -> Slip | None:
        """Write a record; None where there is no room, or the disk fails. See `Shelf.append`."""
        if not self.has_room:
            return None
        shelf = self._own.get(packed.topic)
        if shelf is None:
            settled = self._intake.settle_spooled
            shelf = self._own[packed.topic] = Shelf(packed.topic, own=True, segments=deque(), settled=settled)
        try:
            slip = shelf.append(packed, turn, in_hand=in_hand, room=partial(self._make_room, packed.topic))
        except OSError as error:
            self._failed(error)
            return None
        if slip is not None:
            self._intake.shelve(packed.n, packed.size)
            if self._unsynced_since is None:
                self._unsynced_since = self._clock()
        return slip

    def _make_room(self, topic: str) -> Segment | None:
        """Make a segment where the folder has room for it: all processes count what all have taken."""
        with self._alone() as alone:
            taken = sum(self._size(entry) for entry in os.scandir(self._folder)) if alone else 0
            if not alone or taken + self._segment > self._limit:
                if alone:
                    self._tell("full", f"the spool {self._folder} is full: {taken} of at most {self._limit} bytes")
                self._try_at = self._clock() + _TRY_AGAIN
                return None
            self._own_lock()
            self._numbers += 1
            name = f"{self._prefix}~{self._owner}~{topic}~{self._numbers:08d}.seg"
            segment = Segment.create(self._folder / name, self._segment)
        self._told.clear()
        with contextlib.suppress(OSError):  # some file systems sync no folders
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return segment

    @staticmethod
    def _size(entry: os.DirEntry[str]) -> int:
        try:
            return entry.stat().st_size if entry.name.endswith(".seg") else 0
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the folder's lock; say False where another process has it, frozen perhaps: nobody waits for it."""
        fd = os.open(self._folder / "spool.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _locked(fd)
        finally:
            _unlock(fd)

    def _own_lock(self) -> None:
        while not self._owner:
            owner = new_id()
            if self._lock(owner):
                self._owner = owner

    def _lock(self, owner: str) -> bool:
        """Lock an owner's file, made where it is absent; False where its process lives."""
        path = self._lock_of(owner)
        with unforked():  # a child lets go of the locks that are written down
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            with contextlib.suppress(FileNotFoundError):
                # Who had it before us may have deleted it in between: then it is no lock any more.
                if _locked(fd) and os.fstat(fd).st_ino == path.stat().st_ino:
                    self._locks[owner] = fd
                    return True
            os.close(fd)
            return False

    def _lock_of(self, owner: str) -> Path:
        return self._folder / f"{self._prefix}~{owner}.lock"

    # --- out ---------------------------------------------------------------------------------------------------------

    @property
    def turn(self) -> int | None:
        """Turn of our oldest record that was not read back; None when all were."""
        return min((turn for shelf in self._own.values() if (turn := self._turn(shelf)) is not None), default=None)

    def _turn(self, shelf: Shelf) -> int | None:
        try:
            return shelf.turn
        except OSError as error:
            self._failed(error)
            return 0

    def take(self, wanted: Callable[[str], bool]) -> Taken | None:
        """Return the next record of a topic that is ``wanted``: ours, and in turn with them those that we inherited."""
        for shelf in (*self._own.values(), *(shelf for _, shelf in self._inherited)):
            if not wanted(shelf.topic):
                continue
            try:
                taken = shelf.take()
            except OSError as error:
                self._failed(error)
                continue
            self._count_damage(shelf)
            if taken is not None:
                return taken
        return None

    def _count_damage(self, shelf: Shelf) -> None:
        if shelf.damaged:
            self._intake.damaged += shelf.damaged
            self._intake.last_error = f"{shelf.damaged} damaged places in the spool {self._folder}"
            log.error("%d damaged places in what the spool %s holds of %r", shelf.damaged, self._folder, shelf.topic)
            shelf.damaged = 0

    # --- by and by ---------------------------------------------------------------------------------------------------

    def tend(self) -> float:
        """Sync, look for what others left, delete what is done with; return seconds until it is to be called again."""
        now = self._clock()
        if self._unsynced_since is not None and now >= self._unsynced_since + self._sync:
            self._unsynced_since = None
            for shelf in self._own.values():
                self._try(shelf.sync)
        if now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN
            self._try(self._inherit)
        for shelf in self._own.values():
            if shelf.empty and not self._always:
                self._try(partial(shelf.sweep, all_=True))
        for owner, shelf in tuple(self._inherited):
            if shelf.empty:
                self._try(shelf.sweep)
                self._inherited.remove((owner, shelf))
        for owner in [owner for owner in self._locks if owner != self._owner]:
            if all(owner != of for of, _ in self._inherited):
                self._let_go(owner, delete=True)
        due = [self._look_at]
        if self._unsynced_since is not None:
            due.append(self._unsynced_since + self._sync)
        return max(0.0, min(due) - now)

    def _inherit(self) -> None:
        """Take over what processes left that are no more."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self._folder.iterdir()):
            prefix, _, rest = path.name.partition("~")
            if prefix == self._prefix and path.suffix in (".seg", ".lock"):
                found.setdefault(rest.split("~")[0].removesuffix(".lock"), []).append(path)
        for owner, paths in found.items():
            if owner in self._locks or not self._lock(owner):
                continue
            for topic, segments in self._opened([path for path in paths if path.suffix == ".seg"]).items():
                shelf = Shelf(topic, own=False, segments=segments, settled=self._intake.settle_inherited)
                self._inherited.append((owner, shelf))
                log.warning("%d segments of %r that a process left in %s are sent", len(segments), topic, self._folder)

    def _opened(self, paths: list[Path]) -> dict[str, deque[Segment]]:
        opened: dict[str, deque[Segment]] = {}
        for path in paths:
            try:
                segment = Segment.open(path)
            except FileNotFoundError:
                continue  # its owner was done with it
            except UnreadableSegment as error:
                self._tell(str(path), str(error))
                continue
            opened.setdefault(path.name.split("~")[2], deque()).append(segment)
        return opened

    def _let_go(self, owner: str, *, delete: bool) -> None:
        fd = self._locks.pop(owner)
        if delete:
            with contextlib.suppress(OSError):
                self._lock_of(owner).unlink(missing_ok=True)
        _unlock(fd)

    def _try(self, what: Callable[[], None]) -> None:
        try:
            what()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._try_at = self._clock() + _TRY_AGAIN
        self._tell(type(error).__name__, f"the spool {self._folder} fails: {error}")

    def _tell(self, what: str, message: str) -> None:
        self._intake.last_error = message
        if what not in self._told:
            self._told.add(what)
            log.warning("%s", message)

    def close(self) -> None:
        """Leave what is not acknowledged to whoever comes next."""
        for shelf in (*self._own.values(), *(shelf for _, shelf in self._inherited)):
            self._try(partial(shelf.sweep, all_=True))
            self._try(shelf.close)
        self._own.clear()
        self._inherited.clear()
        for owner in tuple(self._locks):
            left = next(self._folder.glob(f"{self._prefix}~{owner}~*.seg"), None)
            self._let_go(owner, delete=left is None)
        self._owner = ""

    def forget(self) -> None:
        """Close the files and nothing else: this is a forked child, and they are the parent's, its locks too."""
        for shelf in (*self._own.values(), *(shelf for _, shelf in self._inherited)):
            shelf.forget()
        for fd in self._locks.values():
            os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing keeps the lock where a child was forked meanwhile: it has a copy
    finally:
        os.close(fd)
