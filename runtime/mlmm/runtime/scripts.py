"""Lua scripts that are sent once and then called by their digest."""

import hashlib
from typing import Any

from mlmm.runtime.store import RedisLike

__all__ = ["Script"]


class Script:
    """One Lua script.

    Parameters
    ----------
    text : str
        The script. Redis scripts do not roll back: each checks all it needs before its first write.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, redis: RedisLike, keys: tuple[str, ...], arguments: list[Any]) -> Any:
        """Run it; a Redis that was restarted and forgot it is taught again."""
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - settings and `--help` load without redis

        try:
            return redis.evalsha(self.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            redis.script_load(self.text)
            return redis.evalsha(self.sha, len(keys), *keys, *arguments)
