"""The notifier's place in its group, on a real Kafka: it gets its partitions, and lets them go with nothing half done.

Also a contract test of the two private names of kafka-python that this rests on.
"""

import functools
import threading
import time
import uuid

import pytest

from mlmm.alerting.notifier._group import Group
from mlmm.runtime.connections import kafka_admin, kafka_consumer
from mlmm.runtime.settings import KafkaSettings, Settings
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


class Member:
    """A member of the group in a thread of its own, as the notifier's."""

    def __init__(self, settings, topic, **options):
        self.settings, self.topic, self.options = settings, topic, options
        self.partitions: set[int] = set()
        self.trying = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _assigned(self, partitions):
        self.partitions |= {each.partition for each in partitions}
        return {}

    def _revoked(self, partitions):
        self.partitions -= {each.partition for each in partitions}

    def _run(self):
        self.group = Group(
            self.settings,
            self.topic,
            assigned=self._assigned,
            revoked=self._revoked,
            busy=self.trying.is_set,
            longest=120,
            **self.options,
        )
        while not self._stop.is_set():
            self.group.poll()
        self.group.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.trying.clear()
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def place(kafka):
    """Settings and topic, and what makes the topic with so many partitions or gives it more."""
    from kafka.admin import NewPartitions, NewTopic

    name = f"t{uuid.uuid4().hex[:12]}"
    reached = KafkaSettings(bootstrap_servers=kafka, session_timeout="6s", heartbeat_interval="1s")
    settings = Settings(deployment=name, topic_prefix=name, kafka=reached)
    admin = kafka_admin(settings)

    def partitions(count, *, more=False):
        if more:
            admin.create_partitions({name: NewPartitions(count)})
        else:
            admin.create_topics([NewTopic(name, count, 1)])

    yield settings, name, partitions
    admin.close()


@pytest.mark.parametrize("nth", range(4))
def test_a_join_that_a_poll_did_not_wait_for_is_carried_through(place, nth):
    """kafka-python forgets it (3 of 4 starts without the cure): no partitions, no heartbeats, for ever."""
    settings, topic, partitions = place
    partitions(3)
    with Member(settings, topic, poll=0.0) as member:
        wait_until(lambda: member.partitions == {0, 1, 2}, timeout=120, what=f"the partitions, {nth}")


def test_partitions_that_are_added_are_read_too(place, monkeypatch):
    settings, topic, partitions = place
    partitions(1)
    soon = functools.partial(kafka_consumer, metadata_max_age_ms=300)
    monkeypatch.setattr("mlmm.alerting.notifier._group.kafka_consumer", soon)
    with Member(settings, topic, poll=0.0) as member:
        wait_until(lambda: member.partitions == {0}, timeout=120, what="the partition")
        partitions(4, more=True)
        wait_until(lambda: member.partitions == {0, 1, 2, 3}, timeout=120, what="the new partitions")


def test_a_member_without_a_place_begins_anew(place, caplog):
    """Whatever keeps it out: it says so and comes back as another member."""
    settings, topic, partitions = place
    partitions(2)
    with Member(settings, topic, patience=1.0) as member:
        wait_until(lambda: member.partitions == {0, 1}, timeout=120, what="the partitions")
        first = member.group._consumer
        coordinator = first._coordinator
        coordinator.need_rejoin = lambda: False  # as the fault does
        coordinator.state = "<rebalancing>"
        coordinator._disable_heartbeat()
        wait_until(lambda: member.group._consumer is not first, timeout=120, what="another member")

        def assigned():  # of the new member: what was noted of the first one's may still stand in `partitions`
            return {each.partition for each in member.group._consumer.assignment()}

        wait_until(lambda: assigned() == {0, 1}, timeout=120, what="the partitions again")
        wait_until(lambda: member.partitions == {0, 1}, timeout=120, what="a note of them")
    assert "joining anew" in caplog.text


def test_others_wait_for_a_try_in_hand(place):
    """Partitions move only when what was sent is noted; heartbeats go on meanwhile."""
    settings, topic, partitions = place
    partitions(2)
    with Member(settings, topic) as first:
        wait_until(lambda: first.partitions == {0, 1}, timeout=120, what="the partitions")
        generation = first.group._consumer.group_metadata().generation_id
        first.trying.set()
        with Member(settings, topic) as second:
            wait_until(lambda: not first.partitions, timeout=120, what="the first to let go")
            # A heartbeat that is answered after more than a session: without them it would be out by now.
            heartbeat, start = first.group._consumer._coordinator.heartbeat, time.monotonic()
            session = settings.kafka.session_timeout
            wait_until(lambda: heartbeat.last_receive > start + session + 1, timeout=120, what="a late heartbeat")
            assert second.partitions == set()
            first.trying.clear()
            wait_until(lambda: len(first.partitions) == len(second.partitions) == 1, timeout=120, what="both to share")
            assert first.group._consumer.group_metadata().generation_id == generation + 1
