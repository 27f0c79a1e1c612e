"""The promise: whatever dies, the end is the same, byte for byte."""

import itertools
import os
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from mlmm.console.replay import replay_records
from mlmm.runtime import topics
from mlmm.runtime.processor import Record
from mlmm.stream_processors import warm_up
from tests.integration.exactness.deployment import INPUTS, PARTITIONS, Deployment, deduped, read_topic
from tests.integration.exactness.workload import Workload
from tests.services import RedisServer, unique
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = 84
"""84 rounds of seven models and twelve runs: more than 200,000 events."""
SECONDS = 75.0
KILLS = 20
FROZEN_SECONDS = 9.0
"""Longer than the session of 6 s, so that the group has given its partitions away."""
QUIET_SECONDS = 120.0
OUTPUTS = ("findings", "incidents", "notifications", "commands")

Line = tuple[str, bytes, bytes, bytes, bytes, bytes]


def send(deployment: Deployment, workload: Workload, seconds: float, stop: threading.Event) -> int:
    """Send the workload at an even pace; return the number of events."""
    producer = KafkaProducer(bootstrap_servers=deployment.kafka, acks="all", linger_ms=5, retries=100)
    sent, pace = 0, seconds / workload.rounds
    began = time.monotonic()
    for turn, records in enumerate(workload):
        for record in records:
            producer.send(deployment.topic(record.topic), record.value, key=record.key, headers=record.headers)
            sent += record.events
        if stop.wait(max(0.0, began + turn * pace - time.monotonic())):
            break
    producer.flush()
    producer.close()
    return sent


def ends(deployment: Deployment, *processors: str) -> dict[tuple[str, int], int]:
    """Return (processor, partition) → end of its input log."""
    consumer = KafkaConsumer(bootstrap_servers=deployment.kafka)
    try:
        return {
            (processor, place.partition): offset
            for processor in processors
            for place, offset in consumer.end_offsets(
                [TopicPartition(deployment.topic(INPUTS[processor]), p) for p in range(PARTITIONS)]
            ).items()
        }
    finally:
        consumer.close()


def finish(deployment: Deployment) -> None:
    """Wait until all input is read, end the workers, wait until all findings are judged, end the rest."""

    def caught_up(wanted: dict[tuple[str, int], int]) -> None:
        def reached() -> bool:
            deployment.check()
            committed = deployment.offsets()
            return bool(committed) and all(committed[place] >= offset for place, offset in wanted.items())

        what = f"{deployment.name} to read {sorted({name for name, _ in wanted})}"
        wait_until(reached, timeout=QUIET_SECONDS, what=what, every=0.2)
        wait_until(lambda: not deployment.outbox(), timeout=QUIET_SECONDS, what="all output to be sent", every=0.2)

    caught_up(ends(deployment, "serving", "training"))
    deployment.stop("worker")
    caught_up(ends(deployment, "alerting"))
    deployment.stop()


def said(deployment: Deployment) -> Counter[Line]:
    """Return all that a deployment put out, each once after dedupe; ticks aside."""
    lines: Counter[Line] = Counter()
    for logical in OUTPUTS:
        for records in read_topic(deployment.kafka, deployment.topic(logical)).values():
            for record in deduped((r for r in records if dict(r.headers)["ce_type"] != b"mlmm.tick.v1"), {}):
                headers = dict(record.headers)
                lines[logical, record.key, headers["ce_type"], headers["ce_id"], headers["ce_time"], record.value] += 1
    return lines


def copy_inputs(source: dict[str, dict[int, list[Record]]], target: Deployment) -> None:
    """Write the same log under another name: the same offsets, keys, values, headers and times."""
    admin = KafkaAdminClient(bootstrap_servers=target.kafka)
    admin.create_topics(
        [
            NewTopic(target.topic(name), PARTITIONS, 1, topic_configs={"message.timestamp.type": "CreateTime"})
            for name in source
        ]
    )
    admin.close()
    topics.create(target.settings)
    producer = KafkaProducer(bootstrap_servers=target.kafka, acks="all", linger_ms=5)
    for name, partitions in source.items():
        for partition, records in partitions.items():
            for r in records:
                producer.send(
                    target.topic(name), r.value, key=r.key, headers=list(r.headers), partition=partition,
                    timestamp_ms=r.log_time // 1000,
                )  # fmt: skip
    producer.flush()
    producer.close()


def differences(one: Counter[Line], other: Counter[Line]) -> str:
    """Say where two sets of outputs differ."""
    missing, extra = one - other, other - one
    show = [f"  {sign} {line}" for sign, lines in (("-", missing), ("+", extra)) for line in itertools.islice(lines, 3)]
    return "\n".join([f"{missing.total()} missing, {extra.total()} more, of {one.total()}", *show])


def replayed(deployment: Deployment, source: dict[str, dict[int, list[Record]]]) -> tuple[Counter[Line], dict]:
    """Return what `mlmm replay` makes of the log: outputs and cells."""
    from mlmm.events import cloudevents_headers

    log = {(name, p): records for name, partitions in source.items() for p, records in partitions.items()}
    replay = replay_records(log, deployment.settings)
    lines: Counter[Line] = Counter()
    for made in itertools.chain(replay.findings, replay.incidents, replay.notifications, replay.commands):
        out = made.output
        headers = dict(cloudevents_headers(out.type, out.id, "replay", out.time, "application/json"))
        lines[out.topic, out.key, headers["ce_type"], headers["ce_id"], headers["ce_time"], out.value] += 1
    return lines, replay.cells


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
    import redis

    done.wait(SECONDS * 0.3)
    redis.Redis(port=store.port).save()
    shutil.copy(folder / "redis" / "dump.rdb", folder / "older.rdb")
    done.wait(rng.uniform(15.0, 20.0))
    store.kill()
    shutil.copy(folder / "older.rdb", folder / "redis" / "dump.rdb")
    store.start()
