"""``mlmm topics repartition``: states follow their keys when a topic was given more partitions.

Steps, and what a death between two of them leaves behind:

1. fence all partitions, send what their outboxes hold    nothing: workers are refused until all is done
2. fold what was not read yet, stage cells and outputs    nothing: a next try begins anew
3. write down which stages belong together                from here on a next try finishes what this one began
4. swap each partition's stage in                         some are done, and whole; at the others workers are refused
"""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mlmm.console.adopting import GROUPS, READERS, logical_name
from mlmm.console.topic_log import TopicLog
from mlmm.events import Topics
from mlmm.runtime.errors import MlmmError, SettingsError, StateRefused

if TYPE_CHECKING:
    from mlmm.runtime.claims import Fence
    from mlmm.runtime.processor import Processor
    from mlmm.runtime.settings import Settings
    from mlmm.runtime.store import Keys, RedisLike

__all__ = ["Repartitioned", "repartition_topic"]

BATCH = 5_000


class Repartitioned(NamedTuple):
    """One partition as it stands now."""

    topic: str
    partition: int
    offset: int
    """Where workers go on."""
    cells: int
    records: int
    """Read on the way."""
    epoch: int


class _Swap(msgspec.Struct, frozen=True):
    partition: int
    token: str
    name: str
    meta: dict[str, str | int]
    cells: int
    records: int


_plan = msgspec.json.Decoder(list[_Swap])


def repartition_topic(
    settings: "Settings", name: str, processor: "Processor | None" = None, group: str | None = None
) -> list[Repartitioned]:
    """Move the states made from a topic to the number of partitions that it has now; the workers are stopped.

    Parameters
    ----------
    settings : Settings
        As the workers have them: what was not read yet is folded with them.
    name : str
        The topic, logical or full.
    processor : Processor, optional
        Instead of the one of the settings that reads it.
    group : str, optional
        Its consumer group, without the deployment.

    Returns
    -------
    list of Repartitioned
        Empty where the states are of that number already, or there are none.

    Raises
    ------
    SettingsError
        No processor reads the topic; it has fewer partitions than before; it is not the log that the states were made
        from.
    Fenced
        A worker, or another repartition, claimed a state meanwhile: nothing of it is lost, run it again.
    MlmmError
        Workers still run, or findings are on their way: their workers must be stopped, with nothing in their outboxes.
    ServiceUnavailable
        Kafka or Redis is away.
    """
    from mlmm.runtime.connections import redis_client, redis_errors

    logical = logical_name(settings, name)
    with redis_errors(settings.redis):
        job = _Job(settings, logical, processor or _processor(settings, logical), redis_client(settings))
        job.group = f"{settings.deployment}.{group or GROUPS[logical]}"
        return [*job.finish_earlier(), *job.run()]


def _processor(settings: "Settings", logical: str) -> "Processor":
    from mlmm.console.replay.engine import alerting, inputs

    return next(each for each in (*inputs(settings), alerting(settings)) if each.input == logical)


class _Job:
    def __init__(self, settings: "Settings", logical: str, processor: "Processor", redis: "RedisLike") -> None:
        self.settings, self.logical, self.processor, self.redis = settings, logical, processor, redis
        self.topic = Topics(settings.topic_prefix).full(logical)
        self.plan_key = f"{settings.deployment}:repartition:{processor.name}"
        self.group = ""
        self.log = TopicLog(settings, self.topic)

    def keys(self, partition: int) -> "Keys":
        from mlmm.runtime.store import Keys

        return Keys.of(self.settings.deployment, self.processor.name, partition)

    def run(self) -> list[Repartitioned]:
        from mlmm.runtime.harness.worker import describe

        topic_id, new = describe(self.settings, [self.topic])[self.topic]
        counts = {p: self.redis.execute_command("HGET", self.keys(p).meta, "partitions") for p in range(new)}
        old = max((int(count) for count in counts.values() if count is not None), default=new)
        if any(count is not None and int(count) != new for count in counts.values()):
            old = min(int(count) for count in counts.values() if count is not None and int(count) != new)
        if old > new:
            raise SettingsError(
                f"{self.topic} has {new} partitions, its states were made from {old}: make it with at least {old}"
            )
        if old == new:
            return []
        from mlmm.runtime.claims import fence

        self.log.wait_until_stopped(self.group)
        fences = {p: fence(self.redis, self.keys(p), old) for p in range(new)}
        ends, firsts = self.log.bounds(new)
        for p in range(old):
            self._same_log(p, fences[p], topic_id, ends[p])
        self._drain({p: fences[p] for p in range(old)})
        ends = self._settled_ends(ends)
        swaps = self._stage(fences, old, new, topic_id, firsts, ends)
        self._still_ours(fences)
        self.redis.execute_command("SET", self.plan_key, msgspec.json.encode(swaps))
        moved = self._swap(swaps)
        # What the folded records caused: a topic that is made of it is moved next, and wants nothing on its way.
        self._drain(fences)
        return moved

    def _still_ours(self, fences: Mapping[int, "Fence"]) -> None:
        """Raise `Fenced` where another try took over: a plan of ours would stand in the way of its own."""
        from mlmm.runtime.errors import Fenced

        for partition, held in fences.items():
            token = self.redis.execute_command("HGET", self.keys(partition).meta, "token")
            if token is None or token.decode() != held.token:
                raise Fenced(f"{self.keys(partition).meta}: someone else claimed it meanwhile")

    def finish_earlier(self) -> list[Repartitioned]:
        """Finish what a try that died had decided."""
        plan = self.redis.execute_command("GET", self.plan_key)
        if plan is None:
            return []
        self.log.wait_until_stopped(self.group)
        return self._swap(_plan.decode(plan))

    def _swap(self, swaps: list[_Swap]) -> list[Repartitioned]:
        from mlmm.runtime.staging import Staging

        for swap in swaps:
            Staging(self.redis, self.keys(swap.partition), swap.name).swap(swap.token, swap.meta, whole=True)
        self.redis.execute_command("DEL", self.plan_key)
        return [
            Repartitioned(self.topic, s.partition, int(s.meta["offset"]), s.cells, s.records, int(s.meta["epoch"]))
            for s in swaps
        ]

    def _same_log(self, partition: int, found: "Fence", topic_id: str, end: int) -> None:
        if (found.topic_id and found.topic_id != topic_id) or (found.offset or 0) > end:
            raise SettingsError(
                f"{self.topic}[{partition}] is not the log that its state was made from: first run "
                f"`mlmm topics adopt {self.topic}`"
            )

    # --- what is on its way ------------------------------------------------------------------------------------------

    def _settled_ends(self, ends: dict[int, int]) -> dict[int, int]:
        """Return the ends of the log such that nothing that came before was still on its way.

        Sequences of findings are remembered by their highest: one that is lower and comes later would be dropped.
        """
        from mlmm.runtime.sequence import WORKER_MADE

        if self.logical not in WORKER_MADE:
            return ends
        before = self._makers()
        ends, _ = self.log.bounds(len(ends))
        if any(waiting for _, waiting in before.values()) or self._makers() != before:
            raise MlmmError(
                f"{self.topic}: workers have findings on their way to it. Stop `mlmm worker` in good order (SIGTERM); "
                "where it was killed, start it and stop it once more. Then run this again"
            )
        return ends

    def _makers(self) -> dict[str, tuple[bytes | None, int]]:
        """Return who makes findings → its last commit, and how many of its outputs wait to be sent."""
        from mlmm.runtime.store import Keys, partitions_of

        found: dict[str, tuple[bytes | None, int]] = {}
        for processor in (READERS[logical] for logical in READERS if logical != self.logical):
            for partition in partitions_of(self.redis, self.settings.deployment, processor):
                keys = Keys.of(self.settings.deployment, processor, partition)
                waiting = int(self.redis.execute_command("LLEN", keys.outbox))
                found[keys.meta] = self.redis.execute_command("HGET", keys.meta, "commit"), waiting
        return found

    def _drain(self, fences: Mapping[int, "Fence"]) -> None:
        """Send what the outboxes hold: what a key's next owner puts out must not overtake it."""
        from mlmm.runtime import outbox
        from mlmm.runtime.harness.sender import Sender
        from mlmm.runtime.harness.worker import signer
        from mlmm.runtime.sequence import source

        settings = self.settings
        sign = signer(settings)

        async def send() -> None:
            sender = Sender(
                settings.kafka.client_options("aiokafka"),
                Topics(settings.topic_prefix).full,
                settings.worker.stall_after,
            )
            try:
                for partition, held in fences.items():
                    keys = self.keys(partition)
                    origin = source(settings.deployment, self.processor.name, self.topic, partition)
                    for entries in _waves(outbox.read(self.redis, keys)):
                        await sender.send([outbox.message(entry, origin, sign) for entry in entries])
                        outbox.pop(self.redis, keys, held.claim, entries)
            finally:
                await sender.close()

        asyncio.run(send())

    # --- states ------------------------------------------------------------------------------------------------------

    def _stage(
        self,
        fences: Mapping[int, "Fence"],
        old: int,
        new: int,
        topic_id: str,
        firsts: Mapping[int, int],
        ends: Mapping[int, int],
    ) -> list[_Swap]:
        from mlmm.runtime.handover import Handover
        from mlmm.runtime.sequence import source
        from mlmm.runtime.staging import Staging
        from mlmm.runtime.store import iter_hash

        layout = max((each.layout for each in fences.values() if each.layout), default=self.processor.layouts[-1])
        if layout not in self.processor.layouts:
            raise StateRefused(
                f"{self.processor.name}: the state is of layout {layout}, this version reads "
                f"{' and '.join(map(str, self.processor.layouts))}: run this with the version of the workers"
            )
        epoch = max(each.epoch for each in fences.values()) + 1
        log_time = max(each.log_time for each in fences.values())
        states = Handover(self.processor, old, new, layout=layout, epoch=epoch, log_time=log_time)
        staging = {p: Staging(self.redis, self.keys(p)) for p in range(new)}
        starts = {}
        for p in range(new):
            staging[p].clear()
            stood = fences[p].offset
            starts[p] = firsts[p] if stood is None else max(stood, firsts[p])
            if stood is not None and stood < starts[p]:
                origin = source(self.settings.deployment, self.processor.name, self.topic, p)
                staging[p].outputs([states.lose(origin, self.topic, p, stood, starts[p])])
            for chunk in iter_hash(self.redis, self.keys(p).cells):
                states.load(chunk)
            if p < old:
                states.load_seen(p, dict(pair for chunk in iter_hash(self.redis, self.keys(p).seen) for pair in chunk))
        unread = self.log.unread({p: (starts[p], ends[p]) for p in range(new) if starts[p] < ends[p]})
        while batch := list(islice(unread, BATCH)):
            for p, entries in states.feed(batch).items():
                staging[p].outputs(entries)
        swaps = []
        for p, state in enumerate(states.states):
            cells = state.cells()
            staging[p].cells(cells.items())
            staging[p].seen(states.seen)
            meta: dict[str, str | int] = {
                "partitions": new,
                "offset": max(ends[p], starts[p]),
                "epoch": epoch + 1,
                "log_time": states.log_times[p],
                "topic_id": topic_id,
                "state_layout": layout,
            }
            swaps.append(_Swap(p, fences[p].token, staging[p].name, meta, len(cells), states.records[p]))
        return swaps


def _waves(entries: list[bytes], bytes_: int = 512 << 10) -> Iterable[list[bytes]]:
    wave: list[bytes] = []
    size = 0
    for entry in entries:
        if wave and size + len(entry) > bytes_:
            yield wave
            wave, size = [], 0
        wave.append(entry)
        size += len(entry)
    if wave:
        yield wave
