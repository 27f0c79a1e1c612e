"""Records as JSON lines: what ``mlmm tail --json`` prints and ``mlmm replay`` reads (``docs/replay.md``).

One line is one event. Lines that follow one another in a partition with the same offset are the events of one record.
What comes back is not the same bytes, but for a processor it is the same record.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mlmm.console.replay.errors import WrongInput
from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    MalformedEvent,
    decode_blocks,
    encode_columns,
    encode_json,
    events_of,
    header,
)
from mlmm.runtime.processor import Record

__all__ = ["from_lines", "to_lines"]


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    topic: str
    key: str | None = None
    partition: int
    offset: int
    log_time: int
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    id: str = ""
    """``ce_id``."""
    error: str = ""
    """Of a dead letter: why it is one."""
    key_base64: str = ""
    """Instead of ``key`` where that is not UTF-8."""
    content_type: str = ""
    """With ``raw``."""
    raw: str | None = None
    """The value in base64, where the events alone would not come back as the same record."""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Line)
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


def to_lines(topic: str, partition: int, record: Record) -> list[str]:
    """Write one record.

    Parameters
    ----------
    topic : str
        Logical name (``"serving"``) or full name.
    partition : int
        Where it lies.
    record : Record
        Of any type and content, also malformed.

    Returns
    -------
    list of str
        At least one line, without line ends.
    """
    headers = record.headers
    content = _text(headers, "content-type")
    kind = _text(headers, "ce_type")
    line = _Line(
        topic=topic,
        key=None,
        partition=partition,
        offset=record.offset,
        log_time=record.log_time,
        type=kind,
        id=_text(headers, "ce_id"),
        error=_text(headers, "mlmm_error"),
    )
    try:
        line.key = record.key.decode()
    except UnicodeDecodeError:
        line.key_base64 = b64encode(record.key).decode()
    data, whole = _events_as_json(kind, content, record.value)
    if not whole:
        line.content_type, line.raw = content, b64encode(record.value).decode()
    made = []
    for item in data or [msgspec.Raw(b"null")]:
        line.data = item
        made.append(_encoder.encode(line).decode())
        line.raw, line.content_type = None, ""  # the first line of a record has it
    return made


def _text(headers: Iterable[tuple[str, bytes]], name: str) -> str:
    return (header(list(headers), name) or b"").decode("utf-8", "replace")


def _events_as_json(kind: str, content: str, value: bytes) -> tuple[list[msgspec.Raw], bool]:
    """Each event as JSON, and whether they alone make the same record again."""
    if content == COLUMNS_TYPE:
        try:
            blocks = decode_blocks(kind, content, value)
            data = [msgspec.Raw(encode_json(event)) for block in blocks for event in events_of(block)]
        except MalformedEvent:
            return [], False
        try:
            again = decode_blocks(kind, JSON, _joined(data))
        except MalformedEvent:  # a number that JSON has no word for
            return data, False
        return data, [encode_columns(block) for block in again] == [encode_columns(block) for block in blocks]
    if content.partition(";")[0].strip().lower() != JSON:
        return [], False
    try:
        items = _items.decode(value) if value.lstrip().startswith(b"[") else [msgspec.Raw(value)]
        # On one line, whatever the sender's taste.
        data = [msgspec.Raw(msgspec.json.format(item, indent=-1)) for item in items]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [], False
    return data, bool(data)


def _joined(items: list[msgspec.Raw]) -> bytes:
    """The value of a record: one event, or an array of them."""
    return bytes(items[0]) if len(items) == 1 else b"[" + b",".join(map(bytes, items)) + b"]"


def from_lines(lines: Iterable[bytes | str], *, name: str = "lines") -> Iterator[tuple[str, int, Record]]:
    """Read records.

    Parameters
    ----------
    lines : iterable of bytes or str
        As `to_lines` writes them; empty lines are passed over. Those of one partition stand in the log's order.
    name : str
        What to call them in an error: the file.

    Yields
    ------
    (topic, partition, Record)
        Topic by its logical name. Records of one partition come in order; their log time never goes back.

    Raises
    ------
    WrongInput
        Naming the line that is none, or whose offset goes back.
    """
    waiting: dict[tuple[str, int], tuple[_Line, list[msgspec.Raw]]] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            fields = "topic, key, partition, offset, log_time, type, data"
            raise WrongInput(f"{name}, line {number}: {error}. Expected one JSON object with {fields}") from error
        place = (line.topic.rpartition(".")[2], line.partition)
        before = waiting.get(place)
        if before is not None:
            first, items = before
            if line.offset == first.offset:
                items.append(msgspec.Raw(bytes(line.data)))
                continue
            if line.offset < first.offset:
                raise WrongInput(
                    f"{name}, line {number}: offset {line.offset} follows {first.offset} in partition {line.partition} "
                    f"of {line.topic}: the lines of a partition must stand in the log's order"
                )
            # As in a worker: a broker whose clock went back does not take the log's time with it.
            line.log_time = max(line.log_time, first.log_time)
            yield (*place, _record(first, items, name))
        waiting[place] = (line, [msgspec.Raw(bytes(line.data))])
    for place, (first, items) in waiting.items():
        yield (*place, _record(first, items, name))


def _record(line: _Line, items: list[msgspec.Raw], name: str) -> Record:
    try:
        key = b64decode(line.key_base64, validate=True) if line.key_base64 else (line.key or "").encode()
        value = _joined(items) if line.raw is None else b64decode(line.raw, validate=True)
    except ValueError as error:
        raise WrongInput(f"{name}: offset {line.offset} of {line.topic}: base64 expected, {error}") from error
    headers = [
        ("ce_type", line.type.encode()),
        ("content-type", (JSON if line.raw is None else line.content_type).encode()),
        ("ce_id", line.id.encode()),
    ]
    return Record(line.offset, line.log_time, key, value, headers)
