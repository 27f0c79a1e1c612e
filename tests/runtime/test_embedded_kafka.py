"""The embedded broker with the real clients: what the demo stands on, and the traps that its docstring names."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from mlmm.runtime.connections import kafka_consumer, kafka_producer
from mlmm.runtime.embedded import EmbeddedKafka, environment
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import Settings, load, override

T0 = 1_734_567_890_000


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(partitions=5) as kafka:
        yield kafka


@pytest.fixture
def settings(broker) -> Settings:
    return override(Settings(), broker.overrides)


def send(settings: Settings, topic: str, count: int, partitions: int) -> None:
    producer = kafka_producer(settings)
    for i in range(count):
        producer.send(
            topic, str(i).encode(), partition=i % partitions, timestamp_ms=T0 + i, headers=[("ce_type", b"x")]
        )
    producer.flush()
    producer.close()


def group(settings: Settings, *, slot: str = "slot-0", name: str = "g") -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        "mlmm.serving",
        group_id=name,
        group_instance_id=slot,
        session_timeout_ms=round(settings.kafka.session_timeout * 1000),
        heartbeat_interval_ms=round(settings.kafka.heartbeat_interval * 1000),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings.kafka.client_options("aiokafka"),
    )


async def read(consumer: AIOKafkaConsumer, count: int) -> list:
    records = []
    async with asyncio.timeout(20):
        while len(records) < count:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records.extend(batch)
    return records


def test_topics_of_the_contract_have_the_wanted_partitions(settings):
    consumer = kafka_consumer(settings)
    counts = {len(consumer.partitions_for_topic(f"mlmm.{name}")) for name in ("serving", "findings", "dead-letters")}
    consumer.close()
    assert counts == {settings.kafka.partitions} == {5}


def test_a_topic_that_is_only_used_gets_four_partitions(settings):
    producer = kafka_producer(settings)
    assert len(producer.partitions_for("elsewhere")) == 4
    producer.close()


def test_a_topic_is_made_once(broker):
    broker.create_topic("own", 2)
    with pytest.raises(ServiceUnavailable, match="topic 'own' was not made"):
        broker.create_topic("own", 2)


def test_what_kafka_python_sends_it_reads_with_keys_headers_and_the_producers_time(settings):
    send(settings, "mlmm.serving", 10, 5)
    consumer = kafka_consumer(settings, "mlmm.serving", auto_offset_reset="earliest", consumer_timeout_ms=10_000)
    records = [record for _, record in zip(range(10), consumer, strict=False)]
    consumer.close()
    assert sorted(record.timestamp for record in records) == [T0 + i for i in range(10)]
    assert {record.headers[0] for record in records} == {("ce_type", b"x")}
    assert {(record.partition, record.offset) for record in records} == {(p, o) for p in range(5) for o in range(2)}


def test_a_group_of_one_reads_commits_and_goes_on_where_it_was(settings):
    async def story() -> None:
        send(settings, "mlmm.serving", 10, 5)
        first = group(settings)
        await first.start()
        assert len(await read(first, 10)) == 10
        await first.commit()
        await first.stop()
        send(settings, "mlmm.serving", 5, 5)
        second = group(settings)
        await second.start()
        records = await read(second, 5)
        assert sorted((record.partition, record.offset) for record in records) == [(p, 2) for p in range(5)]
        await second.stop()

    asyncio.run(story())


def test_a_killed_member_is_back_after_two_short_sessions(broker, settings):
    """Static membership is not understood: the dead one's session must end first."""
    child = (
        "import asyncio\n"
        "from mlmm.runtime.settings import load\n"
        "from aiokafka import AIOKafkaConsumer\n"
        "async def main():\n"
        "    s = load()\n"
        "    c = AIOKafkaConsumer('mlmm.serving', group_id='g', group_instance_id='slot-0', session_timeout_ms=3000,\n"
        "        heartbeat_interval_ms=500, **s.kafka.client_options('aiokafka'))\n"
        "    await c.start(); print(len(c.assignment()), flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, env=environment(broker.overrides)
        ) as member:
            assert member.stdout.readline() == "5\n"
            member.kill()


def test_two_groups_read_side_by_side(settings):
    async def story() -> None:
        send(settings, "mlmm.serving", 5, 5)
        members = [group(settings, name="one"), group(settings, name="two")]
        await asyncio.gather(*(member.start() for member in members))
        assert [len(await read(member, 5)) for member in members] == [5, 5]
        await asyncio.gather(*(member.stop() for member in members))

    asyncio.run(story())


def test_aiokafka_sends_too(settings):
    async def story() -> None:
        options = settings.kafka.client_options("aiokafka")
        producer = AIOKafkaProducer(**options)
        await producer.start()
        sent = await producer.send_and_wait("mlmm.findings", b"v", key=b"k", partition=3, timestamp_ms=T0)
        await producer.stop()
        consumer = AIOKafkaConsumer(auto_offset_reset="earliest", **options)
        await consumer.start()
        place = TopicPartition("mlmm.findings", 3)
        consumer.assign([place])
        assert (await consumer.end_offsets([place]))[place] == sent.offset + 1
        record = (await read(consumer, 1))[0]
        assert (record.key, record.value, record.timestamp) == (b"k", b"v", T0)
        await consumer.stop()

    asyncio.run(story())


def test_overrides_reach_children_through_the_environment(broker):
    settings = load(env=environment(broker.overrides))
    assert (settings.kafka.servers, settings.kafka.partitions) == ([broker.address], 5)
