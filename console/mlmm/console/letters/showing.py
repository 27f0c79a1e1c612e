"""Letters in words. Whatever stands in them was written by strangers: `mlmm.console.screen` prints none of it raw."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from mlmm.console.letters.reading import Letter
from mlmm.events import COLUMNS_TYPE, JSON, MalformedEvent, decode_events, header
from mlmm.runtime import deadletters as names
from mlmm.runtime.processor import Record

__all__ = ["as_json", "as_row", "describe", "moment", "pattern_of", "summary"]

_LINES, _BYTES, _TEXT = 200, 512, 2_000
"""Lines of a decoded value, bytes of one that is not, and characters of one string that are shown."""
_QUOTED = re.compile(r"b?'[^']*'|b?\"[^\"]*\"")
_NUMBERS = re.compile(r"\d[\d,._]*(?:e[+-]?\d+)?")


def moment(time: int) -> str:
    """Write microseconds since the epoch for people."""
    return datetime.fromtimestamp(time // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def pattern_of(reason: str) -> str:
    """What reasons of one kind have in common: numbers and what is quoted are left out.

    >>> pattern_of("[17].time: 5 is not in the years 2000..2199")
    '[N].time: N is not in the years N'
    """
    return _NUMBERS.sub("N", _QUOTED.sub("'…'", reason))


def as_row(letter: Letter) -> tuple[str, ...]:
    """Cells of a table: id, place, when, read from, type, key, attempt, reason."""
    where = f"{letter.topic} {letter.read_partition}:{letter.read_offset}" if letter.topic else "?"
    what = letter.type.removeprefix("mlmm.") or "?"
    attempt = f"{letter.attempt}{' sent again' if letter.retried else ''}"
    key = letter.key.decode("utf-8", "replace")
    return (
        letter.id,
        letter.place,
        moment(letter.when),
        where,
        what,
        _short(key, 40),
        attempt,
        _short(letter.reason, 300),
    )


def as_json(letter: Letter) -> dict[str, Any]:
    """Return one object of ``--json``."""
    return {
        "id": letter.id, "partition": letter.partition, "offset": letter.offset, "when": letter.when,
        "topic": letter.topic, "read_partition": letter.read_partition, "read_offset": letter.read_offset,
        "type": letter.type, "ce_id": letter.event, "key": letter.key.decode("utf-8", "replace"),
        "reason": letter.reason, "bytes": letter.size, "left_out": list(letter.left_out), "attempt": letter.attempt,
        "copies": letter.copies, "retried": letter.retried,
    }  # fmt: skip


def summary(letters: Iterable[Letter]) -> list[dict[str, Any]]:
    """Group by topic, type and kind of reason; the largest group first, each with its latest letter."""
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    for letter in letters:
        key = letter.topic, letter.type, pattern_of(letter.reason)
        group = groups.setdefault(
            key,
            {"count": 0, "topic": key[0], "type": key[1], "reason": key[2], "first": letter.when, "last": letter.when},
        )
        group["count"] += 1
        group["last"], group["example"] = letter.when, letter.place
    return sorted(groups.values(), key=lambda group: (-group["count"], group["topic"], group["reason"]))


def describe(letter: Letter, record: Record) -> Iterator[str]:
    """Yield lines about one letter: where from, why, headers, and its value as far as it can be decoded."""
    yield f"letter      {letter.id}, at {letter.place}, {moment(letter.when)} UTC, attempt {letter.attempt}"
    yield f"read from   {letter.topic or '?'} {letter.read_partition}:{letter.read_offset}"
    yield f"reason      {letter.reason}"
    yield f"key         {_bytes(record.key)}"
    for mark in letter.marks:
        yield f"retry       {mark.word} at {moment(mark.log_time)} UTC by {mark.by}"
    yield "headers"
    for name, value in record.headers:
        if name not in names.OURS:
            yield f"  {_short(name, 80)}: {'no value' if value is None else _bytes(value)}"
    left_out = f", left out of the letter: {', '.join(letter.left_out)}" if letter.left_out else ""
    yield f"value       {letter.size:,} bytes{left_out}"
    yield from (f"  {line}" for line in _value(record))


def _value(record: Record) -> Iterator[str]:
    kind = (header(record.headers, "ce_type") or b"").decode("utf-8", "replace")
    content = (header(record.headers, "content-type") or b"").decode("utf-8", "replace")
    try:
        events = decode_events(kind, content, record.value)
    except MalformedEvent as error:
        yield f"(now: {error})"
    else:
        yield f"(now it reads as {len(events)} event{'s' * (len(events) != 1)})"
    yield from _lines(decoded(record.value, content))


def decoded(value: bytes, content: str) -> Any:
    """Return the tree that a value spells, of no type; its bytes where it spells none."""
    readers: list[Callable[[bytes], Any]] = [msgspec.json.decode, msgspec.msgpack.decode]
    for read in readers[::-1] if content == COLUMNS_TYPE else readers[: 1 + (content != JSON)]:
        try:
            return read(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return value


def _lines(tree: Any) -> Iterator[str]:
    if isinstance(tree, bytes):
        for at in range(0, min(len(tree), _BYTES), 16):
            part = tree[at : at + 16]
            letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
            yield f"{at:08x}  {part.hex(' '):<47}  {letters}"
        if len(tree) > _BYTES:
            yield f"… {len(tree) - _BYTES:,} more bytes"
        return
    try:
        text = json.dumps(_plain(tree), indent=2, ensure_ascii=True, default=str)
    except (RecursionError, ValueError):
        yield "(nested too deeply to be shown)"
        return
    lines = text.split("\n")
    yield from (_short(line, _TEXT) for line in lines[:_LINES])
    if len(lines) > _LINES:
        yield f"… {len(lines) - _LINES:,} more lines"


def _plain(tree: Any) -> Any:
    """Return a tree for people: buffers by their length and first bytes."""
    if isinstance(tree, bytes):
        return f"{len(tree)} bytes {tree[:32].hex(' ')}{' …' * (len(tree) > 32)}"
    if isinstance(tree, dict):
        return {str(name): _plain(each) for name, each in tree.items()}
    if isinstance(tree, list):
        return [_plain(each) for each in tree]
    return tree


def as_json_record(record: Record) -> dict[str, Any]:
    """Return what was received, for ``show --json``: bytes in base64."""
    return {
        "key_base64": b64encode(record.key).decode(),
        "headers": [
            [name, None if value is None else value.decode("utf-8", "backslashreplace")]
            for name, value in record.headers
            if name not in names.OURS
        ],
        "value_base64": b64encode(record.value).decode(),
    }


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _bytes(value: bytes) -> str:
    try:
        return _short(value.decode(), _TEXT)
    except UnicodeDecodeError:
        return f"{len(value)} bytes {value[:32].hex(' ')}{' …' * (len(value) > 32)}"
