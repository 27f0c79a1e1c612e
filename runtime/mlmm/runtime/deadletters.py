"""Records that do not keep the contract, as they go to people: with the reason in their headers.

A dead letter keeps key, value and headers as received; what a stranger put under the names below is left out, or the
record could say itself where it came from, and `mlmm dead-letters retry` would send it there.
"""

from typing import Final

from mlmm.events.errors import MalformedEvent
from mlmm.events.headers import header
from mlmm.runtime.processor import Output, Record

__all__ = [
    "ATTEMPT",
    "ERROR",
    "HEADERS_MOST",
    "KEY_MOST",
    "LEFT_OUT",
    "OFFSET",
    "OURS",
    "PARTITION",
    "RETRIED",
    "RETRY_OF",
    "SEQUENCE",
    "SOURCE",
    "TOPIC",
    "TRUNCATED",
    "VALUE_MOST",
    "dead_letter",
    "place",
]

ERROR: Final = "mlmm_error"
"""Header: what is wrong with the record."""
TOPIC: Final = "mlmm_topic"
"""Header: logical name of the topic that it was read from."""
PARTITION: Final = "mlmm_partition"
"""Header: partition that it was read from."""
OFFSET: Final = "mlmm_offset"
"""Header: offset that it was read at."""
SEQUENCE: Final = "mlmm_sequence"
"""Header: the letter's place among all that its worker put out. What is sent again after a crash has the same one."""
SOURCE: Final = "mlmm_source"
"""Header: the worker's partition that put it out, as in ``ce_source``."""
TRUNCATED: Final = "mlmm_truncated"
"""Header: bytes of the value, where it was left out. The record itself stands where it was read."""
LEFT_OUT: Final = "mlmm_left_out"
"""Header: ``"headers"``, ``"key"`` or both, where these were left out too."""
ATTEMPT: Final = "mlmm_attempt"
"""Header of a record that was retried: how often it was sent, the first time included; a letter of it keeps it."""
RETRY_OF: Final = "mlmm_retry_of"
"""Header of a record that was retried: id of the letter that it was."""
RETRIED: Final = "mlmm_retried"
"""Header of a marker: ``"begun"`` or ``"sent"``. A marker stands in the partition of the letter that it speaks of."""

OURS: Final = frozenset({ERROR, TOPIC, PARTITION, OFFSET, SEQUENCE, SOURCE, TRUNCATED, LEFT_OUT, RETRIED})
"""What only the harness and `mlmm dead-letters` may say of a letter."""

VALUE_MOST: Final = 900_000
"""Bytes of a value that a letter carries: with all else it fits what Kafka takes by default (1,048,588 bytes), and a
flood of large records does not fill the outbox in Redis."""
HEADERS_MOST: Final = 16_384
"""Bytes of headers that a letter carries."""
KEY_MOST: Final = 1_024
"""Bytes of a key that a letter carries; the longest one of the contract has 519."""
_SHORT: Final = 1_024
"""Bytes of a header that is kept where all of them together are too many."""


def dead_letter(record: Record, error: MalformedEvent) -> Output:
    """Make the dead letter of one record.

    Parameters
    ----------
    record : Record
        As received; key, value and headers are kept, as far as they are no longer than `KEY_MOST`, `VALUE_MOST` and
        `HEADERS_MOST`.
    error : MalformedEvent
        What is wrong with it.

    Returns
    -------
    Output
        To ``dead-letters``. A state does not know where it stands: the harness adds topic and partition (`place`).
    """
    headers = tuple(each for each in record.headers if each[0] not in OURS)
    added = [(ERROR, str(error).encode("utf-8", "backslashreplace")), (OFFSET, b"%d" % record.offset)]
    left_out = []
    if sum(len(name) + len(value or b"") for name, value in headers) > HEADERS_MOST:
        headers = tuple(each for each in headers if each[0] in _KNOWN and len(each[1] or b"") <= _SHORT)[: len(_KNOWN)]
        left_out.append("headers")
    key, value = record.key, record.value
    if len(key) > KEY_MOST:
        key = b""
        left_out.append("key")
    if len(value) > VALUE_MOST or left_out:
        added.append((TRUNCATED, b"%d" % len(value)))
        value = b""
    if left_out:
        added.append((LEFT_OUT, " ".join(left_out).encode()))
    return Output(
        topic="dead-letters",
        key=key,
        type="",
        id=(header(headers, "ce_id") or b"").decode("utf-8", "replace"),
        time=record.log_time,
        value=value,
        offset=record.offset,
        headers=(*headers, *added),
    )


_KNOWN: Final = frozenset(
    {"ce_type", "content-type", "ce_specversion", "ce_id", "ce_source", "ce_time", "ce_sequence", ATTEMPT, RETRY_OF}
)


def place(output: Output, topic: str, partition: int) -> tuple[tuple[str, bytes], ...]:
    """Headers of a dead letter with the place that it was read from.

    Parameters
    ----------
    output : Output
        What `dead_letter` made.
    topic : str
        Logical name of the input.
    partition : int
        Partition of the input.
    """
    return (*output.headers, (TOPIC, topic.encode()), (PARTITION, b"%d" % partition))
