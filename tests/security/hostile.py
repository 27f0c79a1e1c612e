"""Cells that someone else wrote: a state is made of them in a process of its own, and goes on with what comes.

``python -m tests.security.hostile PROCESSOR SEED COUNT`` tries ``COUNT`` of them and prints a line each, so that
whoever started it knows at which one it died.
"""

import contextlib
import random
import struct
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["MAKERS", "attempt", "hostile"]

_INTEGERS = (-1, 0, 1, 63, 64, 65, 1 << 31, 1 << 40, (1 << 62) + 1, -(1 << 63), (1 << 63) - 1)
_FLOATS = (-1.0, 64.0, 1e6, 1e18, 1e300, float("nan"), float("inf"), float("-inf"))
EXTREMES = [*(struct.pack("<q", each) for each in _INTEGERS), *(struct.pack("<d", each) for each in _FLOATS)]
"""Words that a kernel would take for places far outside."""

Made = tuple[Callable[[], Any], Mapping[bytes, bytes], Sequence[Any]]
"""An empty state, the cells of one that is in use, and records that come next."""


def _serving() -> Made:
    from mlmm.stream_processors.serving import ServingProcessor
    from tests.stream_processors.serving.makers import packed
    from tests.stream_processors.serving.test_cells import SMALL, stream

    records = packed(list(stream(900)), random.Random(1))
    processor = ServingProcessor(SMALL)
    state = processor.state()
    state.process(records[: len(records) // 2])
    return processor.state, dict(state.cells()), records[len(records) // 2 :]


def _training() -> Made:
    from mlmm.producers import falling, not_finite, plateau
    from tests.stream_processors.training.making import metrics, record, started, state

    triggers = (falling("loss"), not_finite(), plateau("loss"))
    records = [record(0, 0, started(triggers=triggers))]
    records += [record(n, n, metrics(n, loss=1 / n, accuracy=n / 400)) for n in range(1, 400)]
    made = state()
    made.process(records[:200])
    return state, dict(made.cells()), records[200:]


def _alerting() -> Made:
    from mlmm.alerting import AlertingProcessor
    from tests.alerting.stories import Story, accuracy_rule, report, settings

    given = settings(accuracy_rule())
    story = Story(given)
    story.tell(*(report(n, 0.8 if n % 3 else 0.95) for n in range(9)))
    state = story.state
    return AlertingProcessor(given).state, dict(state.cells()), []


MAKERS: dict[str, Callable[[], Made]] = {"serving": _serving, "training": _training, "alerting": _alerting}


def hostile(cells: Mapping[bytes, bytes], rng: random.Random) -> dict[bytes, bytes]:
    """Change one cell, or a few words of it, as someone with a hex editor would."""
    made = dict(cells)
    name = rng.choice(sorted(made))
    value = bytearray(made[name])
    how = rng.random()
    if how < 0.1:
        value = bytearray(rng.randbytes(rng.randrange(200)))
    elif how < 0.2:
        value[1:] = rng.randbytes(len(value) - 1)
    elif how < 0.3:
        del value[rng.randrange(len(value)) :]
    elif how < 0.4:
        made[rng.choice((b"m", b"n", b"s\0\0\0\0", b"r" + bytes(8), b"i", b"x", b"")) + rng.randbytes(3)] = bytes(value)
    elif how < 0.5:
        del made[name]
        return made
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            words = (len(value) - 1) // 8
            at = 1 + 8 * rng.randrange(max(words, 1)) if rng.random() < 0.8 else rng.randrange(max(len(value) - 8, 1))
            value[at : at + 8] = rng.choice(EXTREMES)
    made[name] = bytes(value)
    return made


def attempt(make: Callable[[], Any], cells: Mapping[bytes, bytes], records: Sequence[Any]) -> str:
    """Load cells, go on, and say how that ended: ``fine``, ``refused: …``, or ``WRONG: …``."""
    state = make()
    try:
        state.load(cells.items())
        state.process(records)
        state.changed()
        state.deadline()
        state.counters()
    except ValueError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - what else comes is what is looked for
        return f"WRONG: {type(error).__name__}: {error}"
    return "fine"


def _main() -> None:
    name, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    make, cells, records = MAKERS[name]()
    for number in range(seed, seed + count):
        with contextlib.suppress(BrokenPipeError):
            print(number, end=" ", flush=True)
            print(attempt(make, hostile(cells, random.Random(number)), records)[:300].replace("\n", " "), flush=True)


if __name__ == "__main__":
    _main()
