"""A new set of cells, written beside the one that stands and put in its place in one step.

Writing may take as long as it likes and may die half way: nothing reads what is staged until one fenced script, whose
cost does not depend on the size of the state, renames it.
"""

import secrets
from collections.abc import Iterable, Mapping

from mlmm.runtime.errors import Fenced, MlmmError
from mlmm.runtime.scripts import Script
from mlmm.runtime.store import CHUNK, Keys, RedisLike

__all__ = ["Staging"]

# A try that is repeated finds its own name and changes nothing, also where a worker claimed what it had swapped in.
_SWAP = Script("""
local m = redis.call('HMGET', KEYS[1], 'token', 'swap')
if m[2] == ARGV[2] then return 'done' end
if m[1] ~= ARGV[1] then return 'fenced' end
local last = tonumber(ARGV[3])
if last > 2 and redis.call('LLEN', KEYS[3]) > 0 then return 'outbox' end
for at = 2, last do
  redis.call('UNLINK', KEYS[at])
  if redis.call('EXISTS', KEYS[at + 3]) == 1 then redis.call('RENAME', KEYS[at + 3], KEYS[at]) end
end
redis.call('HSET', KEYS[1], 'swap', ARGV[2], unpack(ARGV, 4))
return 'ok'
""")


class Staging:
    """What one partition's state is to become.

    Parameters
    ----------
    redis : RedisLike
        The store.
    keys : Keys
        Of the partition.
    name : str, optional
        Of the swap: one that was applied under this name is not applied again.
    place : str, optional
        Who stages, where several may under one name: each has keys of its own, so a slow one that was fenced meanwhile
        adds nothing to what another stages.
    """

    def __init__(self, redis: RedisLike, keys: Keys, name: str | None = None, place: str | None = None) -> None:
        self._redis, self._keys = redis, keys
        self.name = name or secrets.token_hex(8)
        self._new = Keys(*(f"{key}:new:{place or self.name}" for key in keys))

    def clear(self) -> None:
        """Forget what earlier tries left; whoever made one of them is fenced by now."""
        stem = self._keys.meta.removesuffix("meta")
        cursor: int | bytes = 0
        while True:
            cursor, found = self._redis.execute_command("SCAN", int(cursor), "MATCH", f"{stem}*:new:*", "COUNT", CHUNK)
            if found:
                self._redis.execute_command("UNLINK", *found)
            if not int(cursor):
                return

    def cells(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        """Add cells."""
        self._hash(self._new.cells, cells)

    def seen(self, seen: Mapping[bytes, bytes]) -> None:
        """Add sequences that were seen."""
        self._hash(self._new.seen, seen.items())

    def outputs(self, entries: list[bytes]) -> None:
        """Add entries of the outbox, ascending."""
        for at in range(0, len(entries), CHUNK):
            self._redis.execute_command("RPUSH", self._new.outbox, *entries[at : at + CHUNK])

    def swap(self, token: str, meta: Mapping[str, str | int], *, whole: bool) -> None:
        """Put it in place.

        Parameters
        ----------
        token : str
            Of the claim that is held.
        meta : Mapping
            Fields of ``meta`` that change with it.
        whole : bool
            Whether outbox (an empty one) and sequences seen are replaced too, or the cells alone.

        Raises
        ------
        Fenced
            Someone else claimed the partition meanwhile; nothing was changed.
        """
        fields = [part for field in meta.items() for part in field]
        reply = _SWAP(self._redis, (*self._keys, *self._new[1:]), [token, self.name, 4 if whole else 2, *fields])
        if reply == b"fenced":
            raise Fenced(f"{self._keys.meta}: someone else claimed it meanwhile")
        if reply == b"outbox":
            raise MlmmError(f"{self._keys.outbox}: not empty, and would have been lost")
        self._redis.execute_command("UNLINK", *self._new)

    def _hash(self, key: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        chunk: list[bytes] = []
        for item in items:
            chunk += item
            if len(chunk) >= 2 * CHUNK:
                self._redis.execute_command("HSET", key, *chunk)
                chunk = []
        if chunk:
            self._redis.execute_command("HSET", key, *chunk)
