"""What is mended in kafka-python, held on its own classes."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.cluster import ClusterMetadata

from mlmm.runtime import kafka_failures
from mlmm.runtime.kafka_clients import made, remember_wishes

ANSWER = SimpleNamespace(
    API_VERSION=6,
    brokers=[(1, "127.0.0.1", 9092, None)],
    controller_id=1,
    cluster_id="c",
    topics=[],
)
"""A response to a request that named no topic."""


def cluster(*, mended: bool) -> Any:
    made = ClusterMetadata(bootstrap_servers=["127.0.0.1:9092"])
    if mended:
        remember_wishes(made)
    return made


@pytest.mark.parametrize("mended", [False, True])
def test_a_topic_wished_for_while_a_request_is_in_flight_is_asked_for_next(mended):
    """Without the mend it is forgotten for five minutes: once kafka-python itself knows better, the mend can go."""
    metadata = cluster(mended=mended)
    metadata.metadata_request()
    metadata.set_topics(["mlmm.serving"])
    metadata.update_metadata(ANSWER)
    assert metadata.need_update is mended


def test_an_answer_to_the_latest_wish_is_the_last_word():
    metadata = cluster(mended=True)
    metadata.set_topics(["mlmm.serving"])
    metadata.metadata_request()
    metadata.update_metadata(ANSWER)
    assert not metadata.need_update


def test_a_client_that_fails_while_it_is_made_leaves_no_network_behind():
    clients: list[Any] = []

    def fails(*, kafka_client: Any, proxy_url: str) -> Any:
        clients.append(kafka_client(bootstrap_servers=["127.0.0.1:9092"], proxy_url=proxy_url))
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        made(fails, {})
    assert clients[0].cluster.closed


def test_what_a_broker_said_before_it_hung_up_is_read():
    """With kafka-python's own transport it is thrown away where both come with one read: a refusal is lost."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"refused")
    theirs.close()
    ours.setblocking(False)
    transport = kafka_failures._transports()[0](None, ours)
    assert transport._sock_recv() == (b"refused", None)
    data, error = transport._sock_recv()
    assert (data, str(error)) == (b"", "KafkaConnectionError: socket disconnected")
    ours.close()
