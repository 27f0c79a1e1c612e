"""``docs/wire-format.md`` is enough to write an encoder from: its examples and numbers are checked here."""

import re
from pathlib import Path

import msgspec
import pytest

from mlmm.events import (
    COLUMNS,
    COLUMNS_TYPE,
    DEFAULT_LIMITS,
    JSON,
    decode_blocks,
    decode_events,
    encode_columns,
    partition_of,
    shard_key,
    sign,
)
from mlmm.events.limits import ID_BYTES, NAMES, STRING_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()
SECTIONS = {
    section.partition("\n")[0].partition("`")[2].rstrip("`"): section
    for section in PAGE.split("\n### ")
    if "`" in section
}


def fenced(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_is_what_the_codec_writes_and_reads():
    (page,) = fenced("hex")
    raw = bytes.fromhex(" ".join(line.partition(";")[0] for line in page.splitlines()))
    events = fenced("json")[1].encode()
    (block,) = decode_blocks("mlmm.predictions.v1", JSON, events)
    assert encode_columns(block).hex(" ") == raw.hex(" ")
    assert f"these {len(raw)} bytes" in PAGE
    assert decode_events("mlmm.predictions.v1", COLUMNS_TYPE, raw) == decode_events("mlmm.predictions.v1", JSON, events)


def test_the_single_event_of_the_page_reads():
    assert len(decode_events("mlmm.predictions.v1", JSON, fenced("json")[0].encode())) == 1


@pytest.mark.parametrize("type_", COLUMNS)
def test_every_field_of_a_block_and_a_head_is_in_its_section(type_):
    for of in COLUMNS[type_]:
        for field in msgspec.structs.fields(of):
            if field.name != "index":
                marked = f"`{field.name}` ●" if field.required else f"`{field.name}`"
                assert marked in SECTIONS[type_], f"{type_}: {marked}"


def test_the_examples_of_keys_and_the_signature_are_right():
    rows = re.findall(r"\| `([^`]+)` \| (\d+) \| (\d) \|", PAGE)
    assert len(rows) == 3
    for key, hashed, partition in rows:
        assert partition_of(key.encode(), 1 << 31) == int(hashed)
        assert partition_of(key.encode(), 3) == int(partition)
    assert f"has the key `{shard_key('fraud', 'order-1', 4).decode()}`" in PAGE
    assert sign("ops-1", b"secret", b"churn-1", "mlmm.command.v1", "c-1", b"{}").decode() in fenced("text")[0]


def test_the_limits_of_the_page_are_those_of_the_code():
    assert f"| {DEFAULT_LIMITS.record_bytes >> 20} MiB (" in PAGE
    assert f"| {DEFAULT_LIMITS.column_bytes >> 20} MiB |" in PAGE
    assert f"| {DEFAULT_LIMITS.events:,} |" in PAGE
    assert f"| {NAMES:,} each |" in PAGE
    assert f"| {ID_BYTES} bytes |" in PAGE
    assert f"| {STRING_BYTES:,} bytes |" in PAGE
