"""Where a record lies: its key, and the partition that the key belongs to."""

from functools import lru_cache
from zlib import crc32

__all__ = ["partition_of", "shard_key"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=8192)
def _murmur2(data: bytes) -> int:
    """Hash as Kafka's Java client does (``org.apache.kafka.common.utils.Utils.murmur2``), unsigned."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key: murmur2, made positive by clearing the sign bit, modulo ``partitions``.

    This is the Java client's (and kafka-python's) default. librdkafka's default is another one: set it to
    ``murmur2_random``, or predictions miss their labels.
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def shard_key(model: str, prediction_id: str, shards: int) -> bytes:
    """Record key of a prediction, its label and nothing else: ``model``, or ``model#shard`` where there are several.

    The shard is the CRC-32 of the prediction id's UTF-8 modulo ``shards``, a number that is fixed for the model's life.
    """
    if shards <= 1:
        return model.encode()
    return f"{model}#{crc32(prediction_id.encode()) % shards}".encode()
