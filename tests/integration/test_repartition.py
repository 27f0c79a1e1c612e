"""Partitions added to a topic: workers are refused, then states follow their keys; nothing is lost or counted twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from mlmm.console import repartitioning
from mlmm.console.cli import main
from mlmm.console.repartitioning import Repartitioned, repartition_topic
from mlmm.console.topic_log import TopicLog
from mlmm.events import header
from mlmm.events.placement import partition_of
from mlmm.runtime.errors import Fenced, SettingsError
from mlmm.runtime.harness import Exit
from mlmm.runtime.store import Keys
from tests.runtime.counting import Counting
from tests.runtime.rig import Rig
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

OLD, NEW = 3, 5


@pytest.fixture
def rig(tmp_path: Path, kafka: str, redis_url: str) -> Iterator[Rig]:
    given = {"kafka.session_timeout": "2s", "kafka.heartbeat_interval": "300ms"}  # that is waited for each time
    with Rig(tmp_path, kafka, redis_url, partitions=OLD, **given) as rig:
        yield rig


def grown(rig: Rig) -> None:
    """Give the topic more partitions; who sends from now on knows them."""
    rig.producer.flush()
    TopicLog(rig.settings, rig.topic("serving")).grow(NEW)
    rig.disconnect()
    rig.connect()
    rig.partitions = NEW
    wait_until(
        lambda: len(rig.consumer.partitions_for_topic(rig.topic("serving")) or ()) == NEW, timeout=30, what="partitions"
    )


def read_then_grown(rig: Rig) -> None:
    """Some records are read, some are not yet, some are placed by the new number."""
    worker = rig.start()
    rig.send_many(60, 5, 1)
    rig.send(b"model-3", {"arm": 10**12})
    rig.wait_until_caught_up()
    assert worker.terminate() == Exit.FINE
    rig.send_many(90, 5, 2)
    grown(rig)
    rig.send_many(90, 5, 3)
    rig.producer.flush()


def repartitioned(rig: Rig) -> list[Repartitioned]:
    return repartition_topic(rig.settings, "serving", Counting(), "workers")


def assert_nothing_lost_or_counted_twice(rig: Rig) -> None:
    """Count, sum and outputs are those of one reading of all partitions by log time."""
    assert rig.totals() == {key: (count, rig.sums[key]) for key, count in rig.sent.items()}
    log = sorted(rig.read("serving"), key=lambda each: (each[1].log_time, each[0], each[1].offset))
    state = Counting().state()
    placed = [r for n, r in log if r.key and n in {partition_of(r.key, OLD), partition_of(r.key, NEW)}]
    expected = sorted((o.key, o.id.encode(), o.value) for o in state.process(placed) if o.topic == "findings")
    rig.partitions = OLD  # of the findings
    sent, kept = rig.outputs()
    rig.partitions = NEW
    assert sorted((r.key, header(r.headers, "ce_id"), r.value) for _, r in kept) == expected
    assert len(sent) == len(kept)


def test_states_follow_their_keys(rig: Rig):
    read_then_grown(rig)
    cells = {n: set(rig.state(n)[1]) for n in range(OLD)}
    worker = rig.start()
    assert worker.ended() == Exit.LOG_CHANGED
    assert worker.says(f"mlmm topics repartition {rig.topic('serving')}")

    moved = repartitioned(rig)
    assert [each.partition for each in moved] == list(range(NEW))
    assert sum(each.records for each in moved) == 180
    assert {each.epoch for each in moved} == {2}
    for n in range(NEW):
        assert {partition_of(key, NEW) for key in rig.state(n)[1]} <= {n}
    assert any(partition_of(key, NEW) != n for n, keys in cells.items() for key in keys), "no key moved: a weak test"
    assert repartitioned(rig) == []

    rig.start()
    rig.send_many(60, 5, 4)
    rig.wait_until_caught_up()
    assert_nothing_lost_or_counted_twice(rig)
    armed = partition_of(b"model-3", NEW)
    state = Counting().state()
    state.load(rig.state(armed)[1].items())
    assert state.deadline() is not None, "timers move with their keys"


@pytest.mark.parametrize("swapped", [0, 1])
def test_whoever_dies_on_the_way_is_followed_by_one_that_finishes(
    rig: Rig, swapped: int, monkeypatch: pytest.MonkeyPatch
):
    read_then_grown(rig)

    def die(job: Any, swaps: list[Any]) -> list[Any]:
        if swapped:
            swap(job, swaps[:swapped])
            rig.redis.set(job.plan_key, repartitioning.msgspec.json.encode(swaps))
        else:
            rig.redis.delete(job.plan_key)
        raise KeyboardInterrupt

    swap = repartitioning._Job._swap
    monkeypatch.setattr(repartitioning._Job, "_swap", die)
    with pytest.raises(KeyboardInterrupt):
        repartitioned(rig)
    monkeypatch.setattr(repartitioning._Job, "_swap", swap)
    worker = rig.start()
    assert worker.ended() == Exit.LOG_CHANGED
    assert len(repartitioned(rig)) == NEW
    rig.start()
    rig.wait_until_caught_up()
    assert_nothing_lost_or_counted_twice(rig)
    assert not list(rig.redis.scan_iter(f"*{rig.name}*:new*"))


def test_a_running_worker_ends_at_the_first_key_that_lies_elsewhere(rig: Rig):
    """Before Kafka tells it of the partitions, and before it takes a record for a dead letter."""
    worker = rig.start()
    rig.send_many(60, 5, 1)
    rig.wait_until_caught_up()
    grown(rig)
    rig.send_many(200, 5, 2)
    rig.producer.flush()
    assert worker.ended() == Exit.LOG_CHANGED
    assert worker.says(f"mlmm topics repartition {rig.topic('serving')}")
    repartitioned(rig)
    rig.start()
    rig.wait_until_caught_up()
    assert_nothing_lost_or_counted_twice(rig)
    rig.partitions = OLD
    assert not rig.read("dead-letters")


def test_what_is_lost_or_misplaced_on_the_way_is_told_with_its_own_place(rig: Rig):
    read_then_grown(rig)
    stood = rig.state(0)[0] or 0
    rig.admin.delete_records({TopicPartition(rig.topic("serving"), 0): stood + 4})
    wrong = next(n for n in range(NEW) if n not in {partition_of(b"model-1", OLD), partition_of(b"model-1", NEW)})
    rig.send(b"model-1", [1], partition=wrong, id="misplaced")
    rig.producer.send(rig.topic("serving"), b"\xc1 no msgpack", key=b"model-2", headers=[("ce_id", b"poison")])
    rig.producer.flush()
    log = {header(r.headers, "ce_id"): (n, r.offset) for n, r in rig.read("serving")}
    repartitioned(rig)
    rig.start()
    rig.wait_until_caught_up()
    rig.partitions = OLD
    letters = {header(r.headers, "ce_id"): r.headers for _, r in rig.read("dead-letters")}
    assert set(letters) == {b"misplaced", b"poison"}
    for id_, headers in letters.items():
        place = log[id_]
        assert header(headers, "mlmm_partition") == b"%d" % place[0]
        assert header(headers, "mlmm_offset") == b"%d" % place[1]
    found = [r for _, r in rig.read("findings") if header(r.headers, "ce_type") == b"mlmm.gap.v1"]
    assert [r.key for r in found] == [f"{rig.topic('serving')}/0".encode()]
    assert b'"lost":4' in found[0].value


def test_what_cannot_be_moved_is_refused_in_clear_words(rig: Rig):
    assert repartitioned(rig) == [], "no state, nothing to move"
    with pytest.raises(SettingsError, match="one of serving, training, findings"):
        repartition_topic(rig.settings, "commands")
    worker = rig.start()
    rig.send_many(60, 5, 1)
    rig.wait_until_caught_up()
    assert worker.terminate() == Exit.FINE
    for n in range(OLD):
        rig.redis.hset(Keys.of(rig.name, "counting", n).meta, "partitions", 8)
    with pytest.raises(SettingsError, match="has 3 partitions, its states were made from 8: make it with at least 8"):
        repartitioned(rig)
    grown(rig)
    for n in range(OLD):
        rig.redis.hset(Keys.of(rig.name, "counting", n).meta, mapping={"partitions": OLD, "topic_id": "another"})
    with pytest.raises(SettingsError, match="first run `mlmm topics adopt"):
        repartitioned(rig)


def test_the_command_says_what_it_did(rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "mlmm.toml"
    config.write_text(
        f'deployment = "{rig.name}"\ntopic_prefix = "{rig.name}"\n[kafka]\nbootstrap_servers = "{rig.kafka}"\n'
        f'[redis]\nurl = "{rig.settings.redis.url}"\n'
    )
    for n in range(OLD):
        rig.redis.hset(Keys.of(rig.name, "serving", n).meta, mapping={"partitions": OLD, "offset": 0, "epoch": 4})
    line = ["topics", "repartition", rig.topic("serving"), "--partitions", "4", "--yes", "--config", str(config)]
    assert main(line) == 0
    shown = capsys.readouterr()
    assert "Moved" in shown.out
    assert "set partitions = 4 in [kafka]" in shown.err
    assert rig.redis.hget(Keys.of(rig.name, "serving", 3).meta, "epoch") == b"6"
    assert main(line) == 0
    assert "nothing to move" in capsys.readouterr().err


def test_one_that_lost_its_fences_leaves_no_plan_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Two at once, as after a lost connection: the first is fenced, and must not stand in the way of the second."""
    read_then_grown(rig)
    stage = repartitioning._Job._stage

    def overtaken(job: Any, *given: Any) -> list[Any]:
        swaps = stage(job, *given)
        monkeypatch.setattr(repartitioning._Job, "_stage", stage)
        assert len(repartitioned(rig)) == NEW
        return swaps

    monkeypatch.setattr(repartitioning._Job, "_stage", overtaken)
    with pytest.raises(Fenced):
        repartitioned(rig)
    assert repartitioned(rig) == []
    rig.start()
    rig.wait_until_caught_up()
    assert_nothing_lost_or_counted_twice(rig)


def test_a_plan_that_was_carried_out_hides_no_later_one(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """One died between its last swap and the end; all is whole, and months later the topic grows again."""
    read_then_grown(rig)
    swap = repartitioning._Job._swap

    def die(job: Any, swaps: list[Any]) -> list[Any]:
        swap(job, swaps)
        rig.redis.set(job.plan_key, repartitioning.msgspec.json.encode(swaps))
        raise KeyboardInterrupt

    monkeypatch.setattr(repartitioning._Job, "_swap", die)
    with pytest.raises(KeyboardInterrupt):
        repartitioned(rig)
    monkeypatch.setattr(repartitioning._Job, "_swap", swap)
    TopicLog(rig.settings, rig.topic("serving")).grow(NEW + 2)
    moved = repartitioned(rig)
    assert max(each.partition for each in moved) == NEW + 1
