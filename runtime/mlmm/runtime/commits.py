"""One poll's commit: changed cells, next offset, outputs and sequences seen, in one fenced script or not at all."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mlmm.runtime.claims import Claim
from mlmm.runtime.errors import Fenced, MlmmError
from mlmm.runtime.scripts import Script
from mlmm.runtime.store import Keys, RedisLike

__all__ = ["ARGUMENT_LIMIT", "Commit", "commit"]

ARGUMENT_LIMIT = 1_000_000
"""Redis takes at most 1,048,576 arguments a command."""

# All checks come before the first write, since scripts do not roll back; `unpack` fails beyond 8,000 values, so writing
# goes in loops of at most 1,000. `claims` compares token and rev as text, as they are stored.
_COMMIT = Script("""
local meta, cells, outbox, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local m = redis.call('HMGET', meta, 'token', 'rev', 'commit', 'offset')
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] then return 'fenced' end
if m[3] == ARGV[3] then return 'done' end
if m[4] ~= ARGV[4] then return 'offset ' .. tostring(m[4]) end
local sets, dels, outs, news = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
if #ARGV ~= 11 + 2 * sets + dels + outs + 2 * news then return 'size ' .. #ARGV end
for key, kind in pairs({[cells] = 'hash', [outbox] = 'list', [seen] = 'hash'}) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then return 'type ' .. key .. ' ' .. found end
end
local at = 12
local function each(command, key, values, step)
  local stop = at + values
  while at < stop do
    local last = math.min(at + step, stop) - 1
    redis.call(command, key, unpack(ARGV, at, last))
    at = last + 1
  end
end
each('HSET', cells, 2 * sets, 1000)
each('HDEL', cells, dels, 1000)
each('RPUSH', outbox, outs, 1000)
each('HSET', seen, 2 * news, 1000)
redis.call('HSET', meta, 'commit', ARGV[3], 'offset', ARGV[5], 'log_time', ARGV[6])
if ARGV[11] ~= '' then redis.call('HSET', meta, 'epoch', ARGV[11]) end
return 'ok'
""")


class Commit(msgspec.Struct, frozen=True):
    """What one poll changed in one partition."""

    id: str
    """Unique; the same one for each try at the same commit."""
    expected: int
    """Offset that it continues from."""
    offset: int
    """Next offset to be read."""
    log_time: int
    """Latest log time seen, in microseconds."""
    cells: Mapping[bytes, bytes | None]
    """Changed cells; None where one is gone."""
    outputs: Sequence[bytes] = ()
    """Encoded outputs, ascending by sequence."""
    seen: Mapping[bytes, bytes] = {}
    """``ce_source`` → last sequence, where it changed."""
    epoch: int | None = None
    """The epoch from now on, where it rises."""

    def arguments(self, held: Claim) -> list[Any]:
        """Arguments of the script, in order."""
        sets = [(cell, value) for cell, value in self.cells.items() if value is not None]
        gone = [cell for cell, value in self.cells.items() if value is None]
        head = [held.token, held.rev, self.id, self.expected, self.offset, self.log_time]
        sizes = [len(sets), len(gone), len(self.outputs), len(self.seen)]
        chain = itertools.chain.from_iterable
        epoch = "" if self.epoch is None else self.epoch
        return [*head, *sizes, epoch, *chain(sets), *gone, *self.outputs, *chain(self.seen.items())]

    def size(self) -> int:
        """Bytes that it writes."""
        cells = sum(len(cell) + len(value or b"") for cell, value in self.cells.items())
        return cells + sum(map(len, self.outputs)) + sum(len(k) + len(v) for k, v in self.seen.items())


def commit(redis: RedisLike, keys: Keys, held: Claim, change: Commit) -> bool:
    """Apply a commit.

    Returns
    -------
    bool
        Whether this call applied it; False where an earlier try at the same one had.

    Raises
    ------
    Fenced
        Someone else claimed the partition, or its offset is not the one that this commit continues from (Redis came
        back older). The process must end: what it holds in memory is not the state.
    MlmmError
        A commit that is too large for one command, or a key that is not ours.
    """
    arguments = change.arguments(held)
    if len(arguments) > ARGUMENT_LIMIT:
        raise MlmmError(
            f"{keys.meta}: a commit of {len(arguments):,} values, at most {ARGUMENT_LIMIT:,}: lower worker.poll_records"
        )
    reply = _COMMIT(redis, tuple(keys), arguments).decode()
    if reply in {"ok", "done"}:
        return bool(reply == "ok")
    if reply == "fenced":
        raise Fenced(f"{keys.meta}: someone else claimed it after rev {held.rev}")
    if reply.startswith("offset"):
        raise Fenced(f"{keys.meta}: continues from {change.expected}, and Redis holds {reply}: it came back older")
    raise MlmmError(f"{keys.meta}: commit refused: {reply}")
