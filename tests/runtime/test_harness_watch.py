"""Slots, stalls and patience: what ends a process, and what does not."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_library

from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.harness.kafka_side import Place
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.harness.slots import Slot, Superseded
from mlmm.runtime.harness.watch import GroupFailed, Stalled, Stalls, Watch
from mlmm.runtime.metrics import Metrics
from tests.services import unique

PLACE = Place("t", 0)


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_library.Redis]:
    client = redis_library.Redis.from_url(redis_url)
    yield client
    client.close()


def test_whoever_finds_a_higher_epoch_of_its_slot_ends(redis):
    name = unique("d")
    old, new = Slot(name, "g", "0"), Slot(name, "g", "0")
    assert old.take(redis) == 1
    old.hold(redis)
    assert new.take(redis) == 2
    new.hold(redis)
    with pytest.raises(Superseded, match="a slot of its own"):
        old.hold(redis)
    new.hold(redis)


def test_another_slot_of_the_group_disturbs_nobody(redis):
    name = unique("d")
    slots = [Slot(name, "g", "0"), Slot(name, "g", "1"), Slot(name, "h", "0")]
    for slot in slots:
        slot.take(redis)
    for slot in slots:
        slot.hold(redis)


def test_a_redis_that_came_back_older_does_not_end_the_newest_process(redis):
    name = unique("d")
    old, new = Slot(name, "g", "0"), Slot(name, "g", "0")
    old.take(redis)
    before = redis.hgetall(old.key)
    new.take(redis)
    redis.delete(new.key)
    redis.hset(new.key, mapping=before)
    new.hold(redis)
    with pytest.raises(Superseded):
        old.hold(redis)
    redis.delete(new.key)
    new.hold(redis)
    new.hold(redis)


def test_of_two_processes_with_one_epoch_one_ends(redis):
    """The newer one drew the same number, from a Redis that had come back older."""
    name = unique("d")
    old, new = Slot(name, "g", "0"), Slot(name, "g", "0")
    old.take(redis)
    redis.delete(old.key)
    assert new.take(redis) == old.epoch
    new.hold(redis)
    with pytest.raises(Superseded):
        old.hold(redis)


# --- stalls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looks", "stalls"),
    [
        ([(5, 9, 0), (5, 9, 50), (5, 12, 101)], True),
        ([(5, 9, 0), (6, 9, 50), (6, 12, 101)], False),
        ([(5, 5, 0), (5, 5, 200), (5, 5, 400)], False),
        ([(5, 5, 0), (5, 5, 200), (5, 6, 210), (5, 6, 311)], True),
        ([(None, 0, 0), (None, 0, 101)], True),
        ([(None, 0, 0), (0, 3, 90), (0, 3, 150)], False),
    ],
    ids=[
        "the log moves, we do not",
        "we move",
        "the log is empty",
        "from when it had more",
        "never claimed",
        "claimed late",
    ],
)
def test_a_position_that_stands_still_while_the_log_goes_on_is_a_stall(looks: list[tuple[Any, int, int]], stalls: bool):
    watch = Stalls(after=100)

    def look() -> None:
        for position, end, now in looks:
            watch.check({PLACE: position}, {PLACE: end}, now)

    if stalls:
        with pytest.raises(Stalled, match=r"t\[0\]"):
            look()
    else:
        look()


def look_at(watch: Stalls, positions: dict[Place, Any], times: range, progress: int | None = None) -> None:
    for now in times:
        watch.check(positions, {PLACE: 9}, now, progress=now if progress is None else progress)


def test_a_partition_that_waits_for_its_claim_is_not_stalled_while_claims_get_on():
    """A large state takes longer to load than a position may stand still; one that hangs is a stall all the same."""
    watch = Stalls(after=100)
    look_at(watch, {PLACE: None}, range(0, 1000, 50))
    with pytest.raises(Stalled, match="is not claimed for 150 s"):
        look_at(watch, {PLACE: None}, range(1000, 1200, 50), progress=950)


def test_a_position_that_stands_still_is_a_stall_whatever_others_load():
    watch = Stalls(after=100)
    with pytest.raises(Stalled, match="stands at offset 5"):
        look_at(watch, {PLACE: 5, Place("t", 1): None}, range(0, 200, 50))


def test_a_partition_that_went_elsewhere_is_forgotten():
    watch = Stalls(after=100)
    watch.check({PLACE: 5}, {PLACE: 9}, 0)
    watch.check({}, {}, 50)
    watch.check({PLACE: 5}, {PLACE: 9}, 150)


def watching(consumer: Any, **given: Any) -> Watch:
    app = SimpleNamespace(consumer=consumer, crashed=False, crash_reason=None, **given)
    engine: Any = SimpleNamespace(partitions={}, metrics=Metrics(), claiming=False, progress=0)
    slot: Any = SimpleNamespace(hold=lambda _: None)
    failures: list[BaseException] = []
    watch = Watch(app, engine, slot, None, stall_after=0.2, kafka="here", fail=failures.append)  # type: ignore[arg-type]
    watch.failures = failures  # type: ignore[attr-defined]
    return watch


def test_a_fatal_error_of_the_group_ends_the_process_with_a_reason():
    """Faust logs it and then sits there for ever, alive and idle."""
    watch = watching(SimpleNamespace(group_error=lambda: ValueError("InvalidSessionTimeout")))
    asyncio.run(watch.run())
    (error,) = watch.failures  # type: ignore[attr-defined]
    assert isinstance(error, GroupFailed)
    assert "InvalidSessionTimeout" in str(error)


def test_kafka_that_answers_nothing_for_too_long_ends_the_process():
    async def ends(_: Any) -> None:
        raise TimeoutError

    watch = watching(
        SimpleNamespace(group_error=lambda: None, learn_topics=lambda: None, assignment=lambda: [PLACE], ends=ends)
    )
    asyncio.run(watch.run())
    (error,) = watch.failures  # type: ignore[attr-defined]
    assert isinstance(error, ServiceUnavailable)


@pytest.mark.parametrize("claimed", [False, True], ids=["of this partition", "of another partition"])
@pytest.mark.parametrize("claiming", [False, True])
def test_a_claim_that_goes_on_is_no_stall(claiming: bool, claimed: bool):
    """Loading a large state, or waiting for Redis or Kafka, has bounds of its own; until the last one nothing moves."""
    looks, enough = iter(range(3)), asyncio.Event()

    async def ends(_: Any) -> dict[Place, int]:
        if next(looks, None) is None:
            enough.set()
        return {PLACE: 9}

    consumer = SimpleNamespace(
        group_error=lambda: None, learn_topics=lambda: None, assignment=lambda: [PLACE], ends=ends
    )
    watch = watching(consumer)
    watch._engine.claiming = claiming  # type: ignore[misc]
    if claimed:
        watch._engine.partitions[PLACE] = SimpleNamespace(offset=5, metrics=SimpleNamespace(lag=0))  # type: ignore[assignment]

    async def scenario() -> None:
        running = asyncio.create_task(watch.run())
        await asyncio.wait([running, asyncio.create_task(enough.wait())], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()

    asyncio.run(scenario())
    failures = watch.failures  # type: ignore[attr-defined]
    assert [type(error) for error in failures] == ([] if claiming else [Stalled])


# --- patience --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        redis_library.ConnectionError("gone"),
        redis_library.TimeoutError("slow"),
        redis_library.BusyLoadingError("loading"),
        redis_library.ReadOnlyError("replica"),
        redis_library.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis_library.ResponseError("Error running script (call to f_a): @user_script:1: -OOM command not allowed"),
        redis_library.ResponseError("MISCONF cannot persist"),
        redis_library.ResponseError("BUSY Redis is busy running a script."),
    ],
    ids=str,
)
def test_what_time_may_heal_is_tried_again_within_a_bound(error: Exception):
    tries: list[Exception] = []

    def call() -> str:
        if len(tries) < 2:
            raise error
        return "done"

    assert Patience(5, "here", tries.append)(call) == "done"
    assert tries == [error, error]

    def never() -> None:
        raise error

    with pytest.raises(ServiceUnavailable, match=r"here: away for 0\.1 s"):
        Patience(0.1, "here", lambda _: None)(never)


def test_what_time_does_not_heal_is_not_tried_again():
    tries: list[Exception] = []

    def call() -> None:
        raise redis_library.ResponseError("WRONGTYPE")

    with pytest.raises(redis_library.ResponseError):
        Patience(5, "here", tries.append)(call)

    def refused() -> None:
        raise redis_library.AuthenticationError("no")

    with pytest.raises(ServiceUnavailable, match="refused the logon"):
        Patience(5, "here", tries.append)(refused)
    assert not tries


def test_a_process_that_ends_for_another_reason_waits_no_longer():
    patience = Patience(60, "here", lambda _: patience.close())

    def call() -> None:
        raise redis_library.ConnectionError("gone")

    with pytest.raises(ServiceUnavailable):
        patience(call)
