"""Sending on real Kafka: in order, acknowledged, and what happens to what a topic will not take."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import ConfigResource

from mlmm.events.errors import MlmmError
from mlmm.events.headers import header
from mlmm.events.placement import partition_of
from mlmm.runtime.deadletters import TRUNCATED
from mlmm.runtime.harness.sender import Sender, SendFailed
from mlmm.runtime.outbox import Message
from tests.runtime.rig import Rig
from tests.services import KafkaServer, NoServiceError, unavailable
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def rig(tmp_path: Path, kafka: str, redis_url: str) -> Iterator[Rig]:
    with Rig(tmp_path, kafka, redis_url) as rig:
        yield rig


def send(rig: Rig, *waves: list[Message], partition: int | None = None) -> None:
    async def told() -> None:
        sender = Sender({"bootstrap_servers": rig.kafka}, rig.topic, timeout=20)
        try:
            for wave in waves:
                await sender.send(wave, partition=partition)
        finally:
            await sender.close()

    asyncio.run(told())


def test_a_wave_arrives_in_order_where_murmur2_puts_it(rig: Rig):
    messages = [Message("findings", b"key-%d" % (n % 7), b"%d" % n, [("ce_id", b"%d" % n)]) for n in range(3000)]
    send(rig, messages[:1000], messages[1000:])
    found = rig.read("findings")
    assert len(found) == 3000
    assert all(partition == partition_of(record.key, 3) for partition, record in found)
    for _, each in itertools.groupby(sorted(found, key=lambda f: (f[0], f[1].offset)), key=lambda f: f[0]):
        numbers = [int(record.value) for _, record in each]
        assert numbers == sorted(numbers)


def test_a_wave_larger_than_a_batch_arrives_in_order(rig: Rig):
    send(rig, [Message("findings", b"k", b"%06d" % n + bytes(100_000), []) for n in range(30)])
    assert [record.value[:6] for _, record in rig.read("findings")] == [b"%06d" % n for n in range(30)]


def test_a_tick_goes_where_it_is_told(rig: Rig):
    send(rig, [Message("serving", b"", b"tick", [])], partition=2)
    assert [partition for partition, _ in rig.read("serving")] == [2]


def test_a_dead_letter_that_its_topic_refuses_is_cut_and_the_others_keep_their_order(rig: Rig):
    """Else one poison record as large as the topic allows would stop the partition for ever."""
    letters = [Message("dead-letters", b"k", b"%d" % n, [("mlmm_error", b"bad")]) for n in range(3)]
    letters[1] = Message("dead-letters", b"k", bytes(2 << 20), [("mlmm_error", b"bad")])
    send(rig, letters)
    found = [record for _, record in rig.read("dead-letters")]
    assert [record.value for record in found][-3:] == [b"0", b"", b"2"], "what went before is sent once more"
    assert header(found[-2].headers, TRUNCATED) == b"%d" % (2 << 20)


def test_a_topic_that_takes_small_batches_only_gets_them(rig: Rig):
    name = rig.topic("findings")
    rig.admin.alter_configs([ConfigResource("topic", name, configs={"max.message.bytes": "5000"})])
    send(rig, [Message("findings", b"k", b"%04d" % n + bytes(996), []) for n in range(100)])
    numbers = [int(record.value[:4]) for _, record in rig.read("findings")]
    assert list(dict.fromkeys(numbers)) == list(range(100))


def test_an_output_that_its_topic_refuses_ends_the_process_with_a_reason(rig: Rig):
    """What was decided is never dropped."""
    with pytest.raises(MlmmError, match=r"findings.*raise its max\.message\.bytes"):
        send(rig, [Message("findings", b"k", bytes(2 << 20), [])])


def test_a_broker_that_is_away_makes_the_wave_fail(rig: Rig):
    async def told() -> None:
        sender = Sender({"bootstrap_servers": "127.0.0.1:1"}, rig.topic, timeout=5)
        with pytest.raises(SendFailed):
            await sender.send([Message("findings", b"k", b"v", [])])
        await sender.close()

    asyncio.run(told())


@pytest.mark.slow
def test_a_broker_killed_and_started_again_costs_nothing(tmp_path: Path, redis_url: str):
    (tmp_path / "kafka").mkdir()
    try:
        server = KafkaServer(tmp_path / "kafka")
    except NoServiceError as reason:
        unavailable(reason)
    server.start()
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        rig = stack.enter_context(Rig(tmp_path, server.address, redis_url))
        worker = rig.start()
        rig.send_many(2000, 20, 1)
        rig.producer.flush()
        wait_until(
            lambda: sum(rig.state(n)[0] or 0 for n in range(3)) > 0, timeout=60, what="some progress", every=0.005
        )
        rig.disconnect()  # kafka-python, refused while it reconnects, leaves sockets open
        server.kill()
        server.start()
        rig.connect()
        rig.send_many(500, 20, 2)
        rig.wait_until_caught_up(timeout=120)
        assert worker.process.poll() is None, worker.log.read_text()[-3000:]
        rig.assert_exact()
