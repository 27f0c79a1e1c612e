"""Single events of the four column types → blocks: how JSON enters the engine, and how small producers pack."""

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from math import inf, nan
from typing import Any

import msgspec

from mlmm.events.columns import (
    Block,
    FailureBlock,
    FailureHead,
    LabelBlock,
    LabelHead,
    MetricsBlock,
    MetricsHead,
    PredictionBlock,
    PredictionHead,
)
from mlmm.events.errors import MalformedEvent
from mlmm.events.faults import UNDECODABLE, check_id, check_text, check_time, malformed
from mlmm.events.heads import intern
from mlmm.events.limits import NAMES, Limits
from mlmm.events.proofs import MISSING
from mlmm.events.types import TYPES, Event, Failure, Label, Metrics, Prediction

__all__ = ["blocks_of", "decode_rows", "number_of"]

_SPELLED = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
_decoders = {name: msgspec.json.Decoder(of | list[of]) for name, of in TYPES.items()}  # type: ignore[valid-type]  # made at run time


def decode_rows(ce_type: str, value: bytes, limits: Limits) -> list[Any]:
    """Events of a JSON record: one, or an array of them."""
    decoder = _decoders.get(ce_type)
    if decoder is None:
        raise MalformedEvent(f"unknown type {ce_type!r}", field="ce_type")
    try:
        decoded = decoder.decode(value)
    except UNDECODABLE as error:
        raise malformed(error) from None
    events = decoded if isinstance(decoded, list) else [decoded]
    if not 0 < len(events) <= limits.events:
        raise MalformedEvent(f"{len(events)} events, 1..{limits.events} are allowed")
    return events


def number_of(value: float | str, field: str) -> float:
    """Number of a metric: itself, or ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` spelled out."""
    if isinstance(value, str):
        if value not in _SPELLED:
            raise MalformedEvent(f"{value!r} is no number, nor one of {', '.join(_SPELLED)}", field=field)
        return _SPELLED[value]
    return _float(value, field)


def _float(value: Any, field: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise MalformedEvent("is too large for a float64", field=field) from None


def _f64(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def _i64(values: Sequence[int], field: str) -> bytes:
    try:
        return struct.pack(f"<{len(values)}q", *values)
    except struct.error:
        raise MalformedEvent("does not fit into 64 bits", field=field) from None


def _optional(events: Sequence[Any], field: str, paths: Sequence[str]) -> bytes:
    """f64[n] of a field that may be None, or nothing where it always is."""
    values = [getattr(event, field) for event in events]
    if all(value is None for value in values):
        return b""
    return _f64(
        [nan if value is None else _float(value, path + field) for value, path in zip(values, paths, strict=True)]
    )


def _ids(events: Sequence[Any], paths: Sequence[str]) -> tuple[bytes, bytes]:
    ids = [check_id(event.prediction_id, f"{path}prediction_id") for event, path in zip(events, paths, strict=True)]
    return b"".join(ids), struct.pack(f"<{len(ids)}I", *map(len, ids))


def _times(events: Sequence[Any], paths: Sequence[str]) -> bytes:
    for event, path in zip(events, paths, strict=True):
        check_time(event.time, f"{path}time")
    return _i64([event.time for event in events], "time")


def _outputs(values: Sequence[Any], paths: Sequence[str]) -> tuple[bytes, tuple[str | float | bool, ...]]:
    """f64[n] and classes: numbers as they are; as soon as one is a string, indices into the distinct values."""
    if not any(isinstance(value, str) for value in values):
        return _f64([_float(value, path) for value, path in zip(values, paths, strict=True)]), ()
    places: dict[Any, int] = {}  # 1, 1.0 and True are one key, 1 and "1" are two: as in `code_of`
    for value, path in zip(values, paths, strict=True):
        if isinstance(value, str):
            check_text(value, path)
        elif value not in places:
            _float(value, path)
        places.setdefault(value, len(places))
    return _f64([float(places[value]) for value in values]), tuple(places)


def _coded(rows: Sequence[dict[str, Any]], names: tuple[str, ...]) -> tuple[bytes, tuple[tuple[str, ...], ...]]:
    """u32[n, len(names)] row by row, and the dictionary of each column."""
    dictionaries: list[dict[str, int]] = [{} for _ in names]
    codes = [
        MISSING if (value := row.get(name)) is None else dictionary.setdefault(value, len(dictionary))
        for row in rows
        for name, dictionary in zip(names, dictionaries, strict=True)
    ]
    return struct.pack(f"<{len(codes)}I", *codes), tuple(tuple(dictionary) for dictionary in dictionaries)


class _Predictions:
    """Predictions that share a head, gathered until one does not."""

    def __init__(self, first: Prediction, at: int) -> None:
        self.at = at
        self.events = [first]
        self.kinds = {name: _kind(value) for name, value in first.features.items()}
        self.segments = first.segments.keys()
        self.score = first.score
        self.same = _same(first)

    def take(self, event: Prediction) -> bool:
        """Add an event if it shares the head; names in another order do, and None goes with any kind of feature."""
        if (
            _same(event) != self.same
            or event.segments.keys() != self.segments
            or event.features.keys() != self.kinds.keys()
        ):
            return False
        kinds = {name: _kind(value) for name, value in event.features.items()}
        if kinds != self.kinds:
            if any(kind and self.kinds[name] and kind != self.kinds[name] for name, kind in kinds.items()):
                return False
            self.kinds = {name: kind or kinds[name] for name, kind in self.kinds.items()}
        if event.score is not None:
            if self.score is None:
                self.score = event.score
            elif isinstance(self.score, dict) != isinstance(event.score, dict) or (
                isinstance(self.score, dict)
                and isinstance(event.score, dict)
                and self.score.keys() != event.score.keys()
            ):
                return False
        self.events.append(event)
        return True

    def block(self, *, alone: bool) -> PredictionBlock:
        """Make the block; ``alone`` where it is one event that is no array, whose fields need no place in one."""
        events, first = self.events, self.events[0]
        paths = [""] if alone else [f"[{self.at + i}]." for i in range(len(events))]
        features = tuple(name for name, kind in self.kinds.items() if kind != "text")
        categories = tuple(name for name, kind in self.kinds.items() if kind == "text")
        segments = tuple(self.segments)
        try:
            known = intern(
                PredictionHead(
                    model=first.model,
                    version=first.version,
                    task=first.task,
                    positive=_plain(first.positive),
                    threshold=first.threshold,
                    route=first.route,
                    features=features,
                    categories=categories,
                    segments=segments,
                )
            )
        except MalformedEvent as error:
            raise _placed(error, paths[0]) from None
        for event, path in zip(events, paths, strict=True):
            for name in categories:
                if (text := event.features[name]) is not None:
                    check_text(text, f"{path}features.{name}")  # type: ignore[arg-type]  # its kind was seen
            for name in segments:
                check_text(event.segments[name], f"{path}segments.{name}")
        ids, id_lengths = _ids(events, paths)
        output, classes = _outputs([event.output for event in events], [f"{path}output" for path in paths])
        codes, dictionary = _coded([event.features for event in events], categories)
        segment_codes, segment_values = _coded([event.segments for event in events], segments)
        score, scores, score_classes = self._scores(paths)
        return PredictionBlock(
            head=known.head,
            n=len(events),
            ids=ids,
            id_lengths=id_lengths,
            time=_times(events, paths),
            output=output,
            classes=classes,
            features=_f64(
                [
                    nan if (value := event.features[name]) is None else _float(value, f"{path}features.{name}")
                    for event, path in zip(events, paths, strict=True)
                    for name in features
                ]
            ),
            categories=codes,
            dictionary=dictionary,
            segments=segment_codes,
            segment_values=segment_values,
            score=score,
            scores=scores,
            score_classes=score_classes,
            latency=_optional(events, "latency", paths),
            weight=_optional(events, "weight", paths),
            value=_optional(events, "value", paths),
            index=self.at,
        )

    def _scores(self, paths: Sequence[str]) -> tuple[bytes, bytes, tuple[str, ...]]:
        if not isinstance(self.score, dict):
            return _optional(self.events, "score", paths), b"", ()
        names = tuple(self.score)
        if not 0 < len(names) <= NAMES:
            raise MalformedEvent(f"{len(names)} classes, 1..{NAMES} are allowed", field=f"{paths[0]}score")
        for name in names:
            check_text(name, f"{paths[0]}score")
        rows = [event.score if isinstance(event.score, dict) else {} for event in self.events]
        values = [
            _float(row.get(name, nan), f"{path}score.{name}")
            for row, path in zip(rows, paths, strict=True)
            for name in names
        ]
        return b"", _f64(values), names


def _kind(value: float | str | bool | None) -> str:
    return "" if value is None else "text" if isinstance(value, str) else "number"


def _plain(value: float | str | bool) -> float | str | bool:
    """Equal numbers as one: what stands in a head is compared by its bytes."""
    return value if isinstance(value, str) else 1 if value == 1 else float(value)


def _same(event: Prediction) -> tuple[Any, ...]:
    return (event.model, event.version, event.task, event.positive, event.threshold, event.route)


def _placed(error: MalformedEvent, path: str) -> MalformedEvent:
    """Say where the event stands instead of where the head that was made of it does."""
    return MalformedEvent(error.reason, field=path + error.field.removeprefix("head."))


def _label_block(events: list[Label], at: int, paths: list[str]) -> LabelBlock:
    try:
        known = intern(LabelHead(model=events[0].model))
    except MalformedEvent as error:
        raise _placed(error, paths[0]) from None
    ids, id_lengths = _ids(events, paths)
    value, classes = _outputs([event.value for event in events], [f"{path}value" for path in paths])
    return LabelBlock(
        head=known.head,
        n=len(events),
        ids=ids,
        id_lengths=id_lengths,
        time=_times(events, paths),
        value=value,
        classes=classes,
        weight=_optional(events, "weight", paths),
        index=at,
    )


def _failure_block(events: list[Failure], at: int, paths: list[str]) -> FailureBlock:
    try:
        known = intern(FailureHead(model=events[0].model, version=events[0].version))
    except MalformedEvent as error:
        raise _placed(error, paths[0]) from None
    for event, path in zip(events, paths, strict=True):
        check_text(event.kind, f"{path}kind")
        check_text(event.message, f"{path}message")
    messages = tuple(event.message for event in events)
    status = [-1 if event.status is None else event.status for event in events]
    return FailureBlock(
        head=known.head,
        n=len(events),
        time=_times(events, paths),
        kinds=tuple(event.kind for event in events),
        messages=messages if any(messages) else (),
        status=_i64(status, "status") if any(event.status is not None for event in events) else b"",
        latency=_optional(events, "latency", paths),
        index=at,
    )


def _metrics_block(events: list[Metrics], at: int, paths: list[str]) -> MetricsBlock:
    first = events[0]
    names = tuple(first.values)
    try:
        known = intern(MetricsHead(run_id=first.run_id, attempt=first.attempt, names=names, phase=first.phase))
    except MalformedEvent as error:
        raise _placed(error, paths[0]) from None
    return MetricsBlock(
        head=known.head,
        n=len(events),
        step=_i64([event.step for event in events], f"{paths[0]}step"),
        time=_times(events, paths),
        values=_f64(
            [
                number_of(event.values[name], f"{path}values.{name}")
                for event, path in zip(events, paths, strict=True)
                for name in names
            ]
        ),
        index=at,
    )


def _head_of(event: Label | Failure | Metrics) -> tuple[Any, ...]:
    if isinstance(event, Label):
        return (Label, event.model)
    if isinstance(event, Failure):
        return (Failure, event.model, event.version)
    return (Metrics, event.run_id, event.attempt, event.phase, frozenset(event.values))


_MAKERS: dict[Any, Any] = {Label: _label_block, Failure: _failure_block, Metrics: _metrics_block}


def blocks_of(events: Sequence[Event]) -> list[Block]:
    """Pack predictions, labels, failures and metrics into blocks; neighbours with an equal head share one.

    Parameters
    ----------
    events : sequence of Prediction, Label, Failure or Metrics

    Returns
    -------
    list of Block
        In the order of the events; ``index`` is the place of a block's first event in ``events``. A bool feature becomes 0 or
        1, a number that is None becomes NaN; names in another order are the same head, a feature that is a number
        here and a string there is not.

    Raises
    ------
    MalformedEvent
        Naming the place and field of what the contract does not allow.
    """
    alone = len(events) == 1
    return list(_blocks(events, alone=alone))


def _blocks(events: Sequence[Event], *, alone: bool) -> Iterable[Block]:
    predictions: _Predictions | None = None
    others: list[Any] = []
    start = 0
    head: tuple[Any, ...] = ()
    for at, event in enumerate(chain(events, (None,))):
        if isinstance(event, Prediction):
            if predictions is not None and predictions.take(event):
                continue
            following: tuple[Any, ...] = ()
        elif isinstance(event, Label | Failure | Metrics):
            following = _head_of(event)
            if following == head:
                others.append(event)
                continue
        elif event is None:
            following = ()
        else:
            raise MalformedEvent(f"{type(event).__name__} has no columns", field="" if alone else f"[{at}]")
        if predictions is not None:
            yield predictions.block(alone=alone)
        if others:
            paths = [""] if alone else [f"[{start + i}]." for i in range(len(others))]
            yield _MAKERS[head[0]](others, start, paths)
        predictions = _Predictions(event, at) if isinstance(event, Prediction) else None
        others = [event] if following else []
        head, start = following, at
