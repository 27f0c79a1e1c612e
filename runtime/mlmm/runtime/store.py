"""Where a partition's state lies in Redis, and reading it back.

All keys of a partition share a hash tag, so that one script may write them::

    {<deployment>:<processor>:<partition>}:meta     hash: claim, offset, epoch, topic id, partition count, layouts
    {<deployment>:<processor>:<partition>}:cells    hash: the state, cell → value
    {<deployment>:<processor>:<partition>}:outbox   list: committed outputs that Kafka has not acknowledged yet
    {<deployment>:<processor>:<partition>}:seen     hash: ce_source → last sequence
    <deployment>:slot:<group>:<slot>                hash: process epoch and token of the slot's newest process
"""

import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from mlmm.runtime.errors import SettingsError, StateRefused

__all__ = [
    "CHUNK",
    "LAYOUT",
    "Keys",
    "RedisLike",
    "adopt",
    "iter_hash",
    "partitions_of",
    "read_cells",
    "refuse_eviction",
    "request_layout",
]

LAYOUT = 1
"""Version of this layout, in ``meta``."""
CHUNK = 1_000
"""Fields asked of ``HSCAN`` at once: ``HGETALL`` of a million stops Redis for about a second."""


class RedisLike(Protocol):
    """The part of redis-py's client (bytes in, bytes out) that the harness uses."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a loaded script."""

    def script_load(self, script: str) -> Any:
        """Load a script."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run any command."""


class Keys(NamedTuple):
    """Keys of one processor's state of one input partition."""

    meta: str
    cells: str
    outbox: str
    seen: str

    @classmethod
    def of(cls, deployment: str, processor: str, partition: int) -> "Keys":
        """Name them."""
        tag = f"{{{deployment}:{processor}:{partition}}}"
        return cls(f"{tag}:meta", f"{tag}:cells", f"{tag}:outbox", f"{tag}:seen")


def refuse_eviction(redis: RedisLike) -> None:
    """Raise `SettingsError` unless Redis keeps what it is given.

    A Redis that evicts would drop cells of a state in silence. Where the server does not let us ask, ``INFO`` tells.
    """
    policy = _text(_info(redis).get(b"maxmemory_policy", b""))
    if policy != "noeviction":
        raise SettingsError(
            f"redis: maxmemory-policy is {policy or 'unknown'!r}, and must be 'noeviction': a Redis that evicts loses "
            "state in silence. Run `redis-cli config set maxmemory-policy noeviction` and set it in redis.conf"
        )


def _info(redis: RedisLike) -> dict[bytes, bytes]:
    reply = redis.execute_command("INFO", "memory")
    if isinstance(reply, dict):
        return {str(key).encode(): str(value).encode() for key, value in reply.items()}
    lines = (line.partition(b":") for line in bytes(reply).splitlines())
    return {name: value.strip() for name, _, value in lines}


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def iter_hash(redis: RedisLike, key: str) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield a hash's fields in chunks; a field may come twice when others write meanwhile (its owner does not)."""
    cursor: int | bytes = 0
    while True:
        cursor, fields = redis.execute_command("HSCAN", key, int(cursor), "COUNT", CHUNK)
        if fields:
            yield (
                list(fields.items()) if isinstance(fields, dict) else list(zip(fields[::2], fields[1::2], strict=True))
            )
        if not int(cursor):
            return


def partitions_of(redis: RedisLike, deployment: str, processor: str) -> list[int]:
    """Return the partitions of which a processor has a state; all are claimed, so they are numbered from 0."""
    found: list[int] = []
    while redis.execute_command("EXISTS", Keys.of(deployment, processor, len(found)).meta):
        found.append(len(found))
    return found


def read_cells(
    redis: RedisLike, deployment: str, processor: str, partition: int
) -> tuple[int | None, dict[bytes, bytes]]:
    """Read one partition's state, for tests and ``mlmm doctor``.

    Returns
    -------
    tuple of (int or None, dict)
        Offset of the next record to be read (None where nothing was ever committed), and cell → value. The two belong
        together only while no worker commits.
    """
    keys = Keys.of(deployment, processor, partition)
    offset = redis.execute_command("HGET", keys.meta, "offset")
    cells: dict[bytes, bytes] = {}
    for chunk in iter_hash(redis, keys.cells):
        cells.update(chunk)
    return (None if offset is None else int(offset)), cells


def adopt(redis: RedisLike, keys: Keys, *, topic_id: str, partitions: int, offset: int) -> int:
    """Let a state go on with another log: what ``mlmm topics adopt`` does to one partition.

    The state's cells stay. The epoch rises, so that outputs of the new log are higher than those of the old one, and
    whoever held the claim is fenced.

    Parameters
    ----------
    redis : RedisLike
        The store.
    keys : Keys
        Of the partition.
    topic_id : str
        Kafka's id of the topic as it is now.
    partitions : int
        As stored: where the topic has more now, ``mlmm topics repartition`` comes next.
    offset : int
        Where to go on.

    Returns
    -------
    int
        The new epoch.
    """
    epoch = int(redis.execute_command("HINCRBY", keys.meta, "epoch", 1))
    redis.execute_command("HINCRBY", keys.meta, "rev", 1)
    fields = {"token": secrets.token_hex(16), "topic_id": topic_id, "partitions": partitions, "offset": offset}
    redis.execute_command("HSET", keys.meta, *(part for field in fields.items() for part in field))
    return epoch


def request_layout(redis: RedisLike, keys: Keys, layout: int) -> int | None:
    """Ask for a state in a newer layout: what ``mlmm state upgrade`` does to one partition.

    Whoever holds the claim is fenced; whoever claims next rewrites all cells, or is refused where it is too old.

    Parameters
    ----------
    redis : RedisLike
        The store.
    keys : Keys
        Of the partition.
    layout : int
        The layout that is asked for.

    Returns
    -------
    int or None
        The layout that the cells have now; None where there is no state.

    Raises
    ------
    StateRefused
        The state is of a newer layout than that.
    """
    fields = redis.execute_command("HMGET", keys.meta, "offset", "state_layout", "upgrade_to")
    if fields[0] is None:
        return None
    found = int(fields[1] or 1)
    if max(found, int(fields[2] or 0)) > layout:
        raise StateRefused(
            f"{keys.meta.removesuffix(':meta')}: the state is of a newer layout than {layout}, the newest that this "
            "version knows: run the newer version's `mlmm state upgrade`"
        )
    if found < layout:
        redis.execute_command("HSET", keys.meta, "upgrade_to", layout, "token", secrets.token_hex(16))
        redis.execute_command("HINCRBY", keys.meta, "rev", 1)
    return found
