"""Record → single events, of any type and format: for people, trainers, alerting, replay and tests."""

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import isnan

from mlmm.events.columns import Block, FailureBlock, LabelBlock, MetricsBlock, PredictionBlock
from mlmm.events.decode import check_key, decode_blocks, is_json
from mlmm.events.encode import COLUMNS_TYPE
from mlmm.events.errors import MalformedEvent
from mlmm.events.limits import DEFAULT_LIMITS, Limits
from mlmm.events.proofs import MISSING
from mlmm.events.rows import decode_rows
from mlmm.events.types import TYPES, Drift, Event, Failure, Label, Metrics, Prediction, Report, Subject
from mlmm.events.values import check_event

__all__ = ["decode_events", "events_of"]

_COLUMN_EVENTS = (Prediction, Label, Failure, Metrics)
_KEYS = {
    "mlmm.run.started.v1": "run_id",
    "mlmm.run.heartbeat.v1": "run_id",
    "mlmm.run.checkpoint.v1": "run_id",
    "mlmm.run.ended.v1": "run_id",
    "mlmm.run.state.v1": "run_id",
    "mlmm.command.acked.v1": "target",
    "mlmm.command.state.v1": "target",
    "mlmm.incident.v1": "incident_id",
    "mlmm.notification.v1": "notifier",
    "mlmm.notification.outcome.v1": "notification_id",
}
"""Type → the field that is its record key, where it is one field."""


def _f64(buffer: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(buffer) // 8}d", buffer)


def _i64(buffer: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(buffer) // 8}q", buffer)


def _u32(buffer: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(buffer) // 4}I", buffer)


def _optional(buffer: bytes, n: int) -> Sequence[float | None]:
    """Values with None for NaN; None for all where there is no column."""
    return [None if isnan(value) else value for value in _f64(buffer)] if buffer else [None] * n


def _ids(block: PredictionBlock | LabelBlock) -> list[str]:
    ends = accumulate(_u32(block.id_lengths), initial=0)
    return [block.ids[start:end].decode() for start, end in pairwise(ends)]


def _outputs(buffer: bytes, classes: tuple[str | float | bool, ...]) -> list[str | float | bool]:
    return [classes[int(value)] for value in _f64(buffer)] if classes else list(_f64(buffer))


def _coded(
    codes: bytes, dictionaries: tuple[tuple[str, ...], ...], names: tuple[str, ...], n: int
) -> list[dict[str, str | None]]:
    """Name → string of each row, None where it is missing."""
    width = len(names)
    every = _u32(codes)
    return [
        {
            name: None if code == MISSING else values[code]
            for name, values, code in zip(names, dictionaries, every[i * width : (i + 1) * width], strict=True)
        }
        for i in range(n)
    ]


def _scores(block: PredictionBlock) -> Sequence[float | dict[str, float] | None]:
    if not block.scores:
        return _optional(block.score, block.n)
    width = len(block.score_classes)
    every = _f64(block.scores)
    rows = (zip(block.score_classes, every[i * width : (i + 1) * width], strict=True) for i in range(block.n))
    return [{name: value for name, value in row if not isnan(value)} or None for row in rows]


def _predictions(block: PredictionBlock) -> Iterator[Prediction]:
    head, n = block.head, block.n
    width = len(head.features)
    numbers = _f64(block.features)
    ids, times, outputs = _ids(block), _i64(block.time), _outputs(block.output, block.classes)
    texts = _coded(block.categories, block.dictionary, head.categories, n)
    segments = _coded(block.segments, block.segment_values, head.segments, n)
    scores, latency = _scores(block), _optional(block.latency, n)
    weight, value = _optional(block.weight, n), _optional(block.value, n)
    for i in range(n):
        row = numbers[i * width : (i + 1) * width]
        features = {name: None if isnan(number) else number for name, number in zip(head.features, row, strict=True)}
        yield Prediction(
            prediction_id=ids[i],
            time=times[i],
            model=head.model,
            output=outputs[i],
            features={**features, **texts[i]},
            version=head.version,
            score=scores[i],
            task=head.task,
            positive=head.positive,
            threshold=head.threshold,
            latency=latency[i],
            segments={name: text for name, text in segments[i].items() if text is not None},
            weight=weight[i],
            value=value[i],
            route=head.route,
        )


def _labels(block: LabelBlock) -> Iterator[Label]:
    columns = zip(
        _ids(block),
        _i64(block.time),
        _outputs(block.value, block.classes),
        _optional(block.weight, block.n),
        strict=True,
    )
    for prediction_id, time, value, weight in columns:
        yield Label(prediction_id=prediction_id, time=time, model=block.head.model, value=value, weight=weight)


def _failures(block: FailureBlock) -> Iterator[Failure]:
    statuses: Sequence[int] = _i64(block.status) or [-1] * block.n
    messages = block.messages or ("",) * block.n
    columns = zip(_i64(block.time), block.kinds, messages, statuses, _optional(block.latency, block.n), strict=True)
    for time, kind, message, status, latency in columns:
        yield Failure(
            time=time,
            model=block.head.model,
            kind=kind,
            message=message,
            version=block.head.version,
            status=None if status == -1 else status,
            latency=latency,
        )


def _metrics(block: MetricsBlock) -> Iterator[Metrics]:
    head = block.head
    width = len(head.names)
    every = _f64(block.values)
    for i, (step, time) in enumerate(zip(_i64(block.step), _i64(block.time), strict=True)):
        yield Metrics(
            run_id=head.run_id,
            attempt=head.attempt,
            time=time,
            step=step,
            values=dict(zip(head.names, every[i * width : (i + 1) * width], strict=True)),
            phase=head.phase,
        )


def events_of(block: Block) -> list[Event]:
    """Unpack a block that `decode_blocks` or `blocks_of` made."""
    if isinstance(block, PredictionBlock):
        return list(_predictions(block))
    if isinstance(block, LabelBlock):
        return list(_labels(block))
    if isinstance(block, FailureBlock):
        return list(_failures(block))
    return list(_metrics(block))


def decode_events(
    ce_type: str, content_type: str, value: bytes, *, key: bytes | None = None, limits: Limits = DEFAULT_LIMITS
) -> list[Event]:
    """Decode a record of any type into single events.

    Parameters
    ----------
    ce_type : str
        A key of `TYPES`.
    content_type : str
        `JSON`, or `COLUMNS_TYPE` for the types in `COLUMNS`.
    value : bytes
        The record's value.
    key : bytes, optional
        The record's key; where given it must be the one that the events call for.
    limits : Limits
        Bounds on what is decoded.

    Raises
    ------
    MalformedEvent
        Naming the field at fault. Nothing else is raised for any bytes.
    """
    of = TYPES.get(ce_type)
    if of is None:
        raise MalformedEvent(f"unknown type {ce_type!r}", field="ce_type")
    if of in _COLUMN_EVENTS:
        blocks = decode_blocks(ce_type, content_type, value, key=key, limits=limits)
        return [event for block in blocks for event in events_of(block)]
    if not is_json(content_type):
        columns = f"; {ce_type} has no columns" if content_type == COLUMNS_TYPE else ""
        raise MalformedEvent(f"{content_type!r} is not JSON{columns}", field="content-type")
    if len(value) > limits.record_bytes:
        raise MalformedEvent(f"record of {len(value)} bytes, at most {limits.record_bytes} are allowed")
    events, alone = decode_rows(ce_type, value, limits)
    field = _KEYS.get(ce_type)
    for at, event in enumerate(events):
        path = "" if alone else f"[{at}]."
        check_event(event, path)
        if key is not None and field is not None:
            check_key(key, getattr(event, field).encode(), sharded=field == "target")
        elif key is not None and isinstance(event, Report | Drift):
            _check_subject_key(key, event.subject)
    return events


def _check_subject_key(key: bytes, subject: Subject) -> None:
    of = subject.model or subject.run or subject.host
    if not of:
        raise MalformedEvent("names neither model, run nor host", field="subject")
    check_key(key, of.encode(), sharded=subject.model is not None)
