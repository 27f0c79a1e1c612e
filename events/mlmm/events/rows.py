"""Single events of the four column types → blocks: how JSON enters the engine, and how an emitter packs."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from mlmm.events import pack
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
from mlmm.events.faults import UNDECODABLE, check_text, malformed
from mlmm.events.heads import Head, intern
from mlmm.events.limits import NAME_BYTES, NAMES, Limits
from mlmm.events.pack import Group
from mlmm.events.types import TYPES, Event, Failure, Label, Metrics, Prediction

__all__ = ["blocks_of", "decode_rows"]

_one_or_many: dict[str, Any] = {name: of | list[of] for name, of in TYPES.items()}  # type: ignore[valid-type]  # made at run time
_decoders = {name: msgspec.json.Decoder(of) for name, of in _one_or_many.items()}


def decode_rows(ce_type: str, value: bytes, limits: Limits) -> tuple[list[Any], bool]:
    """Events of a JSON record, and whether it is one event rather than an array."""
    decoder = _decoders.get(ce_type)
    if decoder is None:
        raise MalformedEvent(f"unknown type {ce_type!r}", field="ce_type")
    try:
        decoded = decoder.decode(value)
    except UNDECODABLE as error:
        raise malformed(error) from None
    if not isinstance(decoded, list):
        return [decoded], True
    if not 0 < len(decoded) <= limits.events:
        raise MalformedEvent(f"{len(decoded)} events, 1..{limits.events} are allowed")
    return decoded, False


def _intern(head: Head, group: Group) -> Any:
    """Check a head; what is wrong with it is said of the first event that it was made of."""
    try:
        return intern(head).head
    except MalformedEvent as error:
        raise MalformedEvent(error.reason, field=group.path(0, error.field.removeprefix("head."))) from None


def _kinds(features: dict[str, float | str | bool | None]) -> dict[str, str]:
    return {
        name: "" if value is None else "text" if isinstance(value, str) else "number"
        for name, value in features.items()
    }


def _scalars(event: Prediction) -> tuple[Any, ...]:
    """What of a head is not names."""
    return (event.model, event.version, event.task, event.positive, event.threshold, event.route)


class _Predictions:
    """Predictions that share a head, gathered until one does not."""

    def __init__(self, first: Prediction) -> None:
        self.names = tuple(first.features)
        self.types = tuple(map(type, first.features.values()))
        self.kinds = _kinds(first.features)
        self.segments = first.segments.keys()
        self.score = first.score
        self.scalars = _scalars(first)

    def takes(self, event: Prediction) -> bool:
        """Whether an event shares the head: names in another order do, and None goes with any kind of feature."""
        if _scalars(event) != self.scalars or event.segments.keys() != self.segments:
            return False
        if tuple(event.features) == self.names and tuple(map(type, event.features.values())) == self.types:
            return self._takes_score(event.score)
        if event.features.keys() != self.kinds.keys():
            return False
        kinds = _kinds(event.features)
        if any(kind and self.kinds[name] and kind != self.kinds[name] for name, kind in kinds.items()):
            return False
        if not self._takes_score(event.score):
            return False
        self.kinds = {name: kind or kinds[name] for name, kind in self.kinds.items()}
        return True

    def _takes_score(self, score: float | dict[str, float] | None) -> bool:
        # A mapping goes with its like only: one of many classes would make a wide column of what others lack.
        if isinstance(self.score, dict) or isinstance(score, dict):
            return isinstance(self.score, dict) and isinstance(score, dict) and self.score.keys() == score.keys()
        return True


def _prediction_block(group: Group, gathered: _Predictions) -> PredictionBlock:
    events, first = group.events, group.events[0]
    head = PredictionHead(
        model=first.model,
        version=first.version,
        task=first.task,
        positive=pack.plain(first.positive, group.path(0, "positive")),
        threshold=_threshold(first.threshold, group),
        route=first.route,
        features=tuple(name for name, kind in gathered.kinds.items() if kind != "text"),
        categories=tuple(name for name, kind in gathered.kinds.items() if kind == "text"),
        segments=tuple(gathered.segments),
    )
    head = _intern(head, group)
    features, segments = [event.features for event in events], [event.segments for event in events]
    ids, id_lengths = pack.ids(group)
    output, classes = pack.outputs(group, "output")
    categories, dictionary = pack.coded(group, features, head.categories, "features")
    segment_codes, segment_values = pack.coded(group, segments, head.segments, "segments")
    score, scores, score_classes = _scores(group, gathered.score)
    return PredictionBlock(
        head=head,
        n=len(events),
        ids=ids,
        id_lengths=id_lengths,
        time=pack.times(group),
        output=output,
        classes=classes,
        features=pack.numbers(group, features, head.features, "features"),
        categories=categories,
        dictionary=dictionary,
        segments=segment_codes,
        segment_values=segment_values,
        score=score,
        scores=scores,
        score_classes=score_classes,
        latency=pack.optional(group, "latency"),
        weight=pack.optional(group, "weight"),
        value=pack.optional(group, "value"),
        index=group.at,
    )


def _threshold(value: float | None, group: Group) -> float | None:
    return None if value is None else float(pack.plain(value, group.path(0, "threshold")))


def _scores(group: Group, score: Any) -> tuple[bytes, bytes, tuple[str, ...]]:
    """The columns ``score``, ``scores`` and ``score_classes``."""
    if not isinstance(score, dict):
        return pack.optional(group, "score"), b"", ()
    names = tuple(score)
    if not 0 < len(names) <= NAMES:
        raise MalformedEvent(f"{len(names)} classes, 1..{NAMES} are allowed", field=group.path(0, "score"))
    for name in names:
        check_text(name, group.path(0, "score"), NAME_BYTES)
    rows = [event.score for event in group.events]
    return b"", pack.numbers(group, rows, names, "score"), names


def _label_block(group: Group) -> LabelBlock:
    head = _intern(LabelHead(model=group.events[0].model), group)
    ids, id_lengths = pack.ids(group)
    value, classes = pack.outputs(group, "value")
    return LabelBlock(
        head=head,
        n=len(group.events),
        ids=ids,
        id_lengths=id_lengths,
        time=pack.times(group),
        value=value,
        classes=classes,
        weight=pack.optional(group, "weight"),
        index=group.at,
    )


def _failure_block(group: Group) -> FailureBlock:
    events, first = group.events, group.events[0]
    head = _intern(FailureHead(model=first.model, version=first.version), group)
    messages = pack.texts(group, "message")
    statuses = [-1 if event.status is None else event.status for event in events]
    return FailureBlock(
        head=head,
        n=len(events),
        time=pack.times(group),
        kinds=pack.texts(group, "kind"),
        messages=messages if any(messages) else (),
        status=pack.integers(group, statuses, "status") if any(status != -1 for status in statuses) else b"",
        latency=pack.optional(group, "latency"),
        index=group.at,
    )


def _metrics_block(group: Group) -> MetricsBlock:
    events, first = group.events, group.events[0]
    names = tuple(first.values)
    head = _intern(MetricsHead(run_id=first.run_id, attempt=first.attempt, names=names, phase=first.phase), group)
    return MetricsBlock(
        head=head,
        n=len(events),
        step=pack.integers(group, [event.step for event in events], "step"),
        time=pack.times(group),
        values=pack.metrics(group, names),
        index=group.at,
    )


def _head_of(event: Any) -> tuple[Any, ...]:
    if isinstance(event, Label):
        return (_label_block, event.model)
    if isinstance(event, Failure):
        return (_failure_block, event.model, event.version)
    if isinstance(event, Metrics):
        return (_metrics_block, event.run_id, event.attempt, event.phase, event.values.keys())
    return ()


def _blocks(events: Sequence[Event], *, alone: bool) -> Iterator[Block]:
    gathered: _Predictions | None = None
    head: tuple[Any, ...] = ()
    start = 0
    for at, event in enumerate(chain(events, (None,))):
        if isinstance(event, Prediction):
            if gathered is not None and gathered.takes(event):
                continue
            following = ()
        else:
            following = _head_of(event)
            if event is not None and not following:
                raise MalformedEvent(f"{type(event).__name__} has no columns", field="" if alone else f"[{at}]")
            if following and following == head:
                continue
        if at > start:
            group = Group(events[start:at], start, alone)
            yield head[0](group) if gathered is None else _prediction_block(group, gathered)
        gathered = _Predictions(event) if isinstance(event, Prediction) else None
        head, start = following, at


def blocks_of(events: Sequence[Event], *, alone: bool = False) -> list[Block]:
    """Pack predictions, labels, failures and metrics into blocks; neighbours with an equal head share one.

    Parameters
    ----------
    events : sequence of Prediction, Label, Failure or Metrics
        A bool feature becomes 0 or 1, a number that is None becomes NaN. Names in another order make the same head; a
        feature that is a number here and a string there does not.
    alone : bool
        Whether ``events`` is one event rather than an array: its place is then left out of the path of a field at
        fault.

    Returns
    -------
    list of Block
        In the order of the events; ``index`` is the place of a block's first event in ``events``.

    Raises
    ------
    MalformedEvent
        Naming the place and field of what the contract does not allow.
    """
    return list(_blocks(events, alone=alone))
