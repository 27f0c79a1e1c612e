"""Making and checking topics: the decisions with a fake desk, the rest on a real broker."""

import pytest

from mlmm.events.topics import ALL, Topics
from mlmm.runtime import topics
from mlmm.runtime.connections import kafka_admin, kafka_consumer, kafka_producer
from mlmm.runtime.errors import ServiceUnavailable, SettingsError
from mlmm.runtime.settings import Settings, override
from tests.services import unique

NAMES = Topics("t")


class FakeAdmin:
    """Keeps topics as (partitions, copies, configuration)."""

    def __init__(self, refuse: str = "", race: str = "") -> None:
        self.topics: dict[str, tuple[int, int, dict[str, str]]] = {}
        self.refuse, self.race, self.waited = refuse, race, []

    def describe_topics(self, names):
        found = [
            {"name": n, "error_code": 0, "partitions": [{"replica_nodes": [1] * self.topics[n][1]}] * self.topics[n][0]}
            for n in names
            if n in self.topics
        ]
        return found + [{"name": n, "error_code": 3, "partitions": []} for n in names if n not in self.topics]

    def create_topics(self, orders, *, raise_errors):
        assert not raise_errors
        answers = []
        for name, order in orders.items():
            code = 38 if name == self.refuse else 36 if name == self.race else 0
            answers.append(
                {"name": name, "error_code": code, "error_message": "too many copies" if code == 38 else None}
            )
            if code != 38:
                self.topics[name] = (order["num_partitions"], order["replication_factor"], dict(order["configs"]))
        return {"topics": answers}

    def wait_for_topics(self, names):
        self.waited = names

    def describe_configs(self, resources, *, config_filter):
        return {"topic": {r.name: {k: {"value": v} for k, v in self.topics[r.name][2].items()} for r in resources}}


def results(admin: FakeAdmin, *, make: bool, **overrides) -> dict[str, topics.TopicResult]:
    settings = override(Settings(topic_prefix="t"), overrides)
    return {result.topic: result for result in topics._Desk(admin, settings).results(make=make)}


def test_all_that_is_missing_is_made_and_a_second_time_nothing():
    admin = FakeAdmin()
    assert {result.state for result in results(admin, make=False).values()} == {"missing"}
    assert [(r.topic, r.state) for r in results(admin, make=True).values()] == [
        (NAMES.full(spec.logical), "created") for spec in ALL
    ]
    assert set(admin.waited) == set(admin.topics)
    assert all(result.state == "exists" and result.ok for result in results(admin, make=True).values())


def test_what_differs_is_told_and_left_as_it_is():
    admin = FakeAdmin()
    results(admin, make=True)
    admin.topics[NAMES.serving][2]["message.timestamp.type"] = "CreateTime"
    before = {name: (p, c, dict(configuration)) for name, (p, c, configuration) in admin.topics.items()}
    found = results(admin, make=True, **{"kafka.partitions": 6})[NAMES.serving]
    assert (found.state, found.ok) == ("differs", False)
    assert found.details == "partitions is 3, wanted 6; message.timestamp.type is CreateTime, wanted LogAppendTime"
    assert admin.topics == before


def test_what_the_broker_refuses_is_told_in_its_words():
    found = results(FakeAdmin(refuse=NAMES.serving), make=True)
    assert (found[NAMES.serving].state, found[NAMES.serving].details) == ("failed", "too many copies")
    assert found[NAMES.findings].state == "created"


def test_a_topic_that_another_process_made_meanwhile_is_compared():
    assert results(FakeAdmin(race=NAMES.serving), make=True)[NAMES.serving].state == "exists"


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.logical)
def test_every_topic_takes_log_append_time_and_its_cleanup_policy(spec):
    wanted = topics.wanted_configuration(spec, Settings())
    assert wanted["message.timestamp.type"] == "LogAppendTime"
    assert wanted["cleanup.policy"] == ("compact,delete" if spec.compacted else "delete")
    assert int(wanted["retention.ms"]) >= (30 if spec.compacted else 7) * 86_400_000


def test_commands_are_kept_for_longer_than_trainers_look_back():
    spec = next(spec for spec in ALL if spec.logical == "commands")
    short = override(Settings(), {"kafka.retention": "1h"})
    assert topics.wanted_configuration(spec, short)["retention.ms"] == str(2 * 86400 * 1000)


def test_without_a_broker_configured_it_says_what_to_set():
    with pytest.raises(SettingsError, match="MLMM_KAFKA__BOOTSTRAP_SERVERS"):
        topics.check(Settings())


def test_the_embedded_broker_makes_its_topics_itself():
    settings = override(Settings(), {"kafka.bootstrap_servers": "127.0.0.1:1", "kafka.api_version": "2.0"})
    with pytest.raises(ServiceUnavailable, match="no admin calls"):
        topics.create(settings)


@pytest.mark.integration
def test_on_a_real_broker_topics_are_made_checked_and_take_the_brokers_time(kafka):
    settings = override(Settings(), {"kafka.bootstrap_servers": kafka, "topic_prefix": unique("t")})
    assert {result.state for result in topics.check(settings)} == {"missing"}
    assert {result.state for result in topics.create(settings)} == {"created"}
    assert {result.state for result in topics.create(settings)} == {"exists"}
    changed = override(settings, {"kafka.partitions": 4, "kafka.retention": "3d"})
    serving = topics.check(changed)[0]
    assert [difference.what for difference in serving.differences] == ["partitions", "retention.ms"]

    name = Topics(settings.topic_prefix).serving
    producer = kafka_producer(settings)
    producer.send(name, b"v", key=b"k", timestamp_ms=1_000_000_000_000).get(10)
    producer.close()
    consumer = kafka_consumer(settings, name, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    record = next(iter(consumer))
    consumer.close()
    assert (record.timestamp_type, record.timestamp > 1_700_000_000_000) == (1, True)


@pytest.mark.integration
def test_too_many_copies_are_refused_in_the_brokers_words(kafka):
    values = {"kafka.bootstrap_servers": kafka, "topic_prefix": unique("t"), "kafka.replication_factor": 100}
    found = topics.create(override(Settings(), values))
    assert {result.state for result in found} == {"failed"}
    assert "replication factor" in found[0].details


@pytest.mark.integration
def test_admin_clients_answer(kafka):
    admin = kafka_admin(override(Settings(), {"kafka.bootstrap_servers": kafka}))
    assert isinstance(admin.list_topics(), list)
    admin.close()
