"""Records that were deleted before they were read: said aloud, as a finding of its own."""

from mlmm.events.encode import encode_json
from mlmm.events.types import Gap
from mlmm.runtime.processor import Output

__all__ = ["TYPE", "lost_records"]

TYPE = "mlmm.gap.v1"


def lost_records(source: str, topic: str, partition: int, *, first: int, until: int, log_time: int) -> Output:
    """Make the finding.

    Parameters
    ----------
    source : str
        ``ce_source`` of who would have read them.
    topic : str
        Full name of the input topic.
    partition : int
        Number of the partition.
    first : int
        Offset that was to be read next.
    until : int
        Offset of the oldest record that is left.
    log_time : int
        Latest log time that was read before, in microseconds; 0 where nothing was.

    Returns
    -------
    Output
        To ``findings``, under the key ``<topic>/<partition>``. The same loss makes the same bytes.
    """
    gap = Gap(
        topic=topic, partition=partition, first=first, until=until, lost=until - first, last_read=log_time or None
    )
    return Output(
        topic="findings",
        key=f"{topic}/{partition}".encode(),
        type=TYPE,
        id=f"{source}:{first}-{until}",
        time=log_time,
        value=encode_json(gap),
        offset=first,
    )
