"""Process epochs: two processes under one slot name would fight for ever without an error; the older one finds out."""

import secrets

from mlmm.runtime.errors import MlmmError
from mlmm.runtime.scripts import Script
from mlmm.runtime.store import RedisLike

__all__ = ["Slot", "Superseded"]

_TAKE = Script("""
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'token', ARGV[1])
return epoch
""")

# A Redis that came back older knows nothing of us, or of an older process: ours is written again.
_HOLD = Script("""
local m = redis.call('HMGET', KEYS[1], 'epoch', 'token')
local stored = tonumber(m[1]) or 0
if m[2] == ARGV[2] then return 0 end
if stored >= tonumber(ARGV[1]) then return stored end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'token', ARGV[2])
return 0
""")


class Superseded(MlmmError):  # noqa: N818 - named like the other errors of ours
    """A newer process runs under this slot's name."""


class Slot:
    """The name of one worker process among those of its group.

    Parameters
    ----------
    deployment, group, name : str
        Together they name it.
    """

    def __init__(self, deployment: str, group: str, name: str) -> None:
        self.key = f"{deployment}:slot:{group}:{name}"
        self.epoch = 0
        self._token = secrets.token_hex(16)

    def take(self, redis: RedisLike) -> int:
        """Raise the epoch and return it: from now on the older process of this name ends itself."""
        self.epoch = int(_TAKE(redis, (self.key,), [self._token]))
        return self.epoch

    def hold(self, redis: RedisLike) -> None:
        """Raise `Superseded` where a newer process took the name."""
        stored = int(_HOLD(redis, (self.key,), [self.epoch, self._token]))
        if stored:
            raise Superseded(
                f"{self.key}: another process took this slot's name (epoch {stored}, ours is {self.epoch}): "
                "give each worker process a slot of its own (`mlmm worker --name NAME` where two machines share a name)"
            )
