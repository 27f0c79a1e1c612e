"""A topic that is not the log of its states: they are refused until they are adopted, and then go on exactly."""

from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from mlmm.console.adopting import adopt_topic
from mlmm.console.repartitioning import repartition_topic
from mlmm.runtime import claims, topics
from mlmm.runtime.commits import Commit, commit
from mlmm.runtime.connections import redis_client
from mlmm.runtime.errors import LogChanged, SettingsError
from mlmm.runtime.harness import Exit
from mlmm.runtime.harness.worker import describe
from mlmm.runtime.settings import Settings, load
from mlmm.runtime.store import Keys, read_cells
from tests.runtime.counting import Counting
from tests.runtime.rig import TOPICS, Rig
from tests.services import KafkaServer, NoServiceError, unavailable, unique
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


def log_of(settings: Settings, topic: str) -> claims.Log:
    topic_id, partitions = describe(settings, [topic])[topic]
    return claims.Log(topic=topic, partition=0, topic_id=topic_id, partitions=partitions, first=0, end=100)


def test_states_go_on_with_a_topic_made_anew_once_it_is_adopted(kafka: str, redis_url: str, tmp_path: Path) -> None:
    """The worker is refused and told the command; then cells are kept, the epoch is higher, the offset new."""
    name = unique("adopt")
    config = tmp_path / "mlmm.toml"
    config.write_text(f'deployment = "{name}"\ntopic_prefix = "{name}"\n')
    settings = load(config, env={"MLMM_KAFKA__BOOTSTRAP_SERVERS": kafka, "MLMM_REDIS__URL": redis_url})
    topics.create(settings)
    redis, keys, serving = redis_client(settings), Keys.of(name, "serving", 0), f"{name}.serving"
    held = claims.claim(redis, keys, log_of(settings, serving))
    change = Commit(id="c1", expected=0, offset=40, log_time=1, cells={b"cell": b"kept"}, outputs=(), seen={})
    commit(redis, keys, held, change)

    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_topics([serving])

    def made() -> bool:
        try:
            return any(r.topic == serving and r.state == "created" for r in topics.create(settings))
        except KafkaError:
            return False

    wait_until(made, timeout=30, what="the topic to be made anew", every=0.2)
    admin.close()
    with pytest.raises(LogChanged, match=f"mlmm topics adopt {serving}"):
        claims.claim(redis, keys, log_of(settings, serving))

    (adopted,) = adopt_topic(settings, serving)
    assert (adopted.partition, adopted.was, adopted.offset, adopted.why) == (0, 40, 0, "made anew")
    assert adopt_topic(settings, "serving") == [], "adopted once, it is the log of its state"
    again = claims.claim(redis, keys, log_of(settings, serving))
    assert again.offset == 0
    assert again.epoch == held.epoch + 1
    assert read_cells(redis, name, "serving", 0) == (0, {b"cell": b"kept"})
    with pytest.raises(SettingsError, match="one of serving, training, findings"):
        adopt_topic(settings, "commands")


SERVING = [{"name": "serving"}]
"""The counting processor under the name of the one that reads the topic."""


def test_a_log_that_lost_its_end_goes_on_after_the_log_time_that_was_seen(
    tmp_path: Path, kafka: str, redis_url: str
) -> None:
    """Read from its first record, all that is left would be counted twice."""
    with Rig(tmp_path, kafka, redis_url) as rig:
        worker = rig.start(processors=SERVING)
        rig.send_many(60, 5, 1)
        rig.wait_until_caught_up(processor="serving")
        assert worker.terminate() == Exit.FINE
        was = {n: rig.state(n, "serving")[0] or 0 for n in range(3)}
        for n in range(3):
            rig.redis.hset(Keys.of(rig.name, "serving", n).meta, "offset", was[n] + 1000)
        rig.send_many(60, 5, 2)
        rig.producer.flush()
        worker = rig.start(processors=SERVING)
        assert worker.ended() == Exit.LOG_CHANGED
        assert worker.says(f"mlmm topics adopt {rig.topic('serving')}")

        adopted = adopt_topic(rig.settings, "serving")
        assert {each.partition: each.offset for each in adopted} == was
        assert {each.why for each in adopted} == {"lost its end"}
        rig.start(processors=SERVING)
        rig.wait_until_caught_up(processor="serving")
        assert rig.totals("serving") == {key: (count, rig.sums[key]) for key, count in rig.sent.items()}
        sent, kept = rig.outputs()
        assert len(sent) == len(kept)


def test_kafkas_disk_is_lost_and_redis_kept(tmp_path: Path, redis_url: str) -> None:
    """All topics, ids, offsets and the group are new; what was counted before still counts, and nothing twice."""
    (tmp_path / "first").mkdir()
    try:
        server = KafkaServer(tmp_path / "first")
    except NoServiceError as reason:
        unavailable(reason)
    server.start()
    try:
        with Rig(tmp_path, server.address, redis_url) as rig:
            worker = rig.start(processors=SERVING)
            rig.send_many(60, 5, 1)
            rig.wait_until_caught_up(processor="serving")
            assert worker.terminate() == Exit.FINE
            epochs = {n: int(rig.redis.hget(Keys.of(rig.name, "serving", n).meta, "epoch")) for n in range(3)}
            rig.disconnect()
            server.kill()
            (tmp_path / "second").mkdir()
            server = KafkaServer(tmp_path / "second", port=server.port)
            server.start()
            rig.connect()
            worker = rig.start(processors=SERVING)
            assert worker.ended() == Exit.UNAVAILABLE
            assert worker.says("mlmm topics create")
            rig.admin.create_topics({rig.topic(t): {"num_partitions": 3, "replication_factor": 1} for t in TOPICS})
            rig.send_many(60, 5, 2)
            rig.producer.flush()
            worker = rig.start(processors=SERVING)
            assert worker.ended() == Exit.LOG_CHANGED
            assert worker.says(f"mlmm topics adopt {rig.topic('serving')}")

            adopted = adopt_topic(rig.settings, "serving")
            assert {each.partition: each.epoch for each in adopted} == {n: e + 1 for n, e in epochs.items()}
            assert {each.offset for each in adopted} == {0}
            rig.start(processors=SERVING)
            rig.wait_until_caught_up(processor="serving")
            assert rig.totals("serving") == {key: (count, rig.sums[key]) for key, count in rig.sent.items()}
            sent, kept = rig.outputs()
            assert len(sent) == len(kept) > 0
    finally:
        server.kill()


def test_a_topic_made_anew_with_more_partitions_is_adopted_then_repartitioned(
    tmp_path: Path, kafka: str, redis_url: str
) -> None:
    given = {"kafka.session_timeout": "2s", "kafka.heartbeat_interval": "300ms"}
    with Rig(tmp_path, kafka, redis_url, **given) as rig:
        worker = rig.start(processors=SERVING)
        rig.send_many(60, 5, 1)
        rig.wait_until_caught_up(processor="serving")
        assert worker.terminate() == Exit.FINE
        name = rig.topic("serving")
        rig.admin.delete_topics([name])
        wait_until(lambda: name not in rig.admin.list_topics(), timeout=60, what="the topic to be gone", every=0.2)

        def made() -> bool:
            try:
                rig.admin.create_topics({name: {"num_partitions": 5, "replication_factor": 1}})
            except KafkaError:
                return False
            return True

        wait_until(made, timeout=60, what="the topic to be made anew", every=0.5)
        rig.disconnect()
        rig.connect()
        rig.send_many(60, 5, 2)
        rig.producer.flush()
        for says in (f"mlmm topics adopt {name}", f"mlmm topics repartition {name}"):
            worker = rig.start(processors=SERVING)
            assert worker.ended() == Exit.LOG_CHANGED
            assert worker.says(says)
            if "adopt" in says:
                assert len(adopt_topic(rig.settings, "serving")) == 3
        assert len(repartition_topic(rig.settings, "serving", Counting("serving"), "workers")) == 5
        rig.partitions = 5
        rig.start(processors=SERVING)
        rig.wait_until_caught_up(processor="serving")
        assert rig.totals("serving") == {key: (count, rig.sums[key]) for key, count in rig.sent.items()}
