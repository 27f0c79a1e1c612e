"""A log that is not what it was: records deleted unread, partitions added while we read."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_library

from mlmm.events import JSON, decode_events, header
from mlmm.runtime.errors import LogChanged
from mlmm.runtime.harness.kafka_side import Place
from mlmm.runtime.sequence import encode
from mlmm.runtime.store import Keys
from tests.runtime.test_harness_engine import KEYS, Bench, run

TIME = 1_790_000_000_000
"""Of the records, in milliseconds."""


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_library.Redis]:
    client = redis_library.Redis.from_url(redis_url)
    yield client
    client.close()


def delete(bench: Bench, until: int) -> None:
    """Let retention take all records before an offset."""
    place = Place(bench.topic, 0)
    bench.input.log[place] = [each for each in bench.input.log[place] if each.offset >= until]
    bench.input.oldest[place] = until


def gaps(bench: Bench) -> list[Any]:
    found = []
    for message in bench.sender.sent:
        if header(message.headers, "ce_type") == b"mlmm.gap.v1":
            found += decode_events("mlmm.gap.v1", JSON, message.value, key=message.key)
    return found


def test_records_deleted_before_a_claim_are_told_before_any_record_is_read(redis):
    """Also where none is left: whoever waits for the next record would be silent until then."""

    async def story(bench: Bench) -> None:
        for n in range(10):
            bench.input.add(0, [n], TIME)
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 10)
        await bench.engine.keep(set())
        for n in range(5):
            bench.input.add(0, [n], TIME)
        delete(bench, 15)
        await bench.claim(0)
        assert bench.committed(0) == 15
        (gap,) = gaps(bench)
        assert (gap.topic, gap.partition, gap.first, gap.until, gap.lost) == (bench.topic, 0, 10, 15, 5)
        assert gap.last_read == TIME * 1000
        assert bench.metrics.of("counting", 0).lost == 5
        message = bench.sender.sent[-1]
        assert message.key == f"{bench.topic}/0".encode()
        assert header(message.headers, "ce_sequence") == encode(1, 10, 0), "the epoch rises"

    run(redis, story)


def test_records_deleted_while_we_are_behind_are_told_once_and_the_others_are_read(redis):
    async def story(bench: Bench) -> None:
        bench.input.per_poll = 4
        for n in range(20):
            bench.input.add(0, [n], TIME)
        await bench.claim(0)
        bench.sender.open.clear()
        delete(bench, 13)
        bench.sender.open.set()
        bench.start()
        await bench.until(lambda: bench.committed(0) == 20)
        await bench.until(lambda: gaps(bench), "the gap to be sent")
        assert [(gap.first, gap.until) for gap in gaps(bench)] == [(0, 13)]
        assert int(redis.hget(bench.keys(0).meta, "epoch")) == 1
        metrics = bench.metrics.of("counting", 0)
        assert (metrics.records, metrics.lost, metrics.gaps) == (7, 13, 13)

    run(redis, story)


def test_a_hole_that_a_transaction_left_is_no_loss(redis):
    async def story(bench: Bench) -> None:
        for n in range(10):
            bench.input.add(0, [n], TIME)
        del bench.input.log[Place(bench.topic, 0)][4:5]
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 10)
        metrics = bench.metrics.of("counting", 0)
        assert (metrics.records, metrics.gaps, metrics.lost) == (9, 1, 0)
        assert not gaps(bench)

    run(redis, story)


def test_a_loss_is_committed_with_the_offset_and_told_again_after_a_death(redis):
    async def story(bench: Bench) -> None:
        bench.input.add(0, [1], TIME)
        await bench.claim(0)
        delete(bench, 1)
        await bench.engine.keep(set())
        bench.sender.fail_next = 1_000_000
        bench.start()
        claiming = bench.engine.claim({Place(bench.topic, 0)}, bench.input)
        task = asyncio.create_task(claiming)
        await bench.until(lambda: redis.llen(bench.keys(0).outbox) == 1, "the loss to be committed")
        assert bench.committed(0) == 1
        bench.sender.fail_next = 0
        await task
        assert gaps(bench)
        assert redis.llen(bench.keys(0).outbox) == 0

    run(redis, story)


def test_a_key_in_the_wrong_partition_makes_us_look_whether_partitions_were_added(redis):
    """By the new number it is right: as a dead letter it would have been lost to its own state."""

    async def story(bench: Bench) -> None:
        bench.input.add(0, [1], TIME)
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 1)
        bench.input.partitions = 4
        bench.input.add(0, [1], key=KEYS[1])
        error = await bench.failed()
        assert isinstance(error, LogChanged)
        assert f"mlmm topics repartition {bench.topic}" in str(error)
        assert bench.committed(0) == 1
        assert not bench.sender.sent

    run(redis, story)


def test_a_partition_that_is_still_ours_is_refused_where_its_topic_was_made_anew(redis):
    """The new log may be longer than the old one was before we look: no offset would tell."""

    async def story(bench: Bench) -> None:
        bench.input.add(0, [1], TIME)
        bench.start()
        await bench.claim(0)
        await bench.until(lambda: bench.committed(0) == 1)
        bench.input.topic_id = "id-2"
        with pytest.raises(LogChanged, match=f"mlmm topics adopt {bench.topic}"):
            await bench.claim(0)

    run(redis, story)


def test_a_partition_that_was_added_is_refused_although_it_has_no_state(redis):
    """The state of its keys lies in other partitions: beginning with an empty one would count from nothing."""

    async def story(bench: Bench) -> None:
        other = Keys.of(bench.name, "counting", 0)
        redis.hset(other.meta, mapping={"partitions": 1, "offset": 5})
        with pytest.raises(LogChanged, match=f"made from 1 partitions.*mlmm topics repartition {bench.topic}"):
            await bench.claim(1)
        assert not redis.exists(bench.keys(1).meta)

    run(redis, story)
