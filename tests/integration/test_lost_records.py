"""Retention overtakes the workers: an incident says which topic lost how many records, and everyone is told."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from mlmm.runtime import topics
from mlmm.stream_processors import warm_up
from tests.faults.comparison import read_topic
from tests.faults.deployment import PARTITIONS, Deployment, ends
from tests.faults.soak import Soaked
from tests.faults.workload import Workload, send
from tests.services import unique
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def told(deployment: Deployment, topic: str) -> list[dict[str, Any]]:
    """What lies in a topic, of records that were lost."""
    found = [json.loads(r.value) for rs in read_topic(deployment.kafka, deployment.topic(topic)).values() for r in rs]
    incidents = [each.get("incident", each) for each in found]
    return [each for each in incidents if each["rule"] == "records lost"]


def test_records_that_retention_took_open_an_incident(kafka: str, redis_url: str, tmp_path: Path) -> None:
    warm_up()
    deployment = Soaked(unique("lost"), unique("lost"), tmp_path, kafka=kafka, redis_url=redis_url)
    topics.create(deployment.settings)
    try:
        deployment.start()
        send(deployment, Workload(1, 3), 1.0, threading.Event())
        read = ends(deployment, "serving")
        wait_until(
            lambda: all(deployment.offsets().get(place, 0) >= end for place, end in read.items()),
            timeout=300,
            what="the workers to read",
            every=0.2,
        )
        deployment.stop("worker")
        stood = deployment.offsets()
        send(deployment, Workload(2, 6), 1.0, threading.Event())
        log = {p: end for (_, p), end in ends(deployment, "serving").items()}
        assert all(log[p] > stood["serving", p] for p in range(PARTITIONS)), "nothing new to be lost"
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        # Of one partition all that was not read, of another some, of the third nothing.
        until = {0: log[0], 1: stood["serving", 1] + 1}
        admin.delete_records({TopicPartition(deployment.topic("serving"), p): offset for p, offset in until.items()})
        admin.close()
        deployment.add("worker", deployment.lines["worker"])
        wait_until(
            lambda: len(told(deployment, "notifications")) == len(until), timeout=300, what="the incidents", every=0.5
        )
        incidents = {each["subject"]["partition"]: each for each in told(deployment, "incidents")}
        assert set(incidents) == set(until)
        for p, incident in incidents.items():
            lost = until[p] - stood["serving", p]
            name = deployment.topic("serving")
            assert incident["subject"]["topic"] == name
            assert incident["state"] == "firing"
            assert incident["severity"] == "critical"
            assert incident["reason"].startswith(f"{lost:,} records of {name}[{p}] were deleted before they were read")
            assert incident["evidence"]["figures"]["records lost"] == lost
    finally:
        deployment.stop()
