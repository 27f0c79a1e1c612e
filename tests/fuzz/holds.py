"""What must hold for every record, whoever made it; raises where it does not."""

import random
from collections.abc import Iterator, Sequence

import msgspec

from mlmm.console.letters.reading import letter_of
from mlmm.console.letters.showing import as_json, as_row, describe, summary
from mlmm.console.screen import plain
from mlmm.events import MalformedEvent, decode_events, header
from mlmm.runtime.outbox import Message
from mlmm.runtime.processor import Record
from tests.fuzz.cases import Case
from tests.fuzz.rig import Rig

__all__ = ["check_decoder", "check_letters", "check_together", "signature"]


def _text(case: Case, name: str) -> str:
    return (header(case.headers, name) or b"").decode("utf-8", "replace")  # type: ignore[arg-type]  # or no value


def check_decoder(case: Case) -> str:
    """Nothing but `MalformedEvent` comes out of the decoder, and it can be written; return what it said."""
    try:
        events = decode_events(_text(case, "ce_type"), _text(case, "content-type"), case.value, key=case.key)
    except MalformedEvent as error:
        said = str(error)
    else:
        msgspec.to_builtins(events)
        return "fine"
    assert len(said) < 1_100, "a reason that does not fit into a header"
    return said


def check_letters(letters: Sequence[Message]) -> None:
    """Every letter can be shown, and nothing in it is obeyed by a terminal."""
    read = []
    for offset, made in enumerate(letters):
        record = Record(offset, 1_790_000_000_000_000, made.key, made.value, made.headers)  # type: ignore[arg-type]
        letter = letter_of(0, record)
        assert letter.topic
        assert letter.read_offset >= 0
        for line in (*describe(letter, record), *as_row(letter)):
            assert plain(line).isprintable()
        read.append(letter)
    assert len({letter.id for letter in read}) == len(read)
    msgspec.json.encode([as_json(letter) for letter in read])
    summary(read)


def check_together(rig: Rig, cases: Sequence[Case], milliseconds: int, *, cells: bool) -> list[Message]:
    """Records go through the harness and the processors, and so does what these find; return the dead letters."""
    letters = rig.feed(cases, milliseconds)
    check_letters(letters)
    if cells:
        rig.check_cells()
    return letters


def signature(case: Case, said: str) -> tuple[str, ...]:
    """What was special about an outcome: its type, and the reason without figures or quotes."""
    from mlmm.console.letters.showing import pattern_of

    return case.topic, _text(case, "ce_type")[:30], _text(case, "content-type")[:40], pattern_of(said)[:120]


def clock(rng: random.Random, start: int = 1_790_000_000_000) -> Iterator[int]:
    """Log times in milliseconds: bursts, pauses, an hour of silence."""
    now = start
    while True:
        now += rng.choice((0, 0, 1, 1_000, 30_000, 3_600_000))
        yield now
