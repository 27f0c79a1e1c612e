"""The outbox: committed outputs on their way to Kafka.

An entry begins with its sequence, so that a fenced script can pop what Kafka acknowledged, by name and not by count
alone: a zombie's plain ``LTRIM`` would remove what was never sent.
"""

from collections.abc import Callable, Sequence

import msgspec

from mlmm.events.headers import cloudevents_headers
from mlmm.events.signing import SIGNATURE
from mlmm.runtime import deadletters
from mlmm.runtime.claims import Claim
from mlmm.runtime.errors import Fenced, MlmmError
from mlmm.runtime.processor import Output
from mlmm.runtime.scripts import Script
from mlmm.runtime.sequence import WIDTH
from mlmm.runtime.store import Keys, RedisLike

__all__ = ["Message", "Signer", "encode", "message", "pop", "read"]

Signer = Callable[[bytes, str, str, bytes], bytes]
"""Record key, type, id and value → value of the header ``mlmm_signature``."""
CHUNK = 1_000

# Idempotent: a retry whose first try was applied finds a head that is higher than what it names.
_POP = Script("""
local m = redis.call('HMGET', KEYS[1], 'token', 'rev')
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] then return 'fenced' end
local head = redis.call('LINDEX', KEYS[2], 0)
local width = #ARGV[4]
if not head or string.sub(head, 1, width) > ARGV[4] then return 'done' end
local last = redis.call('LINDEX', KEYS[2], tonumber(ARGV[3]) - 1)
if not last or string.sub(last, 1, width) ~= ARGV[4] then return 'mismatch' end
redis.call('LTRIM', KEYS[2], ARGV[3], -1)
return 'ok'
""")


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    key: bytes
    type: str
    id: str
    time: int
    value: bytes
    causation: str
    headers: tuple[tuple[str, bytes | None], ...]
    """Those of a dead letter are as received: Kafka knows headers without a value."""
    signed: bool


class Message(msgspec.Struct, frozen=True):
    """One record as it is sent."""

    topic: str
    """Logical name."""
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes | None]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)


def encode(sequence: bytes, output: Output, topic: str, partition: int) -> bytes:
    """Encode one output as an entry; a dead letter is told where it was read (``topic``: logical name of the input)."""
    headers = output.headers if output.type else deadletters.place(output, topic, partition)
    entry = _Entry(
        output.topic,
        output.key,
        output.type,
        output.id,
        output.time,
        output.value,
        output.causation,
        headers,
        output.signed,
    )
    return sequence + _encoder.encode(entry)


def message(entry: bytes, source: str, sign: Signer | None) -> Message:
    """Make the record of an entry.

    Parameters
    ----------
    entry : bytes
        As `encode` made it.
    source : str
        ``ce_source``.
    sign : Signer or None
        Signs what asks for it; None where no key is configured: then readers that want a signature refuse it.
    """
    e = _decoder.decode(memoryview(entry)[WIDTH:])
    if not e.type:
        whence = [(deadletters.SEQUENCE, entry[:WIDTH]), (deadletters.SOURCE, source.encode())]
        return Message(e.topic, e.key, e.value, [*e.headers, *whence])
    sequence = entry[:WIDTH].decode()
    made = cloudevents_headers(
        e.type, e.id, source, e.time, "application/json", causationid=e.causation or None, sequence=sequence
    )
    headers = [*made, *e.headers]
    if e.signed and sign:
        headers.append((SIGNATURE, sign(e.key, e.type, e.id, e.value)))
    return Message(e.topic, e.key, e.value, headers)


def read(redis: RedisLike, keys: Keys) -> list[bytes]:
    """Read all entries, in chunks."""
    entries: list[bytes] = []
    while True:
        start = len(entries)
        chunk = redis.execute_command("LRANGE", keys.outbox, start, start + CHUNK - 1)
        entries.extend(chunk)
        if len(chunk) < CHUNK:
            return entries


def pop(redis: RedisLike, keys: Keys, held: Claim, sent: Sequence[bytes]) -> None:
    """Pop the entries that Kafka acknowledged, from the head.

    Raises
    ------
    Fenced
        Someone else claimed the partition: what lies in its outbox is theirs.
    MlmmError
        The head is not what was sent.
    """
    if not sent:
        return
    last = sent[-1][:WIDTH]
    reply = _POP(redis, (keys.meta, keys.outbox), [held.token, held.rev, len(sent), last])
    if reply == b"fenced":
        raise Fenced(f"{keys.meta}: someone else claimed it after rev {held.rev}")
    if reply == b"mismatch":
        raise MlmmError(f"{keys.outbox}: entry {len(sent) - 1} is not {last.decode()}: the outbox was changed by hand")
