"""A group whose leader lost what it knew of the topics."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.admin import KafkaAdminClient, NewTopic

from mlmm.runtime.consumer import Consumer
from tests.services import unique
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


class Forgetful(RoundRobinPartitionAssignor):
    """Assigns as one whose metadata requests got no answer since it started: the first time it knows nothing."""

    assigned = 0

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:
        cls.assigned += 1
        if cls.assigned == 1:
            cluster._partitions = {}
        return super().assign(cluster, members)


async def _until(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, timeout=60, what=what)


def test_a_leader_that_knows_no_topics_learns_them_and_calls_the_group_together(kafka: str) -> None:
    """It assigns nothing to anybody, and without our asking would do so for five minutes."""
    topic = unique("unknown")
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(topic, 3, 1)])
    admin.close()

    async def scenario() -> None:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=kafka, group_id=topic, partition_assignment_strategy=[Forgetful]
        )
        thread = SimpleNamespace(_ensure_consumer=lambda: consumer, thread_loop=asyncio.get_running_loop())
        await consumer.start()
        try:
            await _until(lambda: Forgetful.assigned and consumer._subscription.subscription.assignment, "the group")
            assert not consumer.assignment()
            Consumer.learn_topics(SimpleNamespace(_thread=thread))  # type: ignore[arg-type]
            await _until(lambda: len(consumer.assignment()) == 3, "all partitions")
        finally:
            await consumer.stop()

    asyncio.run(scenario())
