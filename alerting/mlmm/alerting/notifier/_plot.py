"""The picture in a mail: the history of a figure, its bound and where it changed. Small, sharp, deterministic."""

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from mlmm.alerting._words import figure, moment

__all__ = ["HEIGHT", "WIDTH", "History", "draw", "history_of"]

WIDTH, HEIGHT = 480, 160
"""Size in which a mail shows it; the file has twice as many pixels each way, for sharp screens."""
_SHARP = 2
_FINE = 2
"""Drawn larger still, then made smaller: that is what smooths the lines."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 54, 24, 24
# Middle tones on nothing: readable on a white page and on a dark one.
_CLEAR = (128, 128, 128, 0)
_TEXT = (122, 132, 146, 255)
_GRID = (128, 138, 152, 70)
_CALM = (58, 130, 246, 255)
_ALARM = (232, 72, 85, 255)
_LIMIT = (217, 140, 20, 255)
_POINTS = 400


class History(NamedTuple):
    """What is drawn."""

    values: tuple[float | None, ...]
    limits: tuple[float, ...]
    change: int | None
    """Index of the first value after the change."""
    labels: tuple[str, str]
    """Of the oldest and of the newest value."""


def history_of(evidence: dict[str, Any]) -> History | None:
    """Read what an incident's evidence has of a history; None where there is too little to draw.

    Evidence comes from a topic: whatever does not fit is left out, never an error.
    """
    raw = evidence.get("history")
    if not isinstance(raw, dict):
        return None
    values = tuple(_number(value) for value in _list(raw.get("values"))[-_POINTS:])
    if sum(value is not None for value in values) < 2:
        return None
    limits = tuple(limit for limit in map(_number, _list(raw.get("limits"))[:2]) if limit is not None)
    change = raw.get("change")
    inside = isinstance(change, int) and 0 <= change < len(values)
    return History(values, limits, change if inside else None, _labels(raw, len(values)))


def _labels(raw: dict[str, Any], count: int) -> tuple[str, str]:
    ends, block = _list(raw.get("ends")), raw.get("block")
    times = [end for end in ends if isinstance(end, int) and 0 < end < 1 << 53]
    if times:
        return moment(times[0])[5:16], f"{moment(times[-1])[5:16]} UTC"
    if isinstance(block, int) and block > 0:
        return f"{count * block:,} values ago", "latest"
    return "oldest", "latest"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) and abs(value) < 1e300 else None


def draw(history: History) -> bytes:
    """Draw a history as a PNG of 960 by 320 pixels on a transparent ground.

    Parameters
    ----------
    history : History
        At least two values that are numbers.
    """
    return _Canvas(history).png()


class _Canvas:
    def __init__(self, history: History) -> None:
        self._history = history
        self._scale = _SHARP * _FINE
        self._image = Image.new("RGBA", (WIDTH * self._scale, HEIGHT * self._scale), _CLEAR)
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(10.5 * self._scale)
        known = [value for value in history.values if value is not None]
        self._ticks = _ticks(min([*known, *history.limits]), max([*known, *history.limits]))

    def png(self) -> bytes:
        self._grid()
        self._bounds()
        self._mark()
        self._line()
        small = self._image.resize((WIDTH * _SHARP, HEIGHT * _SHARP), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.quantize(128, method=Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
        return file.getvalue()

    def _x(self, index: float) -> float:
        return _LEFT + index * (WIDTH - _LEFT - _RIGHT) / max(len(self._history.values) - 1, 1)

    def _y(self, value: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        return _TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def _stroke(self, points: Sequence[tuple[float, float]], colour: tuple[int, ...], width: float) -> None:
        scaled = [(x * self._scale, y * self._scale) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * self._scale), joint="curve")

    def _dashes(self, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, ...]) -> None:
        length = math.hypot(end[0] - start[0], end[1] - start[1])
        step, dash = 7.0, 4.0
        for i in range(int(length // step) + 1):
            a, b = i * step / length, min((i * step + dash) / length, 1.0)
            at = [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in (a, b)]
            self._stroke(at, colour, 1.2)

    def _write(self, place: tuple[float, float], text: str, anchor: str, colour: tuple[int, ...] = _TEXT) -> None:
        at = (place[0] * self._scale, place[1] * self._scale)
        self._draw.text(at, text, fill=colour, font=self._font, anchor=anchor)

    def _grid(self) -> None:
        digits = _digits(self._ticks)
        for tick in self._ticks:
            y = self._y(tick)
            self._stroke([(_LEFT, y), (WIDTH - _RIGHT, y)], _GRID, 1)
            self._write((_LEFT - 7, y), digits(tick), "rm")
        left, right = self._history.labels
        self._write((_LEFT, HEIGHT - 5), left, "ls")
        self._write((WIDTH - _RIGHT, HEIGHT - 5), right, "rs")

    def _bounds(self) -> None:
        for limit in self._history.limits:
            y = self._y(limit)
            self._dashes((_LEFT, y), (WIDTH - _RIGHT, y), _LIMIT)
            self._write((WIDTH - _RIGHT + 6, y), figure(limit, 3), "lm", _LIMIT)

    def _mark(self) -> None:
        change = self._history.change
        if change is None or change == 0:
            return
        x = self._x(change - 0.5)
        self._dashes((x, _TOP - 6), (x, HEIGHT - _BOTTOM), _TEXT)
        self._write((x, _TOP - 10), "change", "ms")

    def _line(self) -> None:
        values = self._history.values
        change = len(values) if self._history.change is None else self._history.change
        for indices in _pieces(values):
            before = [i for i in indices if i <= max(change - 1, 0)]
            after = [i for i in indices if i >= change - 1] if change < len(values) else []
            for chosen, colour in ((before, _CALM), (after, _ALARM)):
                points = [(self._x(i), self._y(values[i] or 0.0)) for i in chosen]
                if len(points) > 1:
                    self._stroke(points, colour, 2.2)
        last = max(i for i, value in enumerate(values) if value is not None)
        self._dot(last, _ALARM if last >= change else _CALM)

    def _dot(self, index: int, colour: tuple[int, ...]) -> None:
        value = self._history.values[index] or 0.0
        x, y, radius = self._x(index), self._y(value), 3.6
        corners = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse([corner * self._scale for corner in corners], fill=colour)
        near = any(abs(self._y(limit) - y) < 11 for limit in self._history.limits)
        below = near and all(limit >= value for limit in self._history.limits)
        shift = (11 if below else -11) if near else 0
        self._write((x + 8, y + shift), figure(value, 3), "lm", colour)


def _pieces(values: Sequence[float | None]) -> Iterator[list[int]]:
    """Runs of neighbouring indices that have a value."""
    piece: list[int] = []
    for i, value in enumerate(values):
        if value is not None:
            piece.append(i)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose ``low`` and ``high``."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _digits(ticks: Sequence[float]) -> Any:
    """A way to write ticks with as many digits as tell them apart."""
    for digits in range(2, 16):
        written = [figure(tick, digits) for tick in ticks]
        if len(set(written)) == len(written):
            return lambda tick: figure(0.0 if abs(tick) < 1e-12 * abs(ticks[-1] - ticks[0]) else tick, digits)
    return repr
