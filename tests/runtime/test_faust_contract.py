"""The private surface of Faust and aiokafka that `mlmm.runtime.consumer` stands on, in the versions that are pinned."""

import inspect
from importlib.metadata import version

import aiokafka
import faust
import mode.threads
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.tables.recovery import Recovery
from faust.transport import consumer as transport
from faust.transport.drivers import aiokafka as driver

from mlmm.runtime.consumer import Consumer, HarnessApp


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_the_versions_are_those_that_were_tried():
    """Another version may pass these tests and still behave otherwise: run the kill tests before moving a pin."""
    assert (version("faust-streaming"), version("mode-streaming"), version("aiokafka")) == ("0.15.3", "0.7.1", "0.14.0")


def test_the_app_makes_its_transport_in_one_place():
    assert "transport.by_url(self.conf.broker_consumer[0])(" in source(faust.App._new_transport)
    assert HarnessApp._new_transport is not faust.App._new_transport
    assert "self.transport.create_consumer(" in source(faust.App._new_consumer)


def test_the_flow_resumes_after_perform_seek_and_before_the_assigned_callback():
    """Why claims are made in `perform_seek`."""
    resume = source(Recovery._resume_streams)
    assert resume.index("consumer.perform_seek()") < resume.index("consumer.resume_flow()")
    assert "timeout=self.app.conf.broker_request_timeout" in resume
    assert "if assignment:" in resume, "an empty assignment does not seek: `on_partitions_assigned` drops what went"


def test_perform_seek_and_drain_messages_are_where_we_replace_them():
    for name in ("perform_seek", "_drain_messages", "on_partitions_revoked", "on_partitions_assigned"):
        assert inspect.iscoroutinefunction(getattr(transport.Consumer, name))
        assert getattr(Consumer, name) is not getattr(transport.Consumer, name)
        theirs, ours = (inspect.signature(getattr(kind, name)) for kind in (transport.Consumer, Consumer))
        assert list(theirs.parameters) == list(ours.parameters)
    assert "await consumer._drain_messages(self)" in source(transport.Fetcher)


def test_nothing_comes_while_the_flow_is_stopped():
    fetch = source(driver.AIOKafkaConsumerThread._fetch_records)
    assert fetch.index("if not self.consumer.flow_active") < fetch.index("fetcher.fetched_records(")
    assert "max_records=_consumer._max_poll_records" in source(driver.AIOKafkaConsumerThread.getmany)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("getmany", ["self", "active_partitions", "timeout"]),
        ("seek_wait", ["self", "partitions"]),
        ("highwaters", ["self", "partitions"]),
        ("earliest_offsets", ["self", "partitions"]),
        ("call_thread", ["self", "fun", "args", "kwargs"]),
        ("_ensure_consumer", ["self"]),
        ("highwater", ["self", "tp"]),
        ("assignment", ["self"]),
    ],
)
def test_the_consumers_thread_has_what_we_call(name: str, parameters: list[str]):
    assert list(inspect.signature(getattr(driver.AIOKafkaConsumerThread, name)).parameters) == parameters


def test_faust_keeps_the_offsets_that_we_set():
    text = source(transport.Consumer.__init__)
    assert "self._read_offset = " in text
    assert "self._committed_offset = " in text


def test_the_coordinator_tells_of_fatal_errors_and_sends_heartbeats():
    text = source(GroupCoordinator)
    assert "self._pending_exception = exc" in text
    assert "self._coordination_task = " in text
    assert list(inspect.signature(GroupCoordinator._do_heartbeat).parameters) == ["self"]
    assert "self._coordinator = GroupCoordinator(" in source(aiokafka.AIOKafkaConsumer)


def test_a_leader_assigns_what_its_client_knows_and_the_client_can_be_asked():
    """Why the watch looks for topics without partitions."""
    text = source(GroupCoordinator._perform_assignment)
    assert "assignor.assign(self._cluster, member_metadata)" in text
    assert text.index("assignor.assign(") < text.index("self._metadata_snapshot = self._get_metadata_snapshot()")
    assert "self._client = AIOKafkaClient(" in source(aiokafka.AIOKafkaConsumer)
    assert "self.cluster = ClusterMetadata(" in source(AIOKafkaClient)
    assert list(inspect.signature(AIOKafkaClient.force_metadata_update).parameters) == ["self"]
    assert "thread_loop: Optional[asyncio.AbstractEventLoop]" in source(mode.threads.ServiceThread.__init__)


def test_a_static_member_does_not_leave_when_it_closes():
    """A restart within the session needs no rebalance."""
    assert "_group_instance_id is None" in source(GroupCoordinator._maybe_leave_group)


def test_the_default_assignor_is_fausts_and_lands_equal_partitions_together():
    """`table_standby_replicas=0` turns to round robin in silence, which does not."""
    text = source(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "if self.app.conf.table_standby_replicas > 0" in text
    assert faust.Settings("x").table_standby_replicas > 0
