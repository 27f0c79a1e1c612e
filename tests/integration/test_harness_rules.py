"""The harness on real Kafka and Redis, one rule a test: what it does when something is not as it should be."""

import ast
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

from mlmm.events.headers import header
from mlmm.events.placement import partition_of
from mlmm.runtime.claims import Log, claim
from mlmm.runtime.harness import Exit
from mlmm.runtime.store import Keys, adopt
from tests.runtime.rig import Rig, Worker
from tests.services import RedisServer
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def rig(tmp_path: Path, kafka: str, redis_url: str) -> Iterator[Rig]:
    with Rig(tmp_path, kafka, redis_url) as rig:
        yield rig


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", aof=True)
    server.start()
    yield server
    server.kill()


def test_asked_to_end_it_drains_and_exits_with_zero(rig: Rig):
    worker = rig.start()
    rig.send_many(2000, 20, 1)
    rig.producer.flush()
    wait_until(lambda: sum(rig.state(n)[0] or 0 for n in range(3)) > 0, timeout=30, what="some progress", every=0.005)
    assert worker.terminate() == Exit.FINE
    assert all(rig.outbox(n) == 0 for n in range(3))
    rig.start()
    rig.wait_until_caught_up()
    sent, kept = rig.assert_exact()
    assert sent == kept, "what was drained is not sent again"


def test_a_restart_under_its_slots_name_needs_no_session_timeout(rig: Rig):
    """Static membership: a killed worker that comes back gets its partitions at once."""
    first = rig.start()
    rig.send_many(30, 5, 1)
    rig.wait_until_caught_up()
    first.kill()
    rig.send_many(30, 5, 2)
    rig.start()
    rig.wait_until_caught_up(timeout=30)
    rig.assert_exact()


def test_what_does_not_keep_the_contract_is_a_dead_letter_of_the_same_commit(rig: Rig):
    rig.start()
    rig.send_many(50, 5, 1)
    wrong = (partition_of(b"model-1", 3) + 1) % 3
    rig.send(b"model-1", [1], partition=wrong, id="misplaced")
    rig.producer.send(rig.topic("serving"), b"\xc1 no msgpack", key=b"model-2", headers=[("ce_id", b"poison")])
    rig.send_many(50, 5, 2)
    rig.wait_until_caught_up()
    rig.sent[b"model-2"] += 0
    letters = {header(record.headers, "ce_id"): record for _, record in rig.read("dead-letters")}
    assert set(letters) == {b"misplaced", b"poison"}
    assert letters[b"poison"].value == b"\xc1 no msgpack"
    assert header(letters[b"misplaced"].headers, "mlmm_partition") == b"%d" % wrong
    assert header(letters[b"poison"].headers, "mlmm_topic") == b"serving"
    rig.assert_exact()


def test_a_deadline_fires_at_a_tick_of_the_log(tmp_path: Path, kafka: str, redis_url: str):
    with Rig(tmp_path, kafka, redis_url, **{"worker.tick_interval": "100ms"}) as rig:
        rig.start()
        rig.send(b"model-1", {"arm": 300_000}, id="arm")
        rig.producer.flush()
        outputs = wait_until(lambda: rig.read("findings"), timeout=30, what="the deadline to fire", every=0.2)
        log = [record for n, record in rig.read("serving") if n == partition_of(b"model-1", 3)]
        armed, ticks = log[0], log[1:]
        assert len(outputs) == 1
        assert header(outputs[0][1].headers, "ce_id") == b"model-1:due"
        fired = next(record for record in ticks if record.log_time >= armed.log_time + 300_000)
        assert header(fired.headers, "ce_type") == b"mlmm.tick.v1"
        assert (header(outputs[0][1].headers, "ce_sequence") or b"").split(b".")[1] == b"%019d" % fired.offset


def test_equal_partitions_of_all_inputs_land_on_one_worker(rig: Rig):
    processors = [{"name": "counting"}, {"name": "second", "input": "training"}]
    workers = [rig.start(slot, processors=processors) for slot in ("0", "1")]
    rig.send_many(200, 5, 1)
    rig.send_many(200, 5, 2, topic="training")
    rig.wait_until_caught_up()
    rig.wait_until_caught_up(topic="training", processor="second")
    wait_until(lambda: all(w.says("partition claimed") for w in workers), timeout=30, what="both to own some")
    rig.send_many(200, 5, 3)
    rig.send_many(200, 5, 4, topic="training")
    rig.wait_until_caught_up()
    rig.wait_until_caught_up(topic="training", processor="second")
    for worker in workers:
        assert worker.terminate() == Exit.FINE
    owned = [held(worker) for worker in workers]
    for each in owned:
        numbers = [{n for topic, n in each if topic == rig.topic(name)} for name in ("serving", "training")]
        assert numbers[0] == numbers[1] != set()
    assert not set.intersection(*owned)


def held(worker: Worker) -> set[tuple[str, int]]:
    """Partitions that a worker's log says it held at the end."""
    last: dict[tuple[str, int], bool] = {}
    for line in worker.log.read_text().splitlines():
        for what, is_held in (("partition claimed", True), ("partition dropped", False)):
            if what in line:
                given = ast.literal_eval(line[line.index("{") :])
                last[given["topic"], given["partition"]] = is_held
    return {place for place, is_held in last.items() if is_held}


# --- what is not the log that the state was made from ----------------------------------------------------------------


def stopped_after(rig: Rig, records: int = 60) -> None:
    worker = rig.start()
    rig.send_many(records, 5, 1)
    rig.wait_until_caught_up()
    assert worker.terminate() == Exit.FINE


def test_a_topic_made_anew_is_refused_until_it_is_adopted(rig: Rig):
    stopped_after(rig)
    name = rig.topic("serving")
    rig.admin.delete_topics([name])
    wait_until(lambda: name not in rig.admin.list_topics(), timeout=30, what="the topic to be gone", every=0.2)
    wait_until(lambda: make_topic(rig, name), timeout=30, what="the topic to be made anew", every=0.5)
    worker = rig.start()
    assert worker.ended() == Exit.LOG_CHANGED
    assert worker.says(f"mlmm topics adopt {name}")
    topic_id = str(rig.admin.describe_topics([name])[0]["topic_id"])
    for n in range(3):
        adopt(rig.redis, Keys.of(rig.name, "counting", n), topic_id=topic_id, partitions=3, offset=0)
    rig.send_many(60, 5, 2)
    rig.start()
    rig.wait_until_caught_up()
    assert rig.totals() == {key: (count, rig.sums[key]) for key, count in rig.sent.items()}
    sent, kept = rig.outputs()
    assert len(sent) == len(kept), "outputs of the new epoch are higher than those of the old one"


def make_topic(rig: Rig, name: str) -> bool:
    from kafka.errors import TopicAlreadyExistsError

    try:
        rig.admin.create_topics({name: {"num_partitions": 3, "replication_factor": 1}})
    except TopicAlreadyExistsError:
        return False
    return True


def test_another_number_of_partitions_is_refused(rig: Rig):
    stopped_after(rig)
    rig.admin.create_partitions({rig.topic("serving"): 4})
    worker = rig.start()
    assert worker.ended() == Exit.LOG_CHANGED
    assert worker.says(f"mlmm topics repartition {rig.topic('serving')}")


def test_a_log_that_ends_before_the_stored_offset_is_refused(rig: Rig):
    stopped_after(rig)
    rig.redis.hset(Keys.of(rig.name, "counting", 1).meta, "offset", 10_000)
    worker = rig.start()
    assert worker.ended() == Exit.LOG_CHANGED
    assert worker.says("before 10000 where the state goes on")


def test_records_that_retention_took_are_counted_and_reported(rig: Rig):
    stopped_after(rig)
    rig.send_many(90, 5, 2)
    ends = rig.ends("serving")
    lost = ends[0] - 3
    stood = rig.state(0)[0] or 0
    assert stood < lost
    rig.admin.delete_records({TopicPartition(rig.topic("serving"), 0): lost})
    worker = rig.start()
    rig.wait_until_caught_up()
    assert worker.says("records deleted before they were read")
    found = [r for _, r in rig.read("findings") if header(r.headers, "ce_type") == b"mlmm.gap.v1"]
    assert [r.key for r in found] == [f"{rig.topic('serving')}/0".encode()]
    gap = json.loads(found[0].value)
    assert (gap["first"], gap["until"], gap["lost"]) == (stood, lost, lost - stood)


def test_a_missing_topic_says_what_to_run(rig: Rig):
    rig.admin.delete_topics([rig.topic("serving")])
    worker = rig.start()
    assert worker.ended() == Exit.UNAVAILABLE
    assert worker.says("mlmm topics create")


def test_inputs_of_unequal_partition_counts_are_refused(rig: Rig):
    rig.admin.create_partitions({rig.topic("training"): 5})
    worker = rig.start(processors=[{"name": "counting"}, {"name": "second", "input": "training"}])
    assert worker.ended() == Exit.SETTINGS
    assert worker.says("equal numbers of partitions")


# --- who else is there -----------------------------------------------------------------------------------------------


def test_of_two_processes_under_one_slot_name_the_older_ends(rig: Rig):
    """They would fight for ever without an error."""
    older = rig.start("0")
    rig.send_many(30, 5, 1)
    rig.wait_until_caught_up()
    newer = rig.start("0")
    assert older.ended() == Exit.SUPERSEDED
    assert older.says("mlmm worker --name")
    rig.send_many(30, 5, 2)
    rig.wait_until_caught_up()
    assert newer.process.poll() is None
    rig.assert_exact()


def test_a_claim_from_outside_fences_the_worker(rig: Rig):
    worker = rig.start()
    rig.send_many(30, 5, 1)
    rig.wait_until_caught_up()
    keys = Keys.of(rig.name, "counting", 0)
    topic_id = rig.redis.hget(keys.meta, "topic_id").decode()
    claim(rig.redis, keys, Log(rig.topic("serving"), 0, topic_id, 3, 0, 1 << 40))
    rig.send_many(30, 5, 2)
    assert worker.ended() == Exit.FAILED
    assert worker.says("Fenced")
    rig.start()
    rig.wait_until_caught_up()
    rig.assert_exact()


def test_a_group_that_will_not_have_us_ends_the_process_with_a_reason(tmp_path: Path, kafka: str, redis_url: str):
    """A session timeout below the broker's minimum: Faust logs "fatal error" and sits there for ever."""
    given = {"kafka.session_timeout": "300ms", "kafka.heartbeat_interval": "100ms"}
    with Rig(tmp_path, kafka, redis_url, **given) as rig:
        worker = rig.start()
        assert worker.ended() == Exit.FAILED
        assert worker.says("group.min.session.timeout.ms")


# --- services away ---------------------------------------------------------------------------------------------------


def test_redis_away_for_a_while_pauses_the_worker(tmp_path: Path, kafka: str, own_redis: RedisServer):
    with Rig(tmp_path, kafka, own_redis.url) as rig:
        worker = rig.start()
        rig.send_many(100, 5, 1)
        rig.wait_until_caught_up()
        own_redis.stop()
        rig.send_many(100, 5, 2)
        rig.producer.flush()
        wait_until(lambda: worker.says("redis away"), timeout=30, what="it to notice")
        own_redis.start()
        rig.wait_until_caught_up()
        assert worker.process.poll() is None
        rig.assert_exact()


def test_redis_away_for_too_long_ends_the_worker(tmp_path: Path, kafka: str, own_redis: RedisServer):
    with Rig(tmp_path, kafka, own_redis.url, **{"redis.give_up_after": "1s"}) as rig:
        worker = rig.start()
        rig.send_many(100, 5, 1)
        rig.wait_until_caught_up()
        own_redis.stop()
        rig.send_many(100, 5, 2)
        rig.producer.flush()
        assert worker.ended() == Exit.UNAVAILABLE
        own_redis.start()
        rig.start()
        rig.wait_until_caught_up()
        rig.assert_exact()


def test_a_redis_that_evicts_is_refused(tmp_path: Path, kafka: str, own_redis: RedisServer):
    with Rig(tmp_path, kafka, own_redis.url) as rig:
        rig.redis.config_set("maxmemory-policy", "allkeys-lru")
        worker = rig.start()
        assert worker.ended() == Exit.SETTINGS
        assert worker.says("must be 'noeviction'")


def test_asked_to_end_while_redis_is_away_it_ends_in_time(tmp_path: Path, kafka: str, own_redis: RedisServer):
    with Rig(tmp_path, kafka, own_redis.url) as rig:
        worker = rig.start()
        rig.send_many(100, 5, 1)
        rig.wait_until_caught_up()
        own_redis.stop()
        rig.send_many(100, 5, 2)
        rig.producer.flush()
        wait_until(lambda: worker.says("redis away"), timeout=30, what="it to notice")
        worker.signal(signal.SIGTERM)
        worker.ended(timeout=40)
        own_redis.start()
        rig.start()
        rig.wait_until_caught_up()
        rig.assert_exact()


def test_a_group_that_was_deleted_begins_anew_and_the_work_goes_on(tmp_path: Path, kafka: str, redis_url: str):
    """Its generation starts from 1 again and Kafka holds no offset of it: neither is asked."""
    given = {"kafka.session_timeout": "2s", "kafka.heartbeat_interval": "300ms"}
    with Rig(tmp_path, kafka, redis_url, **given) as rig:
        group = f"{rig.name}.workers"
        workers = [rig.start("0"), rig.start("1")]
        rig.send_many(100, 5, 1)
        rig.wait_until_caught_up()
        workers[0].kill()
        assert workers[1].terminate() == Exit.FINE
        rig.send_many(100, 5, 2)

        wait_until(
            lambda: rig.admin.delete_groups([group])[group] == "OK",
            timeout=60,
            what="the group to be empty and deleted",
            every=0.5,
        )
        assert rig.admin.describe_groups([group])[group]["group_state"] == "Dead"
        for slot in ("0", "1"):
            rig.start(slot)
        rig.wait_until_caught_up()
        rig.send_many(100, 5, 3)
        rig.wait_until_caught_up()
        rig.assert_exact()
