"""The engine on a list for a log and a real Redis: order of steps, and what each failure leaves behind."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
import redis as redis_library

from mlmm.events.headers import header
from mlmm.events.placement import partition_of
from mlmm.runtime import claims, outbox
from mlmm.runtime.claims import Log
from mlmm.runtime.commits import Commit, commit
from mlmm.runtime.errors import Fenced, LogChanged, ServiceUnavailable
from mlmm.runtime.harness import drainer
from mlmm.runtime.harness.engine import Engine, Limits
from mlmm.runtime.harness.kafka_side import Place
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.harness.sender import SendFailed
from mlmm.runtime.metrics import Metrics
from mlmm.runtime.outbox import Message
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.sequence import Seen, encode
from mlmm.runtime.store import Keys, read_cells
from tests.runtime.counting import Counting
from tests.services import unique

PARTITIONS = 2
LEFT_BEHIND = Output(topic="findings", key=b"m", type="mlmm.report.v1", id="left behind", time=0, value=b"{}", offset=0)
KEYS = {n: next(key for i in range(99) if partition_of(key := b"m%d" % i, PARTITIONS) == n) for n in range(PARTITIONS)}


class Fetched(NamedTuple):
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class ListInput:
    """A log that is a list: what Faust's consumer is to the engine."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.log: dict[Place, list[Fetched]] = {Place(topic, n): [] for n in range(PARTITIONS)}
        self.position: dict[Place, int] = {}
        self.advised: dict[Place, int] = {}
        self.topic_id = "id-1"
        self.partitions = PARTITIONS
        self.oldest: dict[Place, int] = {}
        self.per_poll = 10

    def add(self, partition: int, value: Any, time: int = 1000, **given: Any) -> None:
        log = self.log[Place(self.topic, partition)]
        offset = log[-1].offset + 1 if log else 0
        log.append(Fetched(offset, time, given.pop("key", KEYS[partition]), msgspec.msgpack.encode(value), **given))

    async def fetch(self, active: set[Place], seconds: float) -> Mapping[Any, Sequence[Any]]:
        found = {}
        for place in active:
            waiting = [each for each in self.log[place] if each.offset >= self.position.get(place, 0)][: self.per_poll]
            if waiting:
                self.position[place] = waiting[-1].offset + 1
                found[place] = waiting
        await asyncio.sleep(0 if found else 0.005)
        return found

    async def seek(self, offsets: Mapping[Place, int]) -> None:
        self.position.update(offsets)

    async def logs(self, places: Iterable[Place]) -> dict[Place, Log]:
        return {
            place: Log(
                *place,
                self.topic_id,
                self.partitions,
                self.oldest.get(place, 0),
                max((each.offset + 1 for each in self.log[place]), default=self.oldest.get(place, 0)),
            )
            for place in places
        }

    async def first(self, place: Place) -> int:
        return self.oldest.get(place, 0)

    async def advise(self, offsets: Mapping[Place, int]) -> None:
        self.advised.update(offsets)

    def end(self, place: Place) -> int | None:
        return len(self.log[place])


class ListSender:
    """Kafka's other side: takes messages, fails or hangs when told."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.ticks: list[tuple[int, Message]] = []
        self.fail_next = 0
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, messages: Sequence[Message], *, partition: int | None = None) -> None:
        await self.open.wait()
        if partition is not None:
            self.ticks += [(partition, message) for message in messages]
            return
        if self.fail_next:
            self.fail_next -= 1
            self.sent += messages[: len(messages) // 2]
            raise SendFailed("made to fail")
        self.sent += messages

    async def close(self) -> None:
        self.open.set()


class Bench:
    """An engine, its surroundings, and the task that runs it."""

    def __init__(
        self, redis: Any, name: str, *, processor: Counting | None = None, limit: int = 1000, give_up: float = 5
    ) -> None:
        self.name, self.redis = name, redis
        self.processor = processor or Counting(every=2)
        self.topic = f"mlmm.{self.processor.input}"
        self.input, self.sender, self.metrics = ListInput(self.topic), ListSender(), Metrics()
        self.failures: list[BaseException] = []
        self.engine = Engine(
            {self.topic: self.processor},
            deployment=name,
            redis=redis,
            patience=Patience(give_up, "redis://here", lambda _: None),
            sender=self.sender,  # type: ignore[arg-type]
            metrics=self.metrics,
            limits=Limits(tick_interval=0.01, outbox_limit=limit, stall_after=5),
            sign=None,
            kafka="here",
            fail=self.fail,
        )
        self.task: asyncio.Task[None] | None = None

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.engine.stopping = True

    async def claim(self, *partitions: int) -> None:
        await self.engine.claim({Place(self.topic, n) for n in partitions}, self.input)

    async def run(self) -> None:
        try:
            await self.engine.run(self.input)
        except Exception as error:  # noqa: BLE001 - what Faust's side does: it is the reason
            self.fail(error)

    def start(self) -> None:
        self.engine.start()
        self.task = asyncio.create_task(self.run())

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        async with asyncio.timeout(10):
            while not condition():
                assert not self.failures, self.failures
                await asyncio.sleep(0.002)

    async def failed(self) -> BaseException:
        async with asyncio.timeout(10):
            while not self.failures:  # noqa: ASYNC110 - lists set no event
                await asyncio.sleep(0.002)
        return self.failures[0]

    async def close(self) -> None:
        self.sender.open.set()
        self.engine.stopping = True
        if self.task:
            await self.task
        await self.engine.close()

    def keys(self, partition: int) -> Keys:
        return Keys.of(self.name, self.processor.name, partition)

    def committed(self, partition: int) -> int:
        return read_cells(self.redis, self.name, self.processor.name, partition)[0] or 0

    def ids(self) -> list[str]:
        return [(header(message.headers, "ce_id") or b"").decode() for message in self.sender.sent]


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_library.Redis]:
    client = redis_library.Redis.from_url(redis_url)
    yield client
    client.close()


def run(redis: Any, story: Callable[..., Awaitable[None]], **given: Any) -> None:
    async def told() -> None:
        bench = Bench(redis, unique("engine"), **given)
        try:
            await story(bench)
        finally:
            await bench.close()

    asyncio.run(told())


def test_each_poll_is_one_commit_and_its_outputs_follow(redis):
    async def story(bench: Bench) -> None:
        for n in range(35):
            bench.input.add(0, [n])
        bench.start()
        await bench.claim(0)
        metrics = bench.metrics.of("counting", 0)
        await bench.until(lambda: bench.committed(0) == 35 and metrics.sent == 17)
        await bench.until(lambda: not redis.llen(bench.keys(0).outbox))
        assert (metrics.polls, metrics.commits, metrics.records, metrics.outputs, metrics.sent) == (4, 4, 35, 17, 17)
        name = KEYS[0].decode()
        assert bench.ids() == [f"{name}:{n}" for n in range(2, 35, 2)]
        sequences = [header(message.headers, "ce_sequence") for message in bench.sender.sent]
        assert sequences == [encode(0, offset, 0) for offset in range(1, 35, 2)]

    run(redis, story)


def test_no_record_is_accepted_for_a_partition_that_is_not_claimed(redis):
    async def story(bench: Bench) -> None:
        for partition in (0, 1):
            for n in range(5):
                bench.input.add(partition, [n])
        bench.start()
        await bench.claim(0)
        everything = await bench.input.fetch({Place(bench.topic, 0), Place(bench.topic, 1)}, 0)
        bench.input.position.clear()
        await bench.engine._poll(everything, bench.input)
        await bench.until(lambda: bench.committed(0) == 5)
        assert read_cells(redis, bench.name, "counting", 1) == (None, {})

    run(redis, story)


def test_a_claim_drains_before_it_processes(redis):
    async def story(bench: Bench) -> None:
        left = outbox.encode(encode(0, 0, 0), LEFT_BEHIND, "serving", 0)
        bench.input.add(0, [1])
        bench.input.add(0, [1])
        held = claims.claim(
            redis, bench.keys(0), (await bench.input.logs([Place(bench.topic, 0)]))[Place(bench.topic, 0)]
        )
        commit(redis, bench.keys(0), held, Commit(id="c", expected=0, offset=1, log_time=0, cells={}, outputs=[left]))
        bench.sender.open.clear()
        bench.start()
        claiming = asyncio.create_task(bench.claim(0))
        await bench.until(lambda: bench.metrics.claims == 1 and bench.engine._drainer.lock.locked())
        assert not claiming.done()
        assert bench.metrics.of("counting", 0).records == 0
        bench.sender.open.set()
        await claiming
        await bench.until(lambda: bench.committed(0) == 2)
        assert bench.ids()[0] == "left behind"

    run(redis, story)


def test_a_full_outbox_pauses_the_input_and_drops_nothing(redis):
    async def story(bench: Bench) -> None:
        for n in range(200):
            bench.input.add(0, [n, n])
        bench.start()
        await bench.claim(0)
        bench.sender.open.clear()
        await bench.until(lambda: bench.metrics.of("counting", 0).paused)
        assert bench.committed(0) < 200
        waiting = redis.llen(bench.keys(0).outbox)
        assert 20 <= waiting <= 20 + 2 * bench.input.per_poll
        bench.sender.open.set()
        await bench.until(lambda: bench.committed(0) == 200 and not redis.llen(bench.keys(0).outbox))
        assert len(bench.ids()) == len(set(bench.ids())) == 200
        assert not bench.metrics.of("counting", 0).paused

    run(redis, story, limit=20)


def test_a_full_outbox_of_one_partition_does_not_pause_another(redis):
    async def story(bench: Bench) -> None:
        for n in range(100):
            bench.input.add(0, [n, n])
            bench.input.add(1, [n])
        bench.start()
        await bench.claim(0, 1)
        bench.engine.partitions[Place(bench.topic, 0)].pending.extend([b"x" * 40] * 20)
        assert bench.engine._active() == {Place(bench.topic, 1)}
        bench.engine.partitions[Place(bench.topic, 0)].pending.clear()

    run(redis, story, limit=20)


def test_a_full_outbox_of_one_partition_does_not_hold_another_ones_back(redis, monkeypatch):
    monkeypatch.setattr(drainer, "WAVE_ENTRIES", 5)

    async def story(bench: Bench) -> None:
        for n in range(40):
            bench.input.add(0, [n, n])
        bench.input.add(1, [1, 1])
        bench.sender.open.clear()
        bench.start()
        await bench.claim(0, 1)
        await bench.until(lambda: bench.committed(0) == 40 and bench.committed(1) == 1)
        bench.sender.open.set()
        await bench.until(lambda: len(bench.ids()) == 41)
        assert bench.ids().index(f"{KEYS[1].decode()}:2") <= 15

    run(redis, story)


def test_a_failed_send_starts_again_from_the_head(redis):
    async def story(bench: Bench) -> None:
        bench.sender.fail_next = 2
        for n in range(20):
            bench.input.add(0, [n, n])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 20 and not redis.llen(bench.keys(0).outbox))
        records = [Record(n, 0, m.key, m.value, m.headers) for n, m in enumerate(bench.sender.sent)]
        kept = [header(record.headers, "ce_id") for record in Seen().fresh(records)]
        assert len(bench.sender.sent) > 20
        assert kept == [f"{KEYS[0].decode()}:{n}".encode() for n in range(2, 41, 2)]

    run(redis, story)


def test_kafka_that_takes_nothing_for_too_long_ends_the_process(redis):
    async def story(bench: Bench) -> None:
        bench.engine._drainer._give_up_after = 0.05
        bench.sender.fail_next = 10_000
        bench.input.add(0, [1, 1])
        bench.start()
        await bench.claim(0)
        assert isinstance(await bench.failed(), ServiceUnavailable)
        assert redis.llen(bench.keys(0).outbox) == 1

    run(redis, story)


def test_whoever_was_fenced_ends_without_acknowledging(redis):
    async def story(bench: Bench) -> None:
        bench.input.add(0, [1])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 1)
        place = Place(bench.topic, 0)
        claims.claim(redis, bench.keys(0), (await bench.input.logs([place]))[place])
        bench.input.add(0, [2])
        assert isinstance(await bench.failed(), Fenced)
        assert bench.committed(0) == 1
        assert bench.input.advised.get(place, 0) <= 1

    run(redis, story)


def test_a_revocation_finishes_the_commit_in_flight_and_accepts_no_more(redis):
    async def story(bench: Bench) -> None:
        for n in range(10):
            bench.input.add(0, [n])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.metrics.of("counting", 0).records == 10)
        await bench.engine.release()
        assert bench.committed(0) == 10
        bench.input.add(0, [10])
        fetched = await bench.input.fetch({Place(bench.topic, 0)}, 0)
        await bench.engine._poll(fetched, bench.input)
        await bench.engine._settle()
        assert (bench.committed(0), bench.metrics.of("counting", 0).records) == (10, 10)

    run(redis, story)


def test_what_was_revoked_is_neither_drained_nor_ticked(redis):
    """Its next owner drains it; popping there would fence us for nothing."""

    async def story(bench: Bench) -> None:
        bench.input.add(0, {"arm": 1})
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.sender.ticks)
        await bench.engine.release()
        place = Place(bench.topic, 0)
        partition = bench.engine.partitions[place]
        partition.pending.append(b"x" * 40)
        ticks = len(bench.sender.ticks)
        await bench.engine._ticker.write()
        assert len(bench.sender.ticks) == ticks
        assert not await bench.engine._drainer._wave()
        partition.pending.clear()

    run(redis, story)


def test_a_partition_that_is_still_ours_keeps_its_state_and_one_that_is_not_is_dropped(redis):
    async def story(bench: Bench) -> None:
        for partition in (0, 1):
            bench.input.add(partition, [1])
        bench.start()
        await bench.claim(0, 1)
        await bench.until(lambda: bench.committed(0) == bench.committed(1) == 1)
        kept = bench.engine.partitions[Place(bench.topic, 0)]
        await bench.engine.release()
        await bench.claim(0)
        assert bench.engine.partitions == {Place(bench.topic, 0): kept}
        assert bench.metrics.claims == 2
        bench.input.add(0, [1])
        await bench.until(lambda: bench.committed(0) == 2)

    run(redis, story)


def test_a_partition_that_another_worker_had_meanwhile_is_loaded_anew(redis):
    async def story(bench: Bench) -> None:
        bench.input.add(0, [1])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 1)
        await bench.engine.release()
        place = Place(bench.topic, 0)
        bench.input.add(0, [5])
        other = claims.claim(redis, bench.keys(0), (await bench.input.logs([place]))[place])
        state = Counting().state()
        state.load([])
        cells = {KEYS[0]: b"".join(n.to_bytes(8, "little") for n in (2, 6, 0))}
        commit(redis, bench.keys(0), other, Commit(id="o", expected=1, offset=2, log_time=0, cells=cells))
        await bench.claim(0)
        assert bench.metrics.claims == 2
        assert bench.engine.partitions[place].offset == 2
        assert dict(bench.engine.partitions[place].state.cells()) == cells

    run(redis, story)


def test_where_nothing_is_assigned_all_is_dropped(redis):
    async def story(bench: Bench) -> None:
        bench.start()
        await bench.claim(0, 1)
        await bench.engine.keep(set())
        assert not bench.engine.partitions

    run(redis, story)


def test_a_gap_is_sought_once_more_then_counted(redis):
    async def story(bench: Bench) -> None:
        for n in range(10):
            bench.input.add(0, [n])
        del bench.input.log[Place(bench.topic, 0)][4:7]
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 10)
        metrics = bench.metrics.of("counting", 0)
        assert (metrics.records, metrics.gaps) == (7, 3)

    run(redis, story)


def test_a_log_made_anew_while_we_read_is_refused(redis):
    """Going on would ignore new data in silence until the log is as long as the old one was."""

    async def story(bench: Bench) -> None:
        for n in range(10):
            bench.input.add(0, [n])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 10)
        place = Place(bench.topic, 0)
        bench.input.log[place].clear()
        bench.input.topic_id = "id-2"
        bench.input.add(0, [1])
        bench.input.position[place] = 0
        error = await bench.failed()
        assert isinstance(error, LogChanged)
        assert "mlmm topics adopt" in str(error)
        assert bench.committed(0) == 10

    run(redis, story)


def test_ticks_are_written_while_a_deadline_is_pending_and_only_then(redis):
    async def story(bench: Bench) -> None:
        bench.input.add(0, [1])
        bench.input.add(1, {"arm": 5})
        bench.start()
        await bench.claim(0, 1)
        await bench.until(lambda: len(bench.sender.ticks) >= 2)
        assert {partition for partition, _ in bench.sender.ticks} == {1}
        message = bench.sender.ticks[0][1]
        assert (message.topic, message.key) == ("serving", b"")
        bench.input.log[Place(bench.topic, 1)].append(Fetched(1, 2000, b"", message.value, tuple(message.headers)))
        await bench.until(lambda: bench.committed(1) == 2)
        await bench.until(lambda: bench.sender.sent)
        assert bench.ids() == [f"{KEYS[1].decode()}:due"]
        await bench.until(lambda: bench.engine.partitions[Place(bench.topic, 1)].deadline is None)
        before = len(bench.sender.ticks)
        await bench.engine._ticker.write()
        assert len(bench.sender.ticks) == before

    run(redis, story)


def test_what_workers_made_is_taken_once_and_that_is_committed_with_the_state(redis):
    findings = Counting("alerting", "findings", every=1000)

    def made(bench: Bench, *sequence: int) -> None:
        bench.input.add(0, [1], headers=(("ce_source", b"d/serving/t/0"), ("ce_sequence", encode(*sequence))))

    async def story(bench: Bench) -> None:
        for sequence in [(0, 1, 0), (0, 1, 0), (0, 2, 0), (0, 1, 1)]:
            made(bench, *sequence)
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 4)
        assert bench.metrics.of("alerting", 0).duplicates == 2
        await bench.engine.keep(set())
        made(bench, 0, 2, 0)
        made(bench, 0, 3, 0)
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 6)
        cells = read_cells(redis, bench.name, "alerting", 0)[1]
        assert int.from_bytes(cells[KEYS[0]][:8], "little") == 3

    run(redis, story, processor=findings)


def test_a_misplaced_record_is_a_dead_letter_of_the_same_commit(redis):
    async def story(bench: Bench) -> None:
        bench.input.add(0, [1])
        bench.input.add(0, [1], key=KEYS[1])
        bench.input.add(0, [1])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 3 and len(bench.sender.sent) == 2)
        letter, report = bench.sender.sent
        assert (letter.topic, letter.key, header(letter.headers, "mlmm_offset")) == ("dead-letters", KEYS[1], b"1")
        assert report.topic == "findings"
        assert bench.metrics.of("counting", 0).misplaced == 1

    run(redis, story)


class Flaky:
    """A Redis client whose calls are lost: some before they arrive, some after they were applied."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self.away = False
        self.turn = 0

    def _call(self, name: str, *args: Any) -> Any:
        self.turn += 1
        if self.away or self.turn % 3 == 1:
            raise redis_library.ConnectionError("lost on the way there")
        reply = getattr(self._redis, name)(*args)
        if self.turn % 3 == 2:
            raise redis_library.ConnectionError("lost on the way back")
        return reply

    def evalsha(self, *args: Any) -> Any:
        return self._call("evalsha", *args)

    def script_load(self, *args: Any) -> Any:
        return self._redis.script_load(*args)

    def execute_command(self, *args: Any) -> Any:
        return self._call("execute_command", *args)


def test_redis_away_pauses_and_retries_and_nothing_is_applied_twice(redis):
    async def story() -> None:
        bench = Bench(redis, unique("engine"))
        flaky = Flaky(redis)
        flaky_bench = Bench(flaky, bench.name)
        flaky_bench.input = bench.input
        for n in range(30):
            bench.input.add(0, [n])
        flaky_bench.start()
        await flaky_bench.claim(0)

        async def finished() -> None:
            while bench.committed(0) < 30 or redis.llen(bench.keys(0).outbox):
                assert not flaky_bench.failures, flaky_bench.failures
                await asyncio.sleep(0.01)

        await asyncio.wait_for(finished(), 30)
        assert flaky_bench.ids() == [f"{KEYS[0].decode()}:{n}" for n in range(2, 31, 2)]
        cells = read_cells(redis, bench.name, "counting", 0)[1]
        assert int.from_bytes(cells[KEYS[0]][:8], "little") == 30
        await flaky_bench.close()
        await bench.close()

    asyncio.run(story())


def test_redis_away_for_too_long_ends_the_process_and_nothing_is_lost(redis):
    async def story() -> None:
        flaky = Flaky(redis)
        bench = Bench(flaky, unique("engine"), give_up=0.3)
        bench.input.add(0, [1])
        bench.start()
        await bench.claim(0)
        flaky.away = True
        bench.input.add(0, [2])
        error = await bench.failed()
        assert isinstance(error, ServiceUnavailable)
        assert "nothing is lost" in str(error)
        await bench.close()

    asyncio.run(story())


def test_to_stop_is_to_finish_the_commit_and_to_drain(redis):
    async def story(bench: Bench) -> None:
        for n in range(40):
            bench.input.add(0, [n, n])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.metrics.of("counting", 0).records >= 10)
        await bench.engine.stop(5)
        offset = bench.engine.partitions[Place(bench.topic, 0)].offset
        assert bench.committed(0) == offset >= 10
        assert not redis.llen(bench.keys(0).outbox)
        assert len(bench.sender.sent) == offset

    run(redis, story)


def test_the_group_is_told_what_redis_holds_and_never_more(redis):
    async def story(bench: Bench) -> None:
        for n in range(25):
            bench.input.add(0, [n])
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 25)
        bench.engine._advised = -1e9
        await bench.until(lambda: bench.input.advised.get(Place(bench.topic, 0)) == 25)

    run(redis, story)


def test_self_metrics_tell_what_happened(redis):
    async def story(bench: Bench) -> None:
        for n in range(4):
            bench.input.add(1, [n, n])
        bench.start()
        await bench.claim(1)
        await bench.until(lambda: bench.committed(1) == 4 and len(bench.sender.sent) == 4)
        await bench.until(lambda: bench.metrics.of("counting", 1).outbox == 0)
        (row,) = bench.metrics.snapshot(now=1e12)
        expected = {"processor": "counting", "partition": 1, "records": 4, "state_events": 8, "position": 4, "lag": 0}
        assert expected.items() <= row.items()
        assert row["commit_bytes"] > 0
        assert row["last_commit_age"] > 0
        msgspec.json.encode(row)

    run(redis, story)
