"""CloudEvents 1.0 attributes as Kafka headers (binary content mode)."""

from collections.abc import Sequence
from time import gmtime, strftime

__all__ = ["cloudevents_headers", "header", "rfc3339"]


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """Value of the first header of that name, or None."""
    for each, value in headers:
        if each == name:
            return value
    return None


def rfc3339(time: int) -> str:
    """Write microseconds since the epoch as ``2026-11-21T03:20:00.000001Z``."""
    seconds, micros = divmod(time, 1_000_000)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{micros:06d}Z"


def cloudevents_headers(
    type: str,  # noqa: A002 - CloudEvents' names
    id: str,  # noqa: A002
    source: str,
    time: int,
    content_type: str,
    *,
    correlationid: str | None = None,
    causationid: str | None = None,
    traceparent: str | None = None,
    expirytime: int | None = None,
    sequence: str | None = None,
) -> list[tuple[str, bytes]]:
    """Headers of one record, always in this order: the two that the engine needs come first.

    Parameters
    ----------
    type, id, source : str
        The attributes ``ce_type``, ``ce_id`` and ``ce_source``.
    time : int
        ``ce_time``, in microseconds since the epoch.
    content_type : str
        `JSON` or `COLUMNS_TYPE`.
    correlationid, causationid, traceparent, sequence : str, optional
        Extensions; left out where None or empty.
    expirytime : int, optional
        Extension, in microseconds since the epoch.
    """
    made = [
        ("ce_type", type.encode()),
        ("content-type", content_type.encode()),
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_source", source.encode()),
        ("ce_time", rfc3339(time).encode()),
    ]
    if correlationid:
        made.append(("ce_correlationid", correlationid.encode()))
    if causationid:
        made.append(("ce_causationid", causationid.encode()))
    if traceparent:
        made.append(("ce_traceparent", traceparent.encode()))
    if expirytime is not None:
        made.append(("ce_expirytime", rfc3339(expirytime).encode()))
    if sequence:
        made.append(("ce_sequence", sequence.encode()))
    return made
