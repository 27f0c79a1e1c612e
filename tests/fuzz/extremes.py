"""Records that keep the contract to the letter and go to its edges: legal for the codec, hard on a processor."""

import random
import struct
from typing import Any

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    FailureBlock,
    FailureHead,
    LabelBlock,
    LabelHead,
    MetricsBlock,
    MetricsHead,
    PredictionBlock,
    PredictionHead,
    encode_columns,
    encode_json,
    types,
)
from mlmm.events.limits import TIME_MIN
from tests.fuzz.cases import Case
from tests.fuzz.seeds import case

__all__ = ["extreme"]

FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1e308, -1e308, 1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -5e-324,
    2.2250738585072014e-308, 1e-300, 1e16, -1e16, 3.141592653589793, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
FINITE = FLOATS[:-3]
INTEGERS = (0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63), 10**18)
NAMES = ("a", "", "é" * 256, "\x01" * 512, '"' * 512, "\\" * 512, "a b", "error", "predictions", "\u202e", "x" * 512)
MODELS = ("m", "fraud", "\x01" * 512, "日" * 170, '"quoted"', "a b", "*", "[x]", "x" * 512)
RUNS = ("run", "\x01" * 512, "*", "日" * 170)
ATTEMPTS = ("a1", "a2", "x" * 512)
WIDTHS = (0, 1, 3, 33, 300, 4096)


def _f64(rng: random.Random, count: int, values: tuple[float, ...] = FLOATS) -> bytes:
    if rng.random() < 0.5:
        return struct.pack("<d", rng.choice(values)) * count
    few = [struct.pack("<d", rng.choice(values)) for _ in range(16)]
    return b"".join(rng.choice(few) for _ in range(count))


def _names(rng: random.Random, count: int) -> tuple[str, ...]:
    long = count <= 33 and rng.random() < 0.3
    names = [
        f"{number}" + (rng.choice(NAMES).encode()[:500].decode(errors="ignore") if long else "f")
        for number in range(count)
    ]
    rng.shuffle(names)
    return tuple(names)


def _times(rng: random.Random, now: int, n: int) -> bytes:
    edges = (now, now + 299_000_000, TIME_MIN, now - 1, now - 60_000_000, now - 86_400_000_000, now - 59_999_999)
    return b"".join(struct.pack("<q", rng.choice(edges)) for _ in range(n))


def _ids(rng: random.Random, n: int) -> tuple[bytes, bytes]:
    kind = rng.randrange(4)
    ids = [
        (b"same", b"%d" % number, b"%d" % rng.randrange(40), f"{'é' * 255}{number % 100:02}".encode())[kind]
        for number in range(n)
    ]
    return b"".join(ids), struct.pack(f"<{n}I", *map(len, ids))


def _classes(rng: random.Random, n: int) -> tuple[bytes, tuple[Any, ...]]:
    if rng.random() < 0.5:
        return _f64(rng, n), ()
    count = rng.choice((1, 2, 3, 300, 10_000))
    classes: tuple[Any, ...] = tuple(
        rng.choice((f"class {number}", float(number), number % 2 == 0)) for number in range(count)
    )
    return b"".join(struct.pack("<d", rng.randrange(count)) for _ in range(n)), classes


def _predictions(rng: random.Random, now: int) -> Case:
    n, width = rng.choice((1, 2, 50)), rng.choice(WIDTHS)
    n = 1 if width > 300 else n
    model = rng.choice(MODELS)
    segments = rng.choice((0, 1, 2, 40))
    values = rng.choice((1, 3, 3_000))
    output, classes = _classes(rng, n)
    ids, lengths = _ids(rng, n)
    head = PredictionHead(
        model=model, version=rng.choice((None, "1", "\x01" * 8_192, f"v{rng.random()}")), features=_names(rng, width),
        task=rng.choice(("binary", "multiclass", "regression")), positive=rng.choice((1, "yes", -0.0, 1e308, True)),
        threshold=rng.choice((None, *FINITE)), route=rng.choice(("champion", "challenger", "shadow")),
        segments=tuple(f"s{number}" for number in range(segments)),
    )  # fmt: skip
    codes = (0, values - 1, 0xFFFFFFFF)
    block = PredictionBlock(
        head=head, n=n, ids=ids, id_lengths=lengths, time=_times(rng, now, n), output=output, classes=classes,
        features=_f64(rng, n * width), latency=rng.choice((b"", _f64(rng, n))), score=rng.choice((b"", _f64(rng, n))),
        weight=rng.choice((b"", _f64(rng, n))), value=rng.choice((b"", _f64(rng, n))),
        segments=b"".join(struct.pack("<I", rng.choice(codes)) for _ in range(n * segments)),
        segment_values=tuple(tuple(f"v{number}" for number in range(values)) for _ in range(segments)),
    )  # fmt: skip
    key = model if rng.random() < 0.8 else f"{model}#{rng.randrange(3)}"
    return case("serving", key.encode(), "mlmm.predictions.v1", COLUMNS_TYPE, encode_columns(block), "predictions")


def _labels(rng: random.Random, now: int) -> Case:
    n, model = rng.choice((1, 2, 50)), rng.choice(MODELS)
    value, classes = _classes(rng, n)
    ids, lengths = _ids(rng, n)
    block = LabelBlock(
        head=LabelHead(model=model), n=n, ids=ids, id_lengths=lengths, time=_times(rng, now, n), value=value,
        classes=classes, weight=rng.choice((b"", _f64(rng, n))),
    )  # fmt: skip
    return case("serving", model.encode(), "mlmm.labels.v1", COLUMNS_TYPE, encode_columns(block), "labels")


def _failures(rng: random.Random, now: int) -> Case:
    n, model = rng.choice((1, 50)), rng.choice(MODELS)
    block = FailureBlock(
        head=FailureHead(model=model, version=rng.choice((None, "1"))), n=n, time=_times(rng, now, n),
        kinds=tuple(rng.choice(NAMES) for _ in range(n)), status=struct.pack("<q", rng.choice(INTEGERS)) * n,
        latency=rng.choice((b"", _f64(rng, n))),
    )  # fmt: skip
    return case("serving", model.encode(), "mlmm.failures.v1", COLUMNS_TYPE, encode_columns(block), "failures")


def _metrics(rng: random.Random, now: int) -> Case:
    n, width, run = rng.choice((1, 2, 200)), rng.choice(WIDTHS), rng.choice(RUNS)
    n = 1 if width > 300 else n
    head = MetricsHead(
        run_id=run, attempt=rng.choice(ATTEMPTS), names=("loss", "val/accuracy", *_names(rng, width))[:4_096],
        phase=rng.choice(("train", "validation", "\x01" * 128, "")),
    )  # fmt: skip
    block = MetricsBlock(
        head=head, n=n, step=b"".join(struct.pack("<q", rng.choice(INTEGERS)) for _ in range(n)),
        time=_times(rng, now, n), values=_f64(rng, n * len(head.names)),
    )  # fmt: skip
    return case("training", run.encode(), "mlmm.run.metrics.v1", COLUMNS_TYPE, encode_columns(block), "metrics")


def _trigger(rng: random.Random) -> types.Trigger:
    metric = rng.choice(("loss", "val/accuracy", "*", "\x01" * 8_000, "[" * 100, "f1"))
    mode = rng.choice(("max", "min"))
    return rng.choice((
        types.Falling(
            metric=metric, mode=mode, patience=rng.choice((1, 2, 1_000_000)), drop=rng.choice((5e-324, 1e308)),
            alpha=rng.choice((1e-9, 1.0)),
        ),
        types.FallingStrict(metric=metric, mode=mode, count=rng.choice((1, 2, 1_000_000))),
        types.NotFinite(metric=metric),
        types.Plateau(metric=metric, mode=mode, evaluations=1, min_delta=rng.choice((0.0, 1e308))),
    ))  # fmt: skip


def _text(rng: random.Random) -> str:
    return rng.choice(("", "why", "\x01" * 8_192, "日" * 2_730, '"' * 8_192, "\u202e"))


def _integer(rng: random.Random) -> int | None:
    return rng.choice((None, *INTEGERS))


def _life(rng: random.Random, now: int) -> Case:
    run, attempt = rng.choice(RUNS), rng.choice(ATTEMPTS)
    one = {"run_id": run, "attempt": attempt, "time": rng.choice((now, TIME_MIN, now + 299_000_000))}
    step = rng.choice(INTEGERS)
    event: types.Event = rng.choice((
        types.RunStarted(
            **one, experiment=rng.choice(("", "e", "\x01" * 512)),
            triggers=tuple(_trigger(rng) for _ in range(rng.choice((0, 2, 32)))),
            params={"seed": 2**64 - 1, "deep": [[[[]]]], "x" * 9_000: "y" * 9_000}, total_steps=_integer(rng),
            model=rng.choice((None, *MODELS)), resumed_from=_integer(rng),
            heartbeat_every=rng.choice((0.1, 10.0, 86_400.0)),
        ),
        types.Heartbeat(**one, step=_integer(rng), reader_age=rng.choice((None, *FINITE))),
        types.Checkpoint(**one, step=step, uri=_text(rng), size=rng.choice(INTEGERS), sha256=_text(rng)),
        types.RunEnded(
            **one, status=rng.choice(("completed", "stopped", "interrupted", "failed", "lost")), error=_text(rng),
            last_step=_integer(rng), resumable_from=_integer(rng),
        ),
        types.Acked(
            command_id=rng.choice(("c", "\x01" * 512)),
            state=rng.choice(("accepted", "completed", "rejected", "expired")), time=now,
            target=run, attempt=rng.choice((None, attempt)), reason=_text(rng),
            checkpoint=rng.choice((None, _text(rng))), step=_integer(rng),
        ),
    ))  # fmt: skip
    kind = next(name for name, of in types.TYPES.items() if type(event) is of)
    return case("training", run.encode(), kind, JSON, encode_json(event), kind)


def _subject(rng: random.Random) -> types.Subject:
    model = rng.choice(MODELS)
    more = {"version": f"v{rng.random()}", "segment": _text(rng), "route": "shadow"}
    return types.Subject(model=model, **{name: each for name, each in more.items() if rng.random() < 0.4})


def _finding(rng: random.Random, now: int) -> Case:
    time = rng.choice((now, now - 1, TIME_MIN, now + 299_000_000, now - 86_400_000_000 * 40))
    subject = _subject(rng)
    key = subject.model or ""
    event: types.Event
    kind = rng.randrange(4)
    if kind == 0:
        wide = rng.choice((0, 3, 4_000))
        event = types.Report(
            subject=subject, kind=rng.choice(("service", "performance", "training")),
            window=rng.choice(("60s", _text(rng))), start=rng.choice((TIME_MIN, time - 60_000_000)),
            end=time, log_time=time, events=rng.choice(INTEGERS),
            figures={"accuracy": rng.choice(FINITE), **{f"f{number}": rng.choice(FINITE) for number in range(wide)}},
            undefined={"f1": _text(rng)}, coverage=rng.choice((None, *FINITE)), revision=rng.choice(INTEGERS),
        )  # fmt: skip
    elif kind == 1:
        event = types.Drift(
            subject=subject, series=rng.choice(("error", f"feature:{_text(rng)[:512]}")), detector=_text(rng),
            params={"delta": rng.choice(FINITE)}, before=rng.choice(FINITE), after=rng.choice(FINITE),
            observed=rng.choice(INTEGERS), began=rng.choice(INTEGERS), event_time=time, log_time=time,
            history=tuple(rng.choice(FINITE) for _ in range(rng.choice((0, 5, 4_096)))),
            history_block=rng.choice(INTEGERS),
        )  # fmt: skip
    elif kind == 2:
        key = run = rng.choice(RUNS)
        event = types.RunState(
            run_id=run, attempt=rng.choice(ATTEMPTS), experiment=rng.choice(("", "e")), event_time=time, log_time=time,
            status=rng.choice(("running", "completed", "stopped", "interrupted", "failed", "lost")), step=_integer(rng),
            model=rng.choice((None, *MODELS)), error=_text(rng), resumable_from=_integer(rng), checkpoint=_text(rng),
            trigger=rng.choice((None, "falling", _text(rng))), metric=rng.choice((None, _text(rng))),
            reason=_text(rng), started=rng.choice((None, time)),
            figures={f"f{number}": rng.choice(("NaN", *FINITE)) for number in range(rng.choice((0, 4_000)))},
            history=tuple(rng.choice(FINITE) for _ in range(rng.choice((0, 5, 4_096)))),
        )  # fmt: skip
    else:
        key = rng.choice((*MODELS, *RUNS))
        event = types.CommandState(
            command_id=rng.choice(("c", "\x01" * 512)), log_time=time, target=key, reason=_text(rng),
            state=rng.choice(("accepted", "completed", "rejected", "expired", "superseded")), checkpoint=_text(rng),
            run_id=rng.choice((None, *RUNS)), attempt=rng.choice((None, *ATTEMPTS)),
        )  # fmt: skip
    name = next(name for name, of in types.TYPES.items() if type(event) is of)
    return case("findings", key.encode(), name, JSON, encode_json(event), name)


def extreme(rng: random.Random, now: int) -> Case:
    """Make one record; ``now`` is the log time, in microseconds, at which it will be read."""
    make = rng.choice(
        (_predictions, _predictions, _labels, _labels, _failures, _metrics, _metrics, _life, _life, _finding)
    )
    return make(rng, now)
