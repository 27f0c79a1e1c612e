"""Objects that are not what their types say are refused by place and field: a user's process made them."""

import pytest

from mlmm.events import Checkpoint, Failure, Label, MalformedEvent, Metrics, Prediction, blocks_of
from tests.events.samples import TIME

HUGE = 10**400


def prediction(**fields):
    return Prediction(**({"prediction_id": "a", "time": TIME, "model": "m", "output": 1} | fields))


def label(**fields):
    return Label(**({"prediction_id": "a", "time": TIME, "model": "m", "value": 1} | fields))


def metrics(**fields):
    return Metrics(**({"run_id": "r", "attempt": "a", "time": TIME, "step": 0, "values": {"loss": 1.0}} | fields))


FAULTS = [
    (prediction(prediction_id="\ud800"), "prediction_id"),
    (prediction(model="\ud800"), "model"),
    (prediction(features={"x": HUGE}), "features.x"),
    (prediction(features={"x": [1]}), "features.x"),
    (prediction(features={"x": "\ud800"}), "features.x"),
    (prediction(features={"\ud800": 1}), "features"),
    (prediction(segments={"s": "\ud800"}), "segments.s"),
    (prediction(output=HUGE), "output"),
    (prediction(output=None), "output"),
    (prediction(output="\ud800"), "output"),
    (prediction(positive=HUGE), "positive"),
    (prediction(positive="\ud800"), "positive"),
    (prediction(threshold=HUGE), "threshold"),
    (prediction(threshold=float("nan")), "threshold"),
    (prediction(version="\ud800"), "version"),
    (prediction(score=HUGE), "score"),
    (prediction(score={"a": HUGE}), "score.a"),
    (prediction(score={"\ud800": 1}), "score"),
    (prediction(latency="fast"), "latency"),
    (prediction(time=1), "time"),
    (label(value=HUGE), "value"),
    (label(weight=HUGE), "weight"),
    (Failure(time=TIME, model="m", kind="\ud800"), "kind"),
    (Failure(time=TIME, model="m", kind="k", status=2**64), "status"),
    (metrics(values={"loss": HUGE}), "values.loss"),
    (metrics(step=2**63), "step"),
]


@pytest.mark.parametrize(("event", "field"), FAULTS)
def test_a_value_that_cannot_be_packed_is_named(event, field):
    with pytest.raises(MalformedEvent) as caught:
        blocks_of([event], alone=True)
    assert caught.value.field == field


@pytest.mark.parametrize(("event", "field"), FAULTS)
def test_its_place_among_others_is_named_too(event, field):
    good = {Prediction: prediction(), Label: label(), Metrics: metrics()}.get(type(event), label())
    with pytest.raises(MalformedEvent) as caught:
        blocks_of([good, good, event])
    assert caught.value.field == f"[2].{field}"


def test_a_huge_class_beside_strings_is_named():
    with pytest.raises(MalformedEvent, match=r"\[1\].value"):
        blocks_of([label(value="x"), label(value=HUGE)])


def test_an_event_without_columns_is_named():
    checkpoint = Checkpoint(run_id="r", attempt="a", time=TIME, step=0, uri="u", size=1, sha256="")
    with pytest.raises(MalformedEvent, match=r"\[1\]: Checkpoint has no columns"):
        blocks_of([label(), checkpoint])


def test_no_events_make_no_blocks():
    assert blocks_of([]) == []
