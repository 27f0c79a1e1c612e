"""The promise: whatever dies, the end is the same, byte for byte."""

import os
import random
import threading
from pathlib import Path

import pytest

from mlmm.runtime import topics
from mlmm.stream_processors import warm_up
from tests.faults.comparison import copy_inputs, differences, read_topic, replayed, said
from tests.faults.deployment import Deployment, finish
from tests.faults.workload import Workload, send
from tests.services import RedisServer, unique

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = 84
"""84 rounds of seven models and twelve runs: more than 200,000 events."""
SECONDS = 75.0
KILLS = 20
FROZEN_SECONDS = 9.0
"""Longer than the session of 6 s, so that the group has given its partitions away."""


def disturb(deployment: Deployment, rng: random.Random, kills: int, done: threading.Event) -> list[str]:
    """Kill and freeze at random until ``done`` or all kills are done."""
    story: list[str] = []
    freeze_at = kills // 2
    for number in range(kills):
        done.wait(rng.uniform(0.5, 2 * SECONDS * 0.75 / kills - 0.5))
        if number == freeze_at:
            frozen = deployment.freeze_one(rng)
            done.wait(FROZEN_SECONDS)
            frozen.resume()
            story.append(f"froze {frozen.pid} for {FROZEN_SECONDS} s")
        story.append(deployment.kill_one(rng))
    return story


@pytest.mark.parametrize("rollback", [False, True], ids=["killed", "killed-and-redis-put-back"])
def test_the_end_is_the_same_byte_for_byte(kafka: str, tmp_path: Path, rollback: bool) -> None:
    """SIGKILLs, a freeze past the session (and an older Redis) change nothing: state and outputs equal those of an
    undisturbed run and of a replay.
    """
    seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"seed: MLMM_TEST_SEED={seed}")
    rng = random.Random(seed)
    warm_up()  # a worker that is killed while it compiles shows nothing
    for folder in ("redis", "other-redis"):
        (tmp_path / folder).mkdir()
    store, other = RedisServer(tmp_path / "redis"), RedisServer(tmp_path / "other-redis")
    store.start()
    other.start()
    deployment = unique("exact")
    disturbed = Deployment(deployment, unique("disturbed"), tmp_path, kafka=kafka, redis_url=store.url)
    topics.create(disturbed.settings)
    done, counted = threading.Event(), []
    workload = Workload(seed, ROUNDS)
    sender = threading.Thread(target=lambda: counted.append(send(disturbed, workload, SECONDS, done)), daemon=True)
    try:
        disturbed.start()
        sender.start()
        story: list[str] = []
        killer = threading.Thread(target=lambda: story.extend(disturb(disturbed, rng, KILLS, done)), daemon=True)
        killer.start()
        if rollback:
            put_back(store, tmp_path, done, rng)
        killer.join(SECONDS * 4)
        sender.join(SECONDS * 4)
        assert len(story) == KILLS + 1, f"only {story} of {KILLS} kills and a freeze happened"
        finish(disturbed)
        state = disturbed.state()
        logs = {name: read_topic(kafka, disturbed.topic(name)) for name in ("serving", "training")}
        for (name, p), (offset, _) in state.items():
            if name in logs:
                logs[name][p] = logs[name][p][:offset]
        outputs = said(disturbed)
    finally:
        done.set()
        disturbed.stop()
    assert counted[0] >= 200_000
    print(f"{counted[0]} events, {len(story)} disturbances, {outputs.total()} outputs")
    assert {line[2] for line in outputs} >= {
        b"mlmm.report.v1", b"mlmm.drift.v1", b"mlmm.run.state.v1", b"mlmm.incident.v1", b"mlmm.command.v1"
    }  # fmt: skip

    lines, cells = replayed(disturbed, logs)
    assert outputs == lines, f"replay: {differences(outputs, lines)}"
    for place, (_, found) in state.items():
        assert found == cells.get(place, {}), f"replay: cells of {place} differ"

    undisturbed = Deployment(deployment, unique("undisturbed"), tmp_path, kafka=kafka, redis_url=other.url, tick="1d")
    copy_inputs(logs, undisturbed)
    try:
        undisturbed.start()
        finish(undisturbed)
    finally:
        undisturbed.stop()
    again = said(undisturbed)
    assert outputs == again, f"undisturbed: {differences(outputs, again)}"
    for place, (offset, found) in undisturbed.state().items():
        if place[0] != "alerting":
            assert offset == state[place][0]
        assert found == state[place][1], f"undisturbed: cells of {place} differ"
    store.kill()
    other.kill()


def put_back(store: RedisServer, folder: Path, done: threading.Event, rng: random.Random) -> None:
    """Take a snapshot of Redis, and some time later bring it back at that."""
    done.wait(SECONDS * 0.3)
    store.snapshot(folder / "older")
    done.wait(rng.uniform(15.0, 20.0))
    store.kill()
    store.restore(folder / "older")
    store.start()
