"""A flood of records that break the contract, with good ones between them of which every event can be counted."""

import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec

from mlmm.events import (
    JSON,
    FallingStrict,
    Metrics,
    Prediction,
    Report,
    RunEnded,
    RunStarted,
    Subject,
    cloudevents_headers,
    encode_json,
)
from tests.fuzz.cases import Case
from tests.fuzz.extremes import extreme
from tests.fuzz.mutations import BYTES, mutate
from tests.fuzz.seeds import seeds

__all__ = ["Flood", "Sent"]

GOOD_EVERY = 250
"""Bad records between one round of good ones and the next."""
PREDICTIONS = 20
"""Predictions a round."""


class Sent(NamedTuple):
    """One record to be sent."""

    case: Case
    kind: str
    """``"good"``, ``"bad"`` (refused for certain) or ``"odd"`` (most are refused, some are legal by chance)."""
    partition: int | None = None
    """Where to, instead of by key."""


def _json(case: Case, name: str, value: object) -> bytes | None:
    tree = json.loads(case.value)
    first = tree[0] if isinstance(tree, list) else tree
    if name not in first:
        return None
    first[name] = value
    return json.dumps(tree).encode()


def _packed(case: Case, name: str, value: object) -> bytes | None:
    tree = msgspec.msgpack.decode(case.value)
    return msgspec.msgpack.encode(tree | {name: value}) if name in tree else None


_Breaking = Callable[[Case], Case | None]


def _field(name: str, *values: object) -> Iterator[_Breaking]:
    """Wrong values of one field; a case that has no such field is told by None."""
    packed = name in {"n", "head", "ids"}

    def breaking(case: Case, value: object) -> Case | None:
        if case.story.endswith(".columns") != packed or not case.story.endswith((".columns", ".json")):
            return None
        made = (_packed if packed else _json)(case, name, value)
        return None if made is None else msgspec.structs.replace(case, value=made)

    for value in values:
        yield partial(breaking, value=value)


def _header(name: str, value: bytes | None) -> _Breaking:
    def breaking(case: Case) -> Case:
        headers = tuple((each, value if each == name else old) for each, old in case.headers)
        return msgspec.structs.replace(case, headers=headers)

    return breaking


def _raw(change: Callable[[bytes], bytes]) -> _Breaking:
    return lambda case: msgspec.structs.replace(case, value=change(case.value))


def _key(key: bytes) -> _Breaking:
    return lambda case: msgspec.structs.replace(case, key=key)


SURE: tuple[_Breaking, ...] = (
    *_field("time", 253_402_300_799_000_000, -1, 0, None, "now", 1e308, 10**40, []),
    *_field("log_time", 253_402_300_799_000_000, -(10**30), "x"),
    *_field("prediction_id", "", "x" * 513, 7, "\ud800", None),
    *_field("model", "", "a#b", "\ud800", 1),
    *_field("step", 2**64, -(2**63) - 1, 0.5, float("nan"), float("inf")),
    *_field("features", {"x" * 513: 1}, {"a": []}, {f"{n}": n for n in range(4_097)}),
    *_field("n", 0, -1, 2**40, 2**63, "1", 0.5),
    *_field("ids", b"", b"\xff" * 8, b"\0" * 80_000, "x", None),
    *_field("head", {}, None, {"model": 1}, [[[]]], b""),
    _header("ce_type", b"mlmm.labels.v2"),
    _header("ce_type", b"\xff\xfe"),
    _header("ce_type", None),
    _header("content-type", b"text/html"),
    lambda case: msgspec.structs.replace(case, headers=()),
    _raw(lambda _: b""),
    _raw(lambda value: value[: len(value) // 2]),
    _raw(lambda value: value + b"\0"),
    _raw(lambda value: b"[" * 20_000 + value),
    _raw(lambda _: b"\xc6\xff\xff\xff\xff"),
    _raw(lambda _: b"\xdf\x7f\xff\xff\xff\xa1a"),
    _raw(lambda _: b'{"unknown":"' + b"x" * 100_000 + b'"}'),
    _key(b""),
    _key(b"nobody"),
    _key(b"k" * 50_000),
)
"""Each breaks the contract whatever it is done to (or says that it does not fit)."""


class Flood:
    """Records, a function of seed and time of beginning.

    Parameters
    ----------
    seed, count : int
        How many of them are not good.
    """

    def __init__(self, seed: int, count: int) -> None:
        self._rng = random.Random(seed)
        self._count = count
        self._seeds = [case for case in seeds() if case.topic != "commands"]
        self.rounds = -(-count // GOOD_EVERY)

    def __iter__(self) -> Iterator[Sent]:
        for number in range(self._count):
            if number % GOOD_EVERY == 0:
                yield from self._good(number // GOOD_EVERY)
            yield self._bad(number)
        yield from self._last()

    @property
    def predictions(self) -> int:
        """Good predictions, each to be counted once."""
        return self.rounds * PREDICTIONS

    def _bad(self, number: int) -> Sent:
        rng = self._rng
        case = rng.choice(self._seeds)
        kind = rng.random()
        if kind < 0.45:
            while (broken := rng.choice(SURE)(case)) is None:
                pass
            return Sent(self._marked(broken, number), "bad")
        if kind < 0.85:
            return Sent(
                self._marked(msgspec.structs.replace(case, value=rng.choice(BYTES)(case.value, rng)), number), "odd"
            )
        if kind < 0.87:
            return Sent(extreme(rng, _now()), "odd", rng.randrange(3))
        return Sent(mutate(case, rng), "odd", rng.randrange(3) if kind > 0.98 else None)

    def _marked(self, case: Case, number: int) -> Case:
        """One id comes twice here and there: what is malformed is told apart by its place alone."""
        return msgspec.structs.replace(case, headers=(*case.headers, ("number", b"%d" % (number - number % 3))))

    # --- good records ------------------------------------------------------------------------------------------------

    def _good(self, turn: int) -> Iterator[Sent]:
        now = _now()
        if turn == 0:
            # Fires at the last value, and only where each one before it was taken, once and in order.
            trigger = FallingStrict(metric="value", count=self.rounds - 1)
            started = RunStarted(
                run_id="good", attempt="a", time=now, experiment="flood", triggers=(trigger,), heartbeat_every=600.0
            )
            yield _sent("training", "good", "mlmm.run.started.v1", started)
        predictions = [
            Prediction(prediction_id=f"{turn}-{n}", time=now, model="good", output=n % 2) for n in range(PREDICTIONS)
        ]
        yield _sent("serving", "good", "mlmm.predictions.v1", predictions)
        metrics = Metrics(run_id="good", attempt="a", time=now, step=turn, values={"value": -float(turn)})
        yield _sent("training", "good", "mlmm.run.metrics.v1", metrics)
        report = Report(
            subject=Subject(model="watched"), kind="performance", window="2s", start=now + turn, end=now + turn + 1,
            log_time=now, events=100, figures={"accuracy": 0.5},
        )  # fmt: skip
        yield _sent("findings", "watched", "mlmm.report.v1", report)

    def _last(self) -> Iterator[Sent]:
        ended = RunEnded(run_id="good", attempt="a", time=_now(), status="completed", last_step=self.rounds - 1)
        yield _sent("training", "good", "mlmm.run.ended.v1", ended)


def _sent(topic: str, key: str, kind: str, event: object) -> Sent:
    headers = cloudevents_headers(kind, f"good-{time.monotonic_ns()}", "mlmm://flood/1", _now(), JSON)
    return Sent(Case(topic, key.encode(), encode_json(event), tuple(headers), "good"), "good")  # type: ignore[arg-type]


def _now() -> int:
    return time.time_ns() // 1_000
