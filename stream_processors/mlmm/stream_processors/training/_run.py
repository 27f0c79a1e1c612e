"""One run, and its two cells.

======  ============================================================================================================
``i``   what is known of the run: a version byte and msgpack of `Info` as an array
``s``   the figures of the current attempt: a version byte and the words of `_layout`; gone when the attempt ended
======  ============================================================================================================

A cell's name is its letter and the run's record key.
"""

from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlmm.events.columns import MetricsHead
from mlmm.events.types import Trigger
from mlmm.stream_processors.training import _layout as at
from mlmm.stream_processors.training._words import Words
from mlmm.stream_processors.training.triggers import label_of, minds, watch_words

__all__ = ["FIGURES", "INFO", "Info", "Places", "Run", "Status", "decode_info", "encode_info"]

INFO: Final = b"i"
FIGURES: Final = b"s"
_VERSION: Final = bytes((at.LAYOUT,))
_CACHED_HEADS: Final = 32
_CACHED_CHARACTERS: Final = 16_384
"""Of the names in them: there may be ten thousand runs."""

Status = Literal["running", "completed", "stopped", "interrupted", "failed", "lost"]


class Info(msgspec.Struct, array_like=True, kw_only=True):
    """What is known of a run besides its figures. New fields go to the end, with defaults."""

    attempt: str
    experiment: str = ""
    model: str | None = None
    status: Status = "running"
    declared: bool = False
    """Whether this attempt's ``run.started`` was seen; else its first other event made it known."""
    started: int | None = None
    patience: int = 0
    """Microseconds of silence after which the run is lost."""
    triggers: tuple[Trigger, ...] = ()
    metrics: list[tuple[str, str]] = []
    """(phase, name) of each series, in the order of the segment's."""
    closed: int = 0
    """Log time at which it ended or was lost; 0 while it runs."""
    error: str = ""
    resumable_from: int | None = None
    checkpoint: str | None = None
    last_step: int | None = None
    """Of an attempt that ended."""
    commands: dict[str, str] = {}
    """Command id → last state, or ``void`` where a newer attempt closed it."""
    earlier: list[str] = []
    """Attempts that were current before, oldest first."""
    ignored: int = 0
    """Events of other attempts, and events after the end."""
    unkept: int = 0
    """Values of metrics beyond the bound."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Info)


def encode_info(info: Info) -> bytes:
    """Value of the cell ``i``."""
    return _VERSION + _encoder.encode(info)


def decode_info(cell: bytes, value: bytes) -> Info:
    """Read the cell ``i``; ``ValueError`` naming it where it is of another version or damaged."""
    _refuse_other_versions(cell, value)
    try:
        cell.decode()
        return _decoder.decode(value[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"training state, cell {cell!r}: {error}") from error


def _refuse_other_versions(cell: bytes, value: bytes) -> None:
    if value[:1] != _VERSION:
        raise ValueError(f"training state, cell {cell!r}: layout {value[:1]!r} is not known, expected {_VERSION!r}")


class Places(NamedTuple):
    """Where the metrics of one head go."""

    series: bytes
    """``int64[M]``: the first word of each one's series, relative to the run's segment; -1 where it is not kept."""
    unkept: int
    """How many are not kept."""


class Run:
    """One run in memory. Its figures lie in the partition's `Words`."""

    __slots__ = (
        "_by_head",
        "_characters",
        "_offsets",
        "base",
        "capacity",
        "deadline",
        "flush",
        "heard",
        "info",
        "info_changed",
        "key",
        "offsets",
        "run_id",
        "touched",
        "words",
    )

    def __init__(self, key: bytes, info: Info) -> None:
        self.key = key
        self.run_id = key.decode()
        self.info = info
        self.info_changed = True
        self.deadline = 0
        """Log time at which it is lost or, when it is closed, forgotten."""
        self.heard = 0
        self.flush = -1
        """Number of the flush that its waiting blocks belong to."""
        self.touched = False
        """Whether the figures were touched since they were last put into their cell."""
        self.base = self.capacity = -1
        self.words = 0
        """Words in use; 0 where it has no segment."""
        self.offsets: list[int] = []
        """First word of each series, relative to the base."""
        self._offsets: dict[tuple[str, str], int] = {}
        self._by_head: dict[MetricsHead, Places] = {}
        self._characters = 0

    # --- the segment -------------------------------------------------------------------------------------------------

    def open(self, words: Words) -> None:
        """Begin a fresh segment, without series."""
        self.drop(words)
        self.words = at.SEGMENT
        self.base, self.capacity = words.take(self.words)
        words.i[self.base + at.STEP] = words.i[self.base + at.BEAT_STEP] = at.NO_STEP
        self.touched = True

    def drop(self, words: Words) -> None:
        """Give the segment back, and forget the metrics."""
        if self.words:
            words.give(self.base, self.capacity)
        self.base = self.capacity = -1
        self.words = 0
        self.offsets = []
        self._offsets = {}
        self._by_head = {}
        self.info.metrics = []
        self.info_changed = self.touched = True

    def room(self, words: int) -> bool:
        """Whether the segment can take that many more words where it lies."""
        return self.words + words <= self.capacity

    def known(self, head: MetricsHead) -> Places | None:
        """Where the series of a head's metrics are, if it was resolved before."""
        return self._by_head.get(head)

    def missing(self, head: MetricsHead, limit: int) -> list[tuple[str, str]]:
        """Metrics of ``head`` that need a series and, by ``limit``, may have one."""
        phase = head.phase
        new = list(dict.fromkeys((phase, name) for name in head.names if (phase, name) not in self._offsets))
        return new[: max(0, limit - len(self.offsets))]

    def watches(self, metric: tuple[str, str]) -> list[bytes]:
        """What the run's triggers want to watch of a metric."""
        triggers = self.info.triggers
        return [watch_words(trigger, place) for place, trigger in enumerate(triggers) if minds(trigger, *metric)]

    def add(self, words: Words, metric: tuple[str, str]) -> None:
        """Append an empty series; the segment moves when it must."""
        watches = b"".join(self.watches(metric))
        length = at.SERIES_HEAD + len(watches) // 8
        if not self.room(length):
            self.base, self.capacity = words.grow(self.base, self.capacity, self.words + length)
        offset = self.words
        first = self.base + offset
        words.i[first + at.WATCHES] = len(watches) // (8 * at.WATCH)
        words.i[first + at.HIST_SIZE] = 1
        words.fill(first + at.SERIES_HEAD, watches)
        words.i[self.base + at.SERIES] += 1
        self.words += length
        self._index(metric, offset)
        self.info.metrics = [*self.info.metrics, metric]
        self.info_changed = True

    def _index(self, metric: tuple[str, str], offset: int) -> None:
        self.offsets.append(offset)
        self._offsets[metric] = offset
        self._by_head.clear()

    def resolve(self, head: MetricsHead) -> Places:
        """Find the series of a head's metrics and keep the answer."""
        offsets = [self._offsets.get((head.phase, name), -1) for name in head.names]
        series = b"".join(offset.to_bytes(8, "little", signed=True) for offset in offsets)
        places = Places(series, offsets.count(-1))
        characters = sum(map(len, head.names))
        if len(self._by_head) >= _CACHED_HEADS or self._characters + characters > _CACHED_CHARACTERS:
            self._by_head.clear()
            self._characters = 0
        if characters <= _CACHED_CHARACTERS:
            self._characters += characters
            self._by_head[head] = places
        return places

    # --- cells -------------------------------------------------------------------------------------------------------

    def figures_cell(self, words: Words) -> bytes:
        """Value of the cell ``s``."""
        words.i[self.base + at.HEARD] = self.heard
        return b"".join((_VERSION, words.cut(self.base, self.words)))

    def load_figures(self, words: Words, cell: bytes, value: bytes, watches: int) -> None:
        """Read the cell ``s``; ``ValueError`` naming it where it is of another version or not of the cell ``i``.

        Whatever a kernel takes for a place is checked, since kernels check nothing: a Redis that others can write to is
        not to be believed. ``watches`` is how many a run may have.
        """
        _refuse_other_versions(cell, value)
        count, rest = divmod(len(value) - 1, 8)
        if rest or count < at.SEGMENT:
            raise ValueError(f"training state, cell {cell!r}: {len(value)} bytes are not a version and whole words")
        self.words = count
        self.base, self.capacity = words.take(count)
        words.fill(self.base, value[1:])
        self.heard = int(words.i[self.base + at.HEARD])
        place = at.SEGMENT
        for metric in self.info.metrics:
            following = int(words.i[self.base + place + at.WATCHES]) if place + at.SERIES_HEAD <= count else -1
            end = place + at.SERIES_HEAD + following * at.WATCH
            watches -= following
            if not (
                0 <= following <= len(self.info.triggers)
                and end <= count
                and watches >= 0
                and _holds(words.i[self.base + place : self.base + end], len(self.info.triggers))
            ):
                raise ValueError(f"training state, cell {cell!r}: no series of {label_of(*metric)!r} at word {place}")
            self._index(metric, place)
            place = end
        if place != count or len(self.info.metrics) != int(words.i[self.base + at.SERIES]):
            raise ValueError(f"training state, cell {cell!r}: {count} words, its series need {place}")

    # --- reading figures ---------------------------------------------------------------------------------------------

    def step(self, words: Words) -> int | None:
        """The highest step that metrics or heartbeats told; of an attempt that ended its last one."""
        if not self.words:
            return self.info.last_step
        step = max(int(words.i[self.base + at.STEP]), int(words.i[self.base + at.BEAT_STEP]))
        return None if step == at.NO_STEP else step

    def figures(self, words: Words) -> dict[str, float | str]:
        """Last value of each metric; what is not finite as on the wire (``"NaN"``)."""
        made: dict[str, float | str] = {}
        for metric, offset in zip(self.info.metrics, self.offsets, strict=True):
            value = float(words.f[self.base + offset + at.LAST])
            made[label_of(*metric)] = value if value - value == 0 else _spelled(value)
        return made

    def history(self, words: Words, series: int) -> tuple[float, ...]:
        """Means of equal blocks of a metric's finite values, oldest first; the last block may not be full yet."""
        f, i = words.f, words.i
        begin = series + at.HISTORY_AT
        made: list[float] = f[begin : begin + int(i[series + at.HIST_N])].tolist()
        if i[series + at.ACC_N]:
            made.append(float(f[series + at.ACC]))
        return tuple(made)


def _holds(series: NDArray[np.int64], triggers: int) -> bool:
    """Whether the words of a series and its watches are what `take` leaves behind."""
    blocks, size, filling = int(series[at.HIST_N]), int(series[at.HIST_SIZE]), int(series[at.ACC_N])
    watches = series[at.SERIES_HEAD :].reshape(-1, at.WATCH)
    kinds, places = watches[:, at.KIND], watches[:, at.TRIGGER]
    return (
        0 <= blocks < at.HISTORY
        and 0 <= filling < size
        and bool(((kinds >= at.FALLING_STRICT) & (kinds <= at.PLATEAU)).all())
        and bool(((places >= 0) & (places < triggers)).all())
    )


def _spelled(value: float) -> str:
    if value != value:  # noqa: PLR0124 - NaN is the one number that differs from itself
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
