"""Which stack a prediction belongs to, learnt from the predictions themselves; and the careful way into it."""

import struct
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, Literal, NamedTuple

from mlmm.events.columns import PredictionHead
from mlmm.events.faults import check_text
from mlmm.events.limits import NAMES
from mlmm.producers.capture import answer, feature, mapping, number, optional_number, refuse, segment_value
from mlmm.producers.intake import Intake
from mlmm.producers.predictions import Columns, PredictionStack, Shape

__all__ = ["Call", "ModelTraits", "Shapes"]

_MOST = 512
"""Shapes that are remembered. A model has one or a few; features under ever new names must not fill the memory."""
_TEXTS = frozenset({str, type(None)})
_ROUTES = ("champion", "challenger", "shadow")


class ModelTraits(NamedTuple):
    """What a monitor says of its model."""

    model: str
    version: str | None
    task: Literal["binary", "multiclass", "regression"]
    positive: float | str | bool
    threshold: float | None
    segment_by: tuple[str, ...]
    shards: int


class Call(NamedTuple):
    """What `Monitor.log_prediction` was called with, once id and time are settled."""

    prediction_id: str
    time: int
    features: Mapping[str, Any]
    output: Any
    score: Any
    latency: Any
    weight: Any
    value: Any
    segments: Mapping[str, Any] | None
    version: str | None
    route: str | None

    @property
    def fixed(self) -> tuple[Any, ...]:
        """Time, output, score, latency, weight and value: the beginning of a row."""
        return (
            self.time,
            0.0 if isinstance(self.output, str) else self.output,
            nan if self.score is None or isinstance(self.score, Mapping) else self.score,
            nan if self.latency is None else self.latency,
            nan if self.weight is None else self.weight,
            nan if self.value is None else self.value,
        )


class Shapes:
    """The stacks of one model.

    Parameters
    ----------
    intake : Intake
    traits : ModelTraits
    """

    def __init__(self, intake: Intake, traits: ModelTraits) -> None:
        self._intake = intake
        self._traits = traits
        self._stacks: dict[Shape, PredictionStack] = {}
        self._forms: dict[tuple[Any, ...], PredictionStack] = {}
        self._orders: dict[frozenset[str], tuple[str, ...]] = {}
        self._kinds: dict[str, str] = {}

    def stack(self, shape: Shape) -> PredictionStack:
        """Return the stack of a shape; `MalformedEvent` names the feature that can't be one."""
        found = self._stacks.get(shape)
        if found is None:
            found = self._make(shape)
            if len(self._stacks) >= _MOST:  # the intake holds those that have something to send
                self._stacks.clear()
                self._forms.clear()
                self._orders.clear()
                self._kinds.clear()
            self._stacks[shape] = found
        return found

    def _make(self, shape: Shape) -> PredictionStack:
        traits = self._traits
        if len(shape.names) > NAMES:
            raise refuse("features", len(shape.names), f"at most {NAMES} features")
        for name in (*shape.names, *shape.segments, *shape.classes):
            check_text(name, f"features.{name[:60]!r}")
        if shape.version is not None:
            check_text(shape.version, "version")
        segment_by = tuple(name for name in traits.segment_by if name not in shape.segments)
        head = PredictionHead(
            model=traits.model,
            version=shape.version,
            task=traits.task,
            positive=traits.positive,
            threshold=traits.threshold,
            route=shape.route,  # type: ignore[arg-type]  # was held against the three
            features=tuple(name for name, kind in zip(shape.names, shape.kinds, strict=True) if kind == "n"),
            categories=tuple(name for name, kind in zip(shape.names, shape.kinds, strict=True) if kind == "s"),
            segments=shape.segments + segment_by,
        )
        return PredictionStack(self._intake, shape, head, shards=traits.shards, segment_by=segment_by)

    def route(self, route: object) -> str:
        """Return a route, ``champion`` for None."""
        if route is None:
            return "champion"
        if route not in _ROUTES:
            raise refuse("route", route, f"one of {', '.join(_ROUTES)}")
        return str(route)

    def version(self, version: object) -> str | None:
        """Return a version, the monitor's for None."""
        if version is None:
            return self._traits.version
        if not isinstance(version, str):
            raise refuse("version", version, "a string")
        return version

    def kind_of(self, name: str, *, texts: bool, numbers: bool) -> str:
        """Return a feature's kind; where all is missing, the one that it had before, or a number."""
        if texts or numbers:
            self._kinds[name] = "s" if texts else "n"
        return self._kinds.get(name, "n")

    def capture(self, call: Call) -> tuple[PredictionStack, Columns]:
        """Return a prediction of any shape as its stack takes it.

        Raises
        ------
        MalformedEvent
            Naming the argument that is wrong.
        """
        classes = tuple(mapping(call.score, "score")) if isinstance(call.score, Mapping) else ()
        names = [*call.features]
        form = (
            tuple(names),
            call.version,
            call.route,
            tuple(call.segments or ()),
            isinstance(call.output, str),
            classes,
        )
        stack = self._forms.get(form)
        if stack is not None and stack.names == names:
            captured = self._again(stack, call)
            if captured is not None:
                return stack, captured
        return self._anew(form, call, classes)

    def _again(self, stack: PredictionStack, call: Call) -> Columns | None:
        """Capture as the last call of this form was, or return None where something is of another kind."""
        values = tuple(call.features.values())
        texts = stack.texts_of(values)
        segments = tuple(call.segments.values()) if call.segments else ()
        if not (_TEXTS.issuperset(map(type, texts)) and _TEXTS.issuperset(map(type, segments))):
            return None
        numbers = stack.features_of(values)
        fixed = call.fixed
        try:
            row = stack.pack(*fixed, *numbers)
        except struct.error:
            try:
                row = stack.pack(*fixed, *[nan if value is None else value for value in numbers])
            except struct.error:
                return None
        if fixed[1] != fixed[1]:  # NaN
            return None
        try:
            scores = stack.pack_scores(*call.score.values()) if stack.shape.classes else b""
        except struct.error:
            return None
        return _columns(stack, call, row, (texts, segments), scores)

    def _anew(self, form: tuple[Any, ...], call: Call, classes: tuple[str, ...]) -> tuple[PredictionStack, Columns]:
        features = mapping(call.features, "features")
        names = self._orders.setdefault(frozenset(features), tuple(features))
        values = [feature(features[name], f"features.{name}") for name in names]
        kinds = "".join(
            self.kind_of(name, texts=isinstance(value, str), numbers=isinstance(value, float))
            for name, value in zip(names, values, strict=True)
        )
        said = answer(call.output, "output")
        given = mapping(call.segments or {}, "segments")
        segments = tuple(segment_value(each, f"segments.{name}") for name, each in given.items())
        optional = [
            number(each, name)
            for name, each in zip(("score", "latency", "weight", "value"), call.fixed[2:], strict=True)
        ]
        scores = [_probability(call.score[name], name) for name in classes]
        shape = Shape(
            names=names,
            kinds=kinds,
            version=self.version(call.version),
            route=self.route(call.route),
            segments=tuple(given),
            answer="s" if isinstance(said, str) else "n",
            classes=classes,
        )
        stack = self.stack(shape)
        self._forms[form] = stack
        numbers = [nan if value is None else value for value in _of_kind(values, kinds, "n")]
        row = stack.pack(call.time, 0.0 if isinstance(said, str) else said, *optional, *numbers)
        texts = tuple(_of_kind(values, kinds, "s"))
        return stack, _columns(stack, call, row, (texts, segments), stack.pack_scores(*scores) if classes else b"")


def _columns(
    stack: PredictionStack,
    call: Call,
    row: bytes,
    strings: tuple[tuple[str | None, ...], tuple[str | None, ...]],
    scores: bytes,
) -> Columns:
    texts, segments = strings
    return Columns(
        [call.prediction_id],
        [row],
        [texts] if texts else [],
        [segments] if segments else [],
        [str(call.output)] if stack.shape.answer == "s" else [],
        [scores] if scores else [],
    )


def _of_kind(values: Sequence[Any], kinds: str, wanted: str) -> list[Any]:
    return [value for value, kind in zip(values, kinds, strict=True) if kind == wanted]


def _probability(value: object, name: str) -> float:
    given = optional_number(value, f"score.{name}")
    return nan if given is None else given
