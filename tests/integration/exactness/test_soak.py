"""A long run under all that production does to workers: no byte differs from a replay of the log.

``make soak SOAK_SECONDS=28800`` is the overnight form (1,000 kills); what CI runs takes some minutes.
"""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from mlmm.runtime import topics
from mlmm.stream_processors import warm_up
from tests.faults.comparison import differences, read_topic, replayed, said
from tests.faults.deployment import finish
from tests.faults.soak import Disturber, Soaked
from tests.faults.workload import Workload, send
from tests.services import RedisServer, unique

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
ROUNDS = int(min(SECONDS, 2_000))
"""A round is about 2,500 events; more than these do not fit in the memory of who compares."""
KINDS = 6
"""SIGKILL, SIGTERM, SIGSTOP, machines that come and go, clocks that jump, supervisors that are killed."""
PAUSE = max(1.5, SECONDS / 2_000)
"""Seconds between two disturbances, of which half are kills."""

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200 + 2 * SECONDS)]


def test_whatever_is_done_to_workers_the_end_is_the_same_byte_for_byte(kafka: str, tmp_path: Path) -> None:
    """SIGKILL, SIGSTOP, SIGTERM, machines added and removed, clocks that jump, supervisors killed: zero differences."""
    seed = int(os.environ.get("MLMM_TEST_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"seed: MLMM_TEST_SEED={seed}")
    rng = random.Random(seed)
    warm_up()  # a worker that is killed while it compiles shows nothing
    (tmp_path / "redis").mkdir()
    store = RedisServer(tmp_path / "redis")
    store.start()
    # Deadlines of incidents and commands are in the clock of the findings' causes; a finding that a killed worker holds
    # back for longer than their grace comes after them in the log. They have tests of their own.
    longer = {"ACK_TIMEOUT": "7d", "RESOLVE_AFTER": "7d", "COMMAND_LIFETIME": "24h"}
    soaked = Soaked(
        unique("soak"),
        unique("soaked"),
        tmp_path,
        kafka=kafka,
        redis_url=store.url,
        more={f"MLMM_ALERTING__{name}": value for name, value in longer.items()},
    )
    topics.create(soaked.settings)
    stop, counted = threading.Event(), []
    sender = threading.Thread(
        target=lambda: counted.append(send(soaked, Workload(seed, ROUNDS), SECONDS, stop)), daemon=True
    )
    disturber = Disturber(soaked, rng, PAUSE)
    try:
        soaked.start()
        sender.start()
        ends = time.monotonic() + SECONDS
        disturber.run(lambda: time.monotonic() > ends, stop)
        sender.join(SECONDS + 60)
        finish(soaked)
        state = soaked.state()
        logs = {name: read_topic(kafka, soaked.topic(name)) for name in ("serving", "training")}
        for (name, p), (offset, _) in state.items():
            if name in logs:
                logs[name][p] = logs[name][p][:offset]
        outputs = said(soaked)
    finally:
        stop.set()
        soaked.stop()
    print(f"{counted[0]} events, {outputs.total()} outputs, {dict(disturber.done)}")
    assert len(disturber.done) == KINDS, "some of it never came up"
    lines, cells = replayed(soaked, logs)
    assert outputs == lines, f"replay: {differences(outputs, lines)}"
    for place, (_, found) in state.items():
        assert found == cells.get(place, {}), f"replay: cells of {place} differ"
    store.kill()
