"""What can be wrong with a record: changes to its bytes, to the tree that they spell, to its headers and to its key."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from mlmm.events.limits import TIME_MAX, TIME_MIN
from tests.fuzz.cases import Case

__all__ = ["mutate"]

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 255, 256, 65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63 - 1,
    2**63, 2**64 - 1, 2**64, -(2**31), -(2**63), -(2**63) - 1, 10**30, -(10**30), 10**300, 10**4000, 0.5, -0.5, -0.0,
    1e308, -1e308, 1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 1e-300, float("nan"), float("inf"),
    float("-inf"), TIME_MIN, TIME_MIN - 1, TIME_MAX - 1, TIME_MAX, 253_402_300_799_000_000, -62_135_596_800_000_000,
    1_790_000_000, 1_790_000_000_000, 1_790_000_000_000_000_000,
)  # fmt: skip
SURROGATE = "\ud800"
STRINGS: tuple[str, ...] = (
    "", " ", "0", "x", "\x00", "a#b", "#", "#1", "é", "日本", "\U0001f600", SURROGATE, f"a{SURROGATE}b", "NaN",
    "Infinity", "é" * 257, "x" * 512, "x" * 513,
    "x" * 8192, "x" * 8193, "日" * 2731, "y" * 70_000, "\x1b[31m\x1b]0;title\x07",
    "<script>alert(1)</script>", "\u202egnp.exe", "a\r\nBcc: x@y.z", "../../etc/passwd", "{{7*7}}", "%s%n", "null",
    "*", "[" * 200,
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, {"a": 1}, b"", b"\x00" * 8, b"\xff" * 8)
PLACEHOLDER = "QZQZQZ"
"""What stands for two lone surrogates until the bytes are written: no encoder would write them."""


def _deep(rng: random.Random) -> Any:
    tree: Any = 1
    for _ in range(rng.choice((3, 20, 60))):
        tree = [tree] if rng.random() < 0.5 else {"a": tree}
    return tree


def _leaf(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NUMBERS)
    if kind < 0.75:
        return rng.choice(STRINGS)
    if kind < 0.98:
        return rng.choice(OTHERS)
    return _deep(rng)


# --- bytes -----------------------------------------------------------------------------------------------------------


def truncate(value: bytes, rng: random.Random) -> bytes:
    """Cut the end, or the beginning, off."""
    at = rng.randrange(len(value) + 1)
    return value[:at] if rng.random() < 0.8 else value[at:]


def flip(value: bytes, rng: random.Random) -> bytes:
    """Turn a few bits."""
    changed = bytearray(value or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def insert(value: bytes, rng: random.Random) -> bytes:
    """Put bytes of any value in."""
    at = rng.randrange(len(value) + 1)
    return value[:at] + rng.randbytes(rng.choice((1, 2, 8, 64))) + value[at:]


def splice(value: bytes, rng: random.Random) -> bytes:
    """Repeat or drop a stretch."""
    start, end = sorted((rng.randrange(len(value) + 1), rng.randrange(len(value) + 1)))
    stretch = value[start:end]
    return value[:start] + stretch * rng.choice((0, 2, 3)) + value[end:]


_WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


def inflate(value: bytes, rng: random.Random) -> bytes:
    """Let a length of msgpack promise more than there is; where there is none, one that does is put in."""
    places = [at for at, byte in enumerate(value) if byte in _WIDTHS]
    if not places:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice((b"\xc6", b"\xdb", b"\xdd", b"\xdf")) + b"\x7f\xff\xff\xff" + value[at:]
    at = rng.choice(places)
    width = _WIDTHS[value[at]]
    length = rng.choice((b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), rng.randbytes(width)))
    return value[: at + 1] + length + value[at + 1 + width :]


def noise(_: bytes, rng: random.Random) -> bytes:
    """Bytes of any value and nothing else."""
    return rng.randbytes(rng.choice((0, 1, 7, 100, 5_000)))


def nest(value: bytes, rng: random.Random) -> bytes:
    """Lists in lists in lists, of JSON or of msgpack."""
    at = rng.randrange(len(value) + 1)
    return value[:at] + rng.choice((b"[", b'{"a":', b"\x91", b"\x81\xa1a")) * rng.choice((40, 5_000)) + value[at:]


def duplicate(value: bytes, rng: random.Random) -> bytes:
    """A key that is there twice in a JSON object, or the record twice."""
    if value[:1] == b"{" and rng.random() < 0.7:
        return b'{"time":1,"model":"other",' + value[1:]
    return value + value


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate, flip, flip, insert, splice, inflate, inflate, nest, noise, duplicate,
)  # fmt: skip


# --- trees -----------------------------------------------------------------------------------------------------------


def _places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    if isinstance(tree, dict):
        for name, each in tree.items():
            found += _places(each, (*at, name))
    elif isinstance(tree, list):
        for number, each in enumerate(tree[:20]):
            found += _places(each, (*at, number))
    return found


def _buffer(value: bytes, rng: random.Random) -> bytes:
    """A buffer of numbers: other numbers, another length."""
    count = max(1, len(value) // 8)
    kind = rng.randrange(7)
    if kind == 0:
        return value[: rng.randrange(len(value) + 1)]
    if kind == 1:
        return value + value[: rng.choice((1, 4, 8))]
    if kind == 2:
        return value * rng.choice((2, 50))
    if kind == 3:
        return flip(value, rng)
    if kind == 4:
        number = rng.choice([n for n in NUMBERS if isinstance(n, float)])
        return struct.pack("<d", number) * count
    if kind == 5:
        number = rng.choice([n for n in NUMBERS if isinstance(n, int) and -(2**63) <= n < 2**63])
        return struct.pack("<q", number) * count
    floats = [n for n in NUMBERS if isinstance(n, float)]
    return b"".join(struct.pack("<d", rng.choice(floats)) for _ in range(count))


def _changed(tree: Any, at: tuple[Any, ...], rng: random.Random) -> Any:
    if at:
        inner = _changed(tree[at[0]], at[1:], rng)
        if isinstance(tree, dict):
            kind = rng.random() if len(at) == 1 else 1.0
            if kind < 0.12:
                return {name: each for name, each in tree.items() if name != at[0]}
            if kind < 0.2:
                return {(rng.choice(STRINGS) if name == at[0] else name): each for name, each in tree.items()}
            return {**tree, at[0]: inner}
        return [inner if number == at[0] else each for number, each in enumerate(tree)]
    if isinstance(tree, bytes) and rng.random() < 0.7:
        return _buffer(tree, rng)
    if isinstance(tree, list) and rng.random() < 0.6:
        return rng.choice((tree * rng.choice((0, 2, 2, 30)), tree[1:], [*tree, _leaf(rng)], tree[::-1]))
    if isinstance(tree, dict) and rng.random() < 0.6:
        wide = {f"{rng.choice(STRINGS)[:40]}{number}": _leaf(rng) for number in range(rng.choice((1, 1, 3, 3, 260)))}
        return {**tree, **wide}
    return _leaf(rng)


def _without_surrogates(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.replace(SURROGATE, PLACEHOLDER)
    if isinstance(tree, list):
        return [_without_surrogates(each) for each in tree]
    if isinstance(tree, dict):
        return {_without_surrogates(name): _without_surrogates(each) for name, each in tree.items()}
    return tree


def _written(tree: Any, *, packed: bool) -> bytes:
    if not packed:
        return json.dumps(tree, default=lambda each: each.hex()).encode()
    written = msgspec.msgpack.encode(_without_surrogates(tree))
    return written.replace(PLACEHOLDER.encode(), b"\xed\xa0\x80\xed\xa0\x80")


def reshape(value: bytes, rng: random.Random) -> bytes:
    """Change nodes of the tree that a value spells, and write it again."""
    packed = value[:1] not in (b"{", b"[")
    try:
        tree = msgspec.msgpack.decode(value) if packed else json.loads(value)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            tree = _changed(tree, rng.choice(_places(tree)), rng)
        return _written(tree, packed=packed)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
        return flip(value, rng)


# --- headers and keys ------------------------------------------------------------------------------------------------

TYPES = (
    b"", b"mlmm.predictions.v2", b"mlmm.predictions", b"MLMM.PREDICTIONS.V1", b"mlmm.labels.v1",
    b"mlmm.run.metrics.v1", b"mlmm.tick.v1", b"mlmm.incident.v1", b"mlmm.command.v1",
    b"\xff\xfe", b"x" * 5_000, b"mlmm.command.acked.v1",
    b"mlmm.report.v1",
)  # fmt: skip
CONTENTS = (
    b"", b"application/json; charset=utf-8", b"APPLICATION/JSON", b"application/vnd.mlmm.columns+msgpack",
    b"text/plain", b"application/json", b"\xff", b"application/avro", b"x" * 5_000,
)  # fmt: skip
STRANGERS: tuple[tuple[str, bytes | None], ...] = (
    ("mlmm_error", b"forged"), ("mlmm_topic", b"commands"), ("mlmm_partition", b"-1"), ("mlmm_offset", b"x"),
    ("mlmm_truncated", b"1"), ("mlmm_attempt", b"99999999999999999999"), ("mlmm_sequence", b"x" * 33), ("", b""),
    ("ce_sequence", b"x" * 33), ("ce_sequence", b"999999.9999999999999999999.999999"), ("ce_sequence", b"17"),
    ("ce_source", b"\xff\x00"), ("ce_id", b"\xff" * 3_000), ("ce_id", None), ("big", b"z" * 100_000),
    ("n" * 5_000, b""), ("\x1b[2J", b"\x1b[2J"), ("ce_time", b"yesterday"), ("traceparent", None),
)  # fmt: skip


def rehead(case: Case, rng: random.Random) -> Case:
    """Change the headers."""
    headers = list(case.headers)
    kind = rng.randrange(8)
    place = rng.randrange(len(headers)) if headers else 0
    if kind == 0 and headers:
        del headers[place]
    elif kind == 1 and headers:
        headers[place] = (headers[place][0], rng.choice((None, b"", b"\xff\xfe\x00", rng.randbytes(20))))
    elif kind == 2:
        rng.shuffle(headers)
    elif kind == 3:
        headers = []
    elif kind == 4:
        headers = [(name, rng.choice(TYPES) if name == "ce_type" else value) for name, value in headers]
    elif kind == 5:
        headers = [(name, rng.choice(CONTENTS) if name == "content-type" else value) for name, value in headers]
    elif kind == 6 and headers:
        headers.insert(0, (headers[place][0], rng.choice((None, b"", b"first"))))
    else:
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(STRANGERS))
    return msgspec.structs.replace(case, headers=tuple(headers))


def rekey(case: Case, rng: random.Random) -> Case:
    """Change the key."""
    key = rng.choice((
        b"", b"other", case.key + b"#1", case.key + b"#x", case.key + b"#" + b"1" * 2_000, b"#", b"\xff\xfe", b"\x00",
        b"k" * 513, b"k" * 50_000, case.key * 2, case.key[:-1],
    ))  # fmt: skip
    return msgspec.structs.replace(case, key=key)


def revalue(case: Case, rng: random.Random) -> Case:
    """Change the value: its tree, or its bytes."""
    change = reshape if rng.random() < 0.7 else rng.choice(BYTES)
    return msgspec.structs.replace(case, value=change(case.value, rng), story=f"{case.story} {change.__name__}")


def mutate(case: Case, rng: random.Random) -> Case:
    """Change a record in one to three ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.random()
        case = (revalue if kind < 0.8 else rehead if kind < 0.93 else rekey)(case, rng)
    return case
