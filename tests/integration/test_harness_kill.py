"""Exact under kill, freeze and an older Redis: count, sum and outputs are those of one undisturbed reading."""

import logging
import random
import signal
from pathlib import Path

import pytest

from tests.runtime.rig import Rig, Worker
from tests.services import RedisServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

logger = logging.getLogger(__name__)

RECORDS, EVENTS = 250, 40


def progress(rig: Rig) -> int:
    return sum(rig.state(n)[0] or 0 for n in range(rig.partitions))


def keep_alive(rig: Rig, workers: dict[str, Worker]) -> None:
    """Start again whatever ended, under its slot's name."""
    for slot, worker in workers.items():
        if worker.process.poll() is not None:
            workers[slot] = rig.start(slot)


def test_workers_killed_at_random_lose_nothing_and_count_nothing_twice(
    tmp_path: Path, kafka: str, redis_url: str
) -> None:
    seed = random.randrange(1 << 30)
    logger.warning("seed %d", seed)
    draw = random.Random(seed)
    with Rig(tmp_path, kafka, redis_url) as rig:
        workers = {slot: rig.start(slot) for slot in ("0", "1")}
        kills = 0
        for number in range(10):
            goal = progress(rig) + draw.randrange(1, RECORDS)
            rig.send_many(RECORDS, EVENTS, seed + number)
            rig.producer.flush()

            def far_enough(goal: int = goal) -> bool:
                keep_alive(rig, workers)
                return progress(rig) >= goal

            wait_until(far_enough, timeout=60, what="some progress", every=0.005)
            workers[draw.choice(sorted(workers))].kill()
            kills += 1
        keep_alive(rig, workers)
        rig.wait_until_caught_up()
        sent, kept = rig.assert_exact()
        logger.warning("%d kills, %d outputs, %d sent twice", kills, kept, sent - kept)
        assert kept == sum(count // 10 for count in rig.sent.values())


def test_a_worker_frozen_past_its_session_is_fenced_when_it_wakes(tmp_path: Path, kafka: str, redis_url: str) -> None:
    with Rig(tmp_path, kafka, redis_url, **{"kafka.session_timeout": "2s", "kafka.heartbeat_interval": "300ms"}) as rig:
        workers = {slot: rig.start(slot) for slot in ("0", "1")}
        rig.send_many(RECORDS, EVENTS, 1)
        rig.wait_until_caught_up()
        wait_until(
            lambda: all(w.says("partition claimed") for w in workers.values()), timeout=30, what="both to own some"
        )
        frozen, other = workers["0"], workers["1"]
        rig.send_many(RECORDS * 8, EVENTS, 2)
        before = progress(rig)
        wait_until(lambda: progress(rig) > before, timeout=30, what="it to be in the middle of work", every=0.002)
        frozen.signal(signal.SIGSTOP)
        rig.send_many(RECORDS, EVENTS, 3)
        rig.wait_until_caught_up()
        assert other.process.poll() is None
        frozen.signal(signal.SIGCONT)
        rig.send_many(RECORDS, EVENTS, 4)

        def settled() -> bool:
            keep_alive(rig, workers)
            return rig.caught_up()

        wait_until(settled, timeout=60, what="all to be committed", every=0.3)
        rig.assert_exact()


def test_a_redis_put_back_to_an_older_snapshot_is_healed_by_replay(tmp_path: Path, kafka: str) -> None:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        with Rig(tmp_path, kafka, server.url) as rig:
            workers = {slot: rig.start(slot) for slot in ("0", "1")}
            rig.send_many(RECORDS, EVENTS, 1)
            rig.wait_until_caught_up()
            rig.redis.save()
            rig.send_many(RECORDS, EVENTS, 2)
            rig.wait_until_caught_up()
            rig.send_many(RECORDS * 4, EVENTS, 3)
            before = progress(rig)
            wait_until(lambda: progress(rig) > before, timeout=30, what="it to be in the middle of work", every=0.002)
            server.kill()
            server.start()

            def settled() -> bool:
                keep_alive(rig, workers)
                return rig.caught_up()

            rig.send_many(RECORDS, EVENTS, 4)
            wait_until(settled, timeout=90, what="all to be committed again", every=0.3)
            sent, kept = rig.assert_exact()
            logger.warning("%d outputs, %d sent again with the same sequence", kept, sent - kept)
            assert sent > kept, "the snapshot was not older"
    finally:
        server.kill()
