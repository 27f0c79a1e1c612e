"""Small settings, events with their log times, and every way to make records and polls of them."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from random import Random
from typing import Any, NamedTuple

from mlmm.events import (
    COLUMNS_TYPE,
    JSON,
    Failure,
    Label,
    Prediction,
    blocks_of,
    cloudevents_headers,
    encode_columns,
    encode_json,
)
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.settings import ServingSettings
from mlmm.runtime.settings.sections import DetectorSettings
from mlmm.stream_processors.serving import ServingProcessor

T0 = 1_760_000_040_000_000
"""A whole minute: windows of 1, 2, 5, 10 and 60 s begin here."""
S = 1_000_000
TYPES = {Prediction: "mlmm.predictions.v1", Label: "mlmm.labels.v1", Failure: "mlmm.failures.v1"}


class Logged(NamedTuple):
    """An event and when the log took it; None is a tick."""

    log_time: int
    event: Prediction | Label | Failure | None
    key: bytes = b""
    """The record's key: the model, or ``model#shard``."""


def settings(*, detectors: DetectorSettings | None = None, **changed: Any) -> ServingSettings:
    """Make settings so small that everything happens soon."""
    small = {
        "windows": (10.0,),
        "allowed_lateness": 2.0,
        "idle_after": 20.0,
        "label_horizon": 100.0,
        "max_pending": 1000,
        "last": 100,
        "max_event_ahead": 300.0,
    }
    return ServingSettings(**{**small, **changed}, detectors=detectors or DetectorSettings(series=()))


def prediction(
    id_: str, at: float, output: Any = 1, *, model: str = "m", log: float | None = None, **fields: Any
) -> Logged:
    event = Prediction(
        prediction_id=id_, time=T0 + round(at * S), model=model.partition("#")[0], output=output, **fields
    )
    return Logged(T0 + round((at if log is None else log) * S), event, model.encode())


def label(id_: str, at: float, value: Any = 1, *, model: str = "m", log: float | None = None) -> Logged:
    event = Label(prediction_id=id_, time=T0 + round(at * S), model=model.partition("#")[0], value=value)
    return Logged(T0 + round((at if log is None else log) * S), event, model.encode())


def failure(at: float, *, model: str = "m", log: float | None = None, latency: float | None = None) -> Logged:
    event = Failure(time=T0 + round(at * S), model=model.partition("#")[0], kind="ValueError", latency=latency)
    return Logged(T0 + round((at if log is None else log) * S), event, model.encode())


def tick(at: float) -> Logged:
    return Logged(T0 + round(at * S), None)


def record(offset: int, batch: Sequence[Logged], *, columns: bool = True) -> Record:
    """One record of events that share log time, key and type."""
    first = batch[0]
    if first.event is None:
        headers = cloudevents_headers("mlmm.tick.v1", "t", "test", first.log_time, JSON)
        return Record(offset, first.log_time, b"", b'{"time":%d}' % first.log_time, headers)
    kind = TYPES[type(first.event)]
    events = [each.event for each in batch]
    blocks = blocks_of(events) if columns else []
    if len(blocks) == 1:
        value, content = encode_columns(blocks[0]), COLUMNS_TYPE
    else:
        value, content = encode_json(events if len(events) > 1 else events[0]), JSON
    return Record(
        offset, first.log_time, first.key, value, cloudevents_headers(kind, "id", "test", first.log_time, content)
    )


def singly(events: Iterable[Logged]) -> list[Record]:
    """One record an event."""
    return [record(offset, [event]) for offset, event in enumerate(events)]


def packed(events: Sequence[Logged], random: Random) -> list[Record]:
    """Pack neighbours that may share a record, now more and now fewer of them, in either format."""
    records: list[Record] = []
    for _, group in groupby(events, key=lambda each: (each.log_time, each.key, type(each.event))):
        rest = list(group)
        while rest:
            count = 1 if rest[0].event is None else random.randint(1, len(rest))
            records.append(record(len(records), rest[:count], columns=random.random() < 0.7))
            del rest[:count]
    return records


def polls(records: Sequence[Record], random: Random, longest: int = 12) -> Iterable[Sequence[Record]]:
    """Cut records into polls."""
    at = 0
    while at < len(records):
        count = random.randint(1, longest)
        yield records[at : at + count]
        at += count


def run(events: Iterable[Logged], given: ServingSettings | None = None) -> tuple[Any, list[Output]]:
    """Fold one record an event, one poll all of them; return the state and what came out."""
    state = ServingProcessor(given or settings()).state()
    return state, list(state.process(singly(events)))


def reports(outputs: Iterable[Output], kind: str = "", window: str = "") -> list[dict[str, Any]]:
    """The reports among outputs, decoded."""
    found = [json.loads(each.value) for each in outputs if each.type == "mlmm.report.v1"]
    return [each for each in found if kind in ("", each["kind"]) and window in ("", each["window"])]


def bare(outputs: Iterable[Output]) -> list[tuple[Any, ...]]:
    """Outputs without the offset, which is a record's and not an event's."""
    return [(o.topic, o.key, o.type, o.id, o.time, o.value, o.headers) for o in outputs]
