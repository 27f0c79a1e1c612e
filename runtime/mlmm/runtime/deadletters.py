"""Records that do not keep the contract, as they go to people: whole, with the reason in their headers."""

from mlmm.events.errors import MalformedEvent
from mlmm.events.headers import header
from mlmm.runtime.processor import Output, Record

__all__ = ["ERROR", "OFFSET", "PARTITION", "TOPIC", "dead_letter", "place"]

ERROR = "mlmm_error"
"""Header: what is wrong with the record."""
TOPIC = "mlmm_topic"
"""Header: logical name of the topic that it was read from."""
PARTITION = "mlmm_partition"
"""Header: partition that it was read from."""
OFFSET = "mlmm_offset"
"""Header: offset that it was read at."""


def dead_letter(record: Record, error: MalformedEvent) -> Output:
    """Make the dead letter of one record.

    Parameters
    ----------
    record : Record
        As received; key, value and headers are kept.
    error : MalformedEvent
        What is wrong with it.

    Returns
    -------
    Output
        To ``dead-letters``. A state does not know where it stands: the harness adds topic and partition (`place`).
    """
    return Output(
        topic="dead-letters",
        key=record.key,
        type="",
        id=(header(record.headers, "ce_id") or b"").decode("utf-8", "replace"),
        time=record.log_time,
        value=record.value,
        offset=record.offset,
        headers=(*record.headers, (ERROR, str(error).encode()), (OFFSET, b"%d" % record.offset)),
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
