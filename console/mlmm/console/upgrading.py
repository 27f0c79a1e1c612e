"""``mlmm state show | upgrade``: which layouts the stored states have, and moving them to the newest."""

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlmm.runtime.processor import Processor
    from mlmm.runtime.settings import Settings

__all__ = ["Standing", "processors_of", "show_states", "upgrade_states"]

LOOK = 0.2


class Standing(NamedTuple):
    """One partition's state."""

    processor: str
    partition: int
    offset: int
    """Next one to be read."""
    epoch: int
    layout: int
    """Of its cells."""
    newest: int
    """What this version could write."""


def processors_of(settings: "Settings") -> "list[Processor]":
    """Return all processors."""
    from mlmm.console.replay.engine import alerting, inputs

    return [*inputs(settings), alerting(settings)]


def show_states(settings: "Settings", processors: "Iterable[Processor]") -> list[Standing]:
    """Say how the stored states stand; raises `ServiceUnavailable` where Redis is away."""
    from mlmm.runtime.connections import redis_client, redis_errors
    from mlmm.runtime.store import Keys, RedisLike, partitions_of

    found = []
    with redis_errors(settings.redis):
        redis: RedisLike = redis_client(settings)
        for processor in processors:
            for partition in partitions_of(redis, settings.deployment, processor.name):
                meta = Keys.of(settings.deployment, processor.name, partition).meta
                offset, epoch, layout = redis.execute_command("HMGET", meta, "offset", "epoch", "state_layout")
                if offset is not None:
                    figures = int(offset), int(epoch or 0), int(layout or 1), processor.layouts[-1]
                    found.append(Standing(processor.name, partition, *figures))
    return found


def upgrade_states(settings: "Settings", processors: "Iterable[Processor]", wait: float) -> list[Standing]:
    """Ask for all states in the newest layout that this version knows, and wait for it.

    Running workers are fenced, start again, and rewrite a state when they claim it; where none runs, those that are
    started next do. A worker that does not know the layout is refused from now on: there is no way back.

    Parameters
    ----------
    settings : Settings
        Sections ``redis`` and ``deployment``.
    processors : iterable of Processor
        Whose states.
    wait : float
        Seconds to wait for workers to do it.

    Returns
    -------
    list of Standing
        How the states stand in the end; those whose ``layout`` is not the newest wait for a worker.

    Raises
    ------
    StateRefused
        A state is of a newer layout than this version knows.
    ServiceUnavailable
        Redis is away.
    """
    from mlmm.runtime.connections import redis_client, redis_errors
    from mlmm.runtime.store import Keys, RedisLike, partitions_of, request_layout

    processors = list(processors)
    with redis_errors(settings.redis):
        redis: RedisLike = redis_client(settings)
        for processor in processors:
            for partition in partitions_of(redis, settings.deployment, processor.name):
                request_layout(redis, Keys.of(settings.deployment, processor.name, partition), processor.layouts[-1])
    deadline = time.monotonic() + wait
    while True:
        states = show_states(settings, processors)
        if all(state.layout == state.newest for state in states) or time.monotonic() >= deadline:
            return states
        time.sleep(LOOK)
