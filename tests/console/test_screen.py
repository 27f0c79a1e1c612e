"""Text of strangers on the screen, and a topic's records in words."""

import json
import re

import pytest

from mlmm.console.reading import SHOWN, describe
from mlmm.console.screen import plain, print_json, print_table, write_json
from mlmm.events import JSON, Label, Tick, cloudevents_headers, encode_json
from mlmm.runtime.processor import Record

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\n[bold red]x[/]\x00"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    assert not OBEYED.search(plain(HOSTILE))
    assert "\n" not in plain(HOSTILE)
    assert "[bold red]x[/]" in plain(HOSTILE)


@pytest.mark.parametrize("text", ["", "plain", "größer → ✓", "日本語"])
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_a_table_shows_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("T", ("a",), [[HOSTILE]])
    shown = capsys.readouterr().out
    assert not OBEYED.search(shown)
    assert "[bold red]x[/]" in shown


def test_json_is_the_same_value_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes are JSON's own: who parses gets every character back."""
    print_json([{"text": HOSTILE}])
    write_json('{"raw":"\u009b\u202e","emoji":"\U0001f600"}')
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["text"] == HOSTILE
    assert json.loads(second) == {"raw": "\u009b\u202e", "emoji": "\U0001f600"}
    assert not OBEYED.search(first + second)


def record(value: bytes, kind: str, key: bytes = b"m", *more: tuple[str, bytes]) -> Record:
    return Record(7, 1_760_000_000_123_000, key, value, [*cloudevents_headers(kind, "i", "s", 1, JSON), *more])


def label(identity: str) -> Label:
    return Label(prediction_id=identity, time=1_760_000_000_000_000, model="m", value=1)


def test_an_event_is_a_line_that_says_when_where_and_what() -> None:
    value = encode_json([label("a"), label("b")])
    first, second = describe(2, record(value, "mlmm.labels.v1"))
    assert first.startswith("2025-10-09 08:53:20.123 2:7 labels.v1 m {")
    assert '"prediction_id": "a"' in first
    assert '"prediction_id": "b"' in second


def test_a_long_event_is_cut() -> None:
    (line,) = describe(0, record(encode_json(label("x" * 500)), "mlmm.labels.v1"))
    assert line.endswith("…")
    assert len(line) < SHOWN + 100


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (b"{", "mlmm.labels.v1", "malformed"),
        (b"{}", "mlmm.nonsense.v1", "malformed"),
        (b"\xff\xfe", "mlmm.command.v1", "malformed"),
        (encode_json(Tick(time=1_760_000_000_000_000)), "mlmm.tick.v1", "tick.v1"),
    ],
)
def test_whatever_stands_in_a_topic_is_a_line(value: bytes, kind: str, said: str) -> None:
    (line,) = describe(0, record(value, kind, b"\xff\x1b[2J"))
    assert said in line


def test_a_dead_letter_says_why_it_is_one() -> None:
    letter = record(b"\x00\x01", "mlmm.labels.v1", b"m", ("mlmm_error", b"time: is needed"))
    (line,) = describe(0, letter)
    assert line.endswith("2 bytes, refused: time: is needed")


def test_a_record_without_headers_is_a_line() -> None:
    (line,) = describe(0, Record(1, 1_760_000_000_000_000, b"", b"hello", []))
    assert "malformed" in line
