"""Ticks: time as records of the log, so that a replay sees it pass as the first reader did."""

import msgspec

from mlmm.events.headers import cloudevents_headers, header
from mlmm.events.types import Tick
from mlmm.runtime.outbox import Message
from mlmm.runtime.processor import Record

__all__ = ["TYPE", "is_tick", "tick"]

TYPE = "mlmm.tick.v1"
_WIRE_TYPE = TYPE.encode()
_encoder = msgspec.json.Encoder()


def tick(topic: str, source: str, time: int) -> Message:
    """Make a tick for one input partition.

    Parameters
    ----------
    topic : str
        Logical name of the input.
    source : str
        ``ce_source`` of the partition's owner.
    time : int
        The owner's clock in microseconds: what an embedded broker stamps; a real one stamps its own log time.
    """
    headers = cloudevents_headers(TYPE, f"{source}@{time}", source, time, "application/json")
    return Message(topic, b"", _encoder.encode(Tick(time=time)), headers)


def is_tick(record: Record) -> bool:
    """Whether a record is a tick: the only one that may stand in any partition, having no key."""
    return not record.key and header(record.headers, "ce_type") == _WIRE_TYPE
