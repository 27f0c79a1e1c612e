"""Claims: who may write a partition's state, and from which offset.

A claim draws a random token and raises ``rev``; each commit names both. Whoever claims later fences whoever claimed
before, whatever Kafka thinks. Claiming costs the same however large the state is.
"""

import secrets
from collections.abc import Callable, Sequence

import msgspec

from mlmm.runtime.errors import Fenced, LogChanged, StateRefused
from mlmm.runtime.processor import State
from mlmm.runtime.scripts import Script
from mlmm.runtime.store import LAYOUT, Keys, RedisLike, iter_hash

__all__ = ["Claim", "Fence", "Log", "check", "claim", "fence", "load", "renew", "repartitioned"]

# The same test stands before a claim and in the check of one that is held. All of it comes before the first write: who
# may not claim must not fence the owner either.
_SAME_LOG = """
local m = redis.call('HMGET', KEYS[1], 'rev', 'offset', 'epoch', 'topic_id', 'partitions', 'log_time', 'layout',
                     'state_layout', 'upgrade_to')
local token, topic_id, partitions, first, last, layout = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local oldest, newest = tonumber(ARGV[7]), tonumber(ARGV[8])
if m[7] and tonumber(m[7]) > tonumber(layout) then return {'layout', m[7]} end
local stored = tonumber(m[8] or (m[2] and 1) or newest)
local wanted = math.max(stored, tonumber(m[9] or 0))
if wanted > newest then return {'too_old', wanted, newest} end
if stored < oldest then return {'too_new', stored, oldest} end
if m[4] and m[4] ~= '' and topic_id ~= '' and m[4] ~= topic_id then return {'topic_id', m[4]} end
if m[5] and m[5] ~= partitions then return {'partitions', m[5]} end
if m[2] and tonumber(m[2]) > tonumber(last) then return {'short', m[2]} end
"""
_CHECK = Script(_SAME_LOG + "return {'ok'}")
_CLAIM = Script(
    _SAME_LOG
    + """
local rev = (tonumber(m[1]) or 0) + 1
local offset, epoch, log_time = m[2] or first, m[3] or '0', m[6] or '0'
if topic_id == '' then topic_id = m[4] or '' end
redis.call('HSET', KEYS[1], 'token', token, 'rev', rev, 'offset', offset, 'epoch', epoch, 'topic_id', topic_id,
           'partitions', partitions, 'log_time', log_time, 'layout', m[7] or layout, 'state_layout', stored)
return {'ok', rev, offset, epoch, log_time, stored, wanted}
"""
)

_RENEW = Script("""
local m = redis.call('HMGET', KEYS[1], 'token', 'rev', 'offset')
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] then return {'fenced'} end
return {'ok', m[3]}
""")


class Log(msgspec.Struct, frozen=True):
    """What Kafka says of one input partition."""

    topic: str
    """Full name."""
    partition: int
    topic_id: str
    """Kafka's id of the topic, which a topic made anew does not share; empty where the broker does not tell."""
    partitions: int
    """Partitions of the topic."""
    first: int
    """Offset of the oldest record that is left."""
    end: int
    """Offset that the next record will have."""


class Claim(msgspec.Struct, frozen=True):
    """The right to write one partition's state, until someone else claims it."""

    token: str
    rev: int
    offset: int
    """Next offset to be read."""
    epoch: int
    """First part of each ``sequence``; rises where the log does not simply go on (adopted, repartitioned, records
    deleted before they were read)."""
    log_time: int
    """Latest log time that the state has seen, in microseconds."""
    layout: int = 1
    """Layout of the stored cells."""
    wanted: int = 1
    """Layout in which they are to be written: a higher one after ``mlmm state upgrade``."""


def claim(
    redis: RedisLike,
    keys: Keys,
    log: Log,
    *,
    layouts: Sequence[int] = (1,),
    token: Callable[[], str] = lambda: secrets.token_hex(16),
) -> Claim:
    """Claim one partition.

    Parameters
    ----------
    redis : RedisLike
        The store.
    keys : Keys
        Of the partition.
    log : Log
        What Kafka says of it now; a state that has no offset yet begins at its first record.
    layouts : sequence of int
        Layouts of cells that the claimant reads and writes, ascending; a new state gets the newest.
    token : Callable
        Draws the token.

    Raises
    ------
    LogChanged
        The state was made from another log: the topic was made anew, has another number of partitions, or ends before
        the stored offset. Going on would ignore new data in silence.
    StateRefused
        The state's layout is not among ``layouts``, or is to become one that is not.
    """
    drawn = token()
    rev, offset, epoch, log_time, layout, wanted = _ask(_CLAIM, redis, keys, log, token=drawn, layouts=layouts)
    return Claim(drawn, rev, offset, epoch, log_time, layout, wanted)


def check(redis: RedisLike, keys: Keys, log: Log, *, layouts: Sequence[int] = (1,)) -> None:
    """Raise `LogChanged` where the state was made from another log; claims nothing."""
    _ask(_CHECK, redis, keys, log, token="", layouts=layouts)


def _ask(script: Script, redis: RedisLike, keys: Keys, log: Log, *, token: str, layouts: Sequence[int]) -> list[int]:
    given = [token, log.topic_id, log.partitions, log.first, log.end, LAYOUT, min(layouts), max(layouts)]
    answer, *rest = script(redis, (keys.meta,), given)
    found = [each.decode() if isinstance(each, bytes) else str(each) for each in (answer, *rest)]
    if found[0] in {"layout", "too_old", "too_new"}:
        raise StateRefused(_refused(found[0], found[1], keys, layouts))
    if found[0] != "ok":
        raise LogChanged(_changed(found[0], found[1], log))
    return [int(each) for each in rest]


def _refused(what: str, stored: str, keys: Keys, layouts: Sequence[int]) -> str:
    place = keys.meta.removesuffix(":meta")
    if what == "layout":
        return (
            f"{place}: kept in layout {stored} of the store, this version reads {LAYOUT}: run a newer version of MLMM"
        )
    reads = " and ".join(map(str, layouts))
    if what == "too_old":
        return (
            f"{place}: the state is of layout {stored}, this version reads {reads}: the worker is too old. Run the "
            "version that `mlmm state upgrade` was run with, or a newer one"
        )
    return (
        f"{place}: the state is of layout {stored}, this version reads {reads}: the worker is too new. Run the version "
        "before it with its `mlmm state upgrade`, then this one"
    )


def _changed(what: str, stored: str, log: Log) -> str:
    place = f"{log.topic}[{log.partition}]"
    adopt = f"run `mlmm topics adopt {log.topic}` to go on with the log as it is now"
    if what == "topic_id":
        return f"{place}: the state was made from the topic with id {stored}, which is now {log.topic_id}: {adopt}"
    if what == "partitions":
        return repartitioned(log, int(stored))
    return f"{place}: the log ends at offset {log.end}, before {stored} where the state goes on: {adopt}"


def repartitioned(log: Log, stored: int) -> str:
    """Say that the topic has another number of partitions than the states were made from."""
    return (
        f"{log.topic}[{log.partition}]: the state was made from {stored} partitions, the topic now has "
        f"{log.partitions}, so keys lie elsewhere: stop the workers and run `mlmm topics repartition {log.topic}`"
    )


class Fence(msgspec.Struct, frozen=True):
    """What a state was when it was fenced, for whoever mends it while no worker may write."""

    token: str
    rev: int
    offset: int | None
    """None where there is no state yet."""
    epoch: int
    log_time: int
    layout: int | None
    topic_id: str
    partitions: int

    @property
    def claim(self) -> Claim:
        """The right to pop from the outbox."""
        return Claim(self.token, self.rev, self.offset or 0, self.epoch, self.log_time)


def fence(redis: RedisLike, keys: Keys, partitions: int) -> Fence:
    """End every claim on a partition and read where its state stands, from now on unchanged.

    A partition that has no state gets the number of ``partitions`` that the others have: nobody may begin one there
    meanwhile.
    """
    token = secrets.token_hex(16)
    redis.execute_command("HSETNX", keys.meta, "partitions", partitions)
    redis.execute_command("HSET", keys.meta, "token", token)
    rev = int(redis.execute_command("HINCRBY", keys.meta, "rev", 1))
    names = ("offset", "epoch", "log_time", "state_layout", "upgrade_to", "topic_id", "partitions")
    offset, epoch, log_time, layout, wanted, topic_id, count = redis.execute_command("HMGET", keys.meta, *names)
    stored = None if offset is None else max(int(layout or 1), int(wanted or 0))
    return Fence(
        token=token,
        rev=rev,
        offset=None if offset is None else int(offset),
        epoch=int(epoch or 0),
        log_time=int(log_time or 0),
        layout=stored,
        topic_id=(topic_id or b"").decode(),
        partitions=int(count),
    )


def renew(redis: RedisLike, keys: Keys, held: Claim) -> int:
    """Return the stored offset if the claim still holds; raises `Fenced` otherwise."""
    answer, *rest = _RENEW(redis, (keys.meta,), [held.token, held.rev])
    if answer != b"ok":
        raise Fenced(f"{keys.meta}: someone else claimed it after rev {held.rev}")
    return int(rest[0])


def load(redis: RedisLike, keys: Keys, state: State, on_chunk: Callable[[], None] = lambda: None) -> int:
    """Load all cells into an empty state, in chunks (each is told); returns how many bytes they have."""
    size = 0
    for chunk in iter_hash(redis, keys.cells):
        size += sum(len(cell) + len(value) for cell, value in chunk)
        state.load(chunk)
        on_chunk()
    return size
