"""The notifier worker on a real Kafka, with a real SMTP server behind it."""

import contextlib
import threading
import uuid

import msgspec
import pytest

from mlmm.alerting import run_notifier
from mlmm.events import JSON, Topics, cloudevents_headers, decode_events, encode_json
from mlmm.runtime.connections import kafka_admin, kafka_consumer, kafka_producer
from mlmm.runtime.settings import KafkaSettings, Notifier, Settings, SmtpSettings
from tests.alerting.mailbox import smtp_server
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

TO = ("one@example.org", "two@example.org")


class House:
    """Topics of their own on the shared Kafka, and what is needed to see what a notifier did."""

    def __init__(self, kafka: str, port: int, **notifiers: Notifier) -> None:
        name = f"t{uuid.uuid4().hex[:12]}"
        self.settings = Settings(
            deployment=name,
            topic_prefix=name,
            kafka=KafkaSettings(bootstrap_servers=kafka),
            smtp=SmtpSettings(host="127.0.0.1", port=port, timeout="5s"),
            notifiers=notifiers or {"on_call": Notifier(kind="email", to=TO)},
        )
        self.topics = Topics(name)
        from kafka.admin import NewTopic

        admin = kafka_admin(self.settings)
        compacted = {"cleanup.policy": "compact"}
        admin.create_topics(
            [
                NewTopic(self.topics.notifications, 3, 1),
                NewTopic(self.topics.notification_outcomes, 3, 1, topic_configs=compacted),
            ]
        )
        admin.close()

    def send(self, *notifications) -> None:
        producer = kafka_producer(self.settings)
        for each in notifications:
            headers = cloudevents_headers(
                "mlmm.notification.v1", each.notification_id, "test", each.created, JSON, sequence="0"
            )
            producer.send(
                self.topics.notifications, key=each.notifier.encode(), value=encode_json(each), headers=headers
            )
        producer.flush(30)
        producer.close()

    def outcomes(self, count: int):
        reader = kafka_consumer(self.settings, self.topics.notification_outcomes, auto_offset_reset="earliest")
        found = []

        def read() -> bool:
            for records in reader.poll(timeout_ms=200).values():
                for each in records:
                    found.extend(decode_events("mlmm.notification.outcome.v1", JSON, each.value, key=each.key))
            return len(found) >= count

        try:
            wait_until(read, timeout=60, what=f"{count} outcomes")
        finally:
            reader.close()
        return found

    @contextlib.contextmanager
    def running(self):
        stop, codes = threading.Event(), []
        thread = threading.Thread(target=lambda: codes.append(run_notifier(self.settings, stop)))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(40)
            assert codes == [0]


def notifications(count: int, notifier: str = "on_call"):
    story = Story(settings(accuracy_rule()))
    story.tell(*(report(0, 0.8, model=f"fraud-{i}") for i in range(count)))
    return [msgspec.structs.replace(note, notifier=notifier) for note in story.of("notifications")]


@pytest.fixture
def server():
    with smtp_server() as found:
        yield found


def test_each_notification_is_mailed_once_also_after_a_restart_and_when_it_is_sent_twice(kafka, server):
    box, port = server
    house = House(kafka, port)
    first, second, third = notifications(3)
    house.send(first, second, first)
    with house.running():
        found = house.outcomes(2)
    assert {outcome.notification_id for outcome in found} == {first.notification_id, second.notification_id}
    assert all(outcome.state == "delivered" and outcome.delivered_to == TO for outcome in found)
    house.send(first, third)
    with house.running():
        house.outcomes(3)
    assert len(box.mails) == 3
    assert len({mail["Message-ID"] for mail in box.mails}) == 3


def test_what_has_an_outcome_is_not_mailed_again_by_a_worker_whose_group_has_no_offsets(kafka, server):
    """An offset that was never committed, or lost: the compacted topic is what counts."""
    box, port = server
    house = House(kafka, port)
    first, second = notifications(2)
    house.send(first)
    with house.running():
        house.outcomes(1)
    house.settings = msgspec.structs.replace(house.settings, deployment=f"{house.settings.deployment}b")
    house.send(second)
    with house.running():
        house.outcomes(2)
    assert len(box.mails) == 2


def test_a_slow_mail_server_delays_no_other_notifier(kafka, server):
    box, port = server
    names = {name: Notifier(kind="email", to=TO) for name in ("slow", "quick")}
    house = House(kafka, port, **names)
    house.send(*notifications(1, "slow"), *notifications(2, "quick")[1:])
    from mlmm.alerting.notifier._kinds import Delivery, make

    class Slow:
        recipients = TO
        longest = 60.0
        answered = threading.Event()

        def render(self, notification):
            return b""

        def deliver(self, message, recipients):
            assert self.answered.wait(60)
            return Delivery(recipients, (), "")

    slow, stop = Slow(), threading.Event()
    made = {**make(house.settings), "slow": slow}
    thread = threading.Thread(target=run_notifier, args=(house.settings, stop), kwargs={"notifiers": made})
    thread.start()
    try:
        (quick,) = house.outcomes(1)
        assert quick.notifier == "quick"
        slow.answered.set()
        assert {outcome.notifier for outcome in house.outcomes(2)} == {"slow", "quick"}
    finally:
        slow.answered.set()
        stop.set()
        thread.join(40)
    assert len(box.mails) == 1


def test_what_cannot_be_delivered_or_read_ends_with_a_reason_and_holds_up_nothing(kafka, server):
    box, port = server
    house = House(kafka, port)
    box.refusals = {TO[1]: ["550 no such user"]}
    refused, unknown = notifications(1)[0], notifications(2, "gone")[1]
    producer = kafka_producer(house.settings)
    producer.send(
        house.topics.notifications, key=b"on_call", value=b"{", headers=[("ce_type", b"mlmm.notification.v1")]
    )
    producer.flush(30)
    producer.close()
    house.send(refused, unknown)
    with house.running():
        found = {outcome.notifier: outcome for outcome in house.outcomes(2)}
    assert found["on_call"].state == "failed"
    assert found["on_call"].delivered_to == TO[:1]
    assert found["on_call"].error == f"{TO[1]}: 550 no such user"
    assert found["gone"].error == "there is no [notifiers.gone] in the settings any more"


def test_two_workers_share_the_work_and_a_rebalance_mails_nothing_again(kafka, server):
    box, port = server
    names = {f"team-{i}": Notifier(kind="email", to=TO) for i in range(6)}
    house = House(kafka, port, **names)
    batch = [notifications(i + 1, f"team-{i % 6}")[i] for i in range(12)]
    with house.running():
        house.send(*batch[:6])
        house.outcomes(6)
        with house.running():
            house.send(*batch[6:])
            house.outcomes(12)
    assert len(box.mails) == len({mail["Message-ID"] for mail in box.mails}) == 12


def test_what_waits_in_a_queue_survives_a_rebalance_that_leaves_the_partition_here(kafka, server):
    """A consumer keeps its position in a partition that it keeps: what was read and not done must be read again."""
    box, port = server
    house = House(kafka, port)
    from mlmm.alerting.notifier._kinds import make
    from mlmm.alerting.notifier._worker import _Worker

    (real,) = make(house.settings).values()
    gate = threading.Event()

    class Gated:
        recipients, longest = TO, 60.0
        render = real.render

        def deliver(self, message, recipients):
            assert gate.wait(120)
            return real.deliver(message, recipients)

    stop = threading.Event()
    worker = _Worker(house.settings, {"on_call": Gated()}, stop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        house.send(*notifications(4))
        wait_until(lambda: worker._lines["on_call"].waiting == 4, timeout=60, what="four that wait")
        consumer = worker._group._consumer
        generation = consumer.group_metadata().generation_id
        consumer._coordinator.request_rejoin()
        wait_until(lambda: not worker._offsets._assigned, timeout=60, what="the partitions to be given up")
        gate.set()
        house.outcomes(4)
        assert consumer.group_metadata().generation_id > generation
    finally:
        gate.set()
        stop.set()
        thread.join(60)
        worker.close()
    assert len(box.mails) == len({mail["Message-ID"] for mail in box.mails}) == 4
