"""One topic in trouble and the others: each has its own lane. With a clock that stands still until it is moved."""

import itertools

import pytest

from mlmm.events import Topics
from mlmm.producers.delivery import Delivery, NoSuchTopic
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed
from tests.producers.fakes import FakeBroker


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake() -> Intake:
    return Intake(1000, 100_000, lambda: None)


@pytest.fixture
def delivery(broker: FakeBroker, intake: Intake, clock: Clock) -> Delivery:
    return Delivery(intake, Topics(), broker.connect, lambda: None, max_flight=1000, clock=clock)


def submit(delivery: Delivery, intake: Intake, topic: str, *, n: int = 1, size: int = 100) -> None:
    record = Packed(topic=topic, key=b"k", value=topic.encode().ljust(100), headers=[], n=n, size=size)
    with intake.lock:
        intake.accepted += n
        intake.events += n
        intake.bytes += size
    delivery.submit(record, 1)


def missing_training(value: bytes) -> Exception | None:
    return NoSuchTopic("no such topic") if value.startswith(b"training") else None


def topics_of(broker: FakeBroker) -> list[str]:
    return [topic for topic, _, _, _ in broker.records]


def test_a_missing_topic_slows_no_other(delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock) -> None:
    broker.refuse = missing_training
    for _ in range(30):
        submit(delivery, intake, "training")
        assert delivery.has_room
        submit(delivery, intake, "serving")
        delivery.work()
    delivery.work()
    assert topics_of(broker) == ["mlmm.serving"] * 30
    assert (intake.sent, dict(intake.dropped), intake.events) == (30, {}, 30)
    assert clock.now == 1000.0


def test_a_missing_topic_is_tried_at_its_own_pace_and_told_once(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    def refuse(value: bytes) -> Exception | None:
        if value.startswith(b"training"):
            tries.append(clock.now)
        return missing_training(value)

    broker.refuse = refuse
    submit(delivery, intake, "training")
    for _ in range(100):
        submit(delivery, intake, "serving")
        delivery.work()
        clock.now += 0.1
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2], abs=0.11)
    assert len(caplog.messages) == 1
    assert "no such topic" in caplog.messages[0]
    broker.refuse = lambda _value: None
    clock.now += 5.0
    delivery.work()
    delivery.work()
    assert delivery.idle
    assert "training" in caplog.messages[-1]


def test_a_missing_topic_holds_at_most_half_of_the_queue(
    delivery: Delivery, broker: FakeBroker, intake: Intake
) -> None:
    broker.refuse = missing_training
    for _ in range(20):
        submit(delivery, intake, "serving")
        submit(delivery, intake, "training", n=50)
        delivery.work()
    delivery.work()
    assert (intake.events, dict(intake.dropped)) == (500, {"no_topic": 500})
    assert intake.has_room(500, 50_000)


def test_a_topic_that_is_the_only_one_may_hold_all_of_the_queue(
    delivery: Delivery, broker: FakeBroker, intake: Intake
) -> None:
    broker.refuse = missing_training
    for _ in range(20):
        submit(delivery, intake, "training", n=50)
        delivery.work()
    assert (intake.events, dict(intake.dropped)) == (1000, {})


def test_a_topic_that_is_silent_while_others_are_acknowledged_takes_up_no_room(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock
) -> None:
    """A topic that was deleted: the client library keeps its records, and says nothing."""
    broker.hold = True
    for _ in range(10):
        submit(delivery, intake, "training")
    delivery.work()
    assert not delivery.has_room
    broker.hold = False
    clock.now += 1.0
    submit(delivery, intake, "serving")
    delivery.work()
    clock.now += 5.0
    delivery.work()
    assert delivery.has_room
    broker.release()
    delivery.work()
    assert delivery.idle
    assert intake.sent == 11


def test_a_topic_that_the_broker_refuses_later_keeps_its_order_and_the_link(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock
) -> None:
    broker.hold = True
    for _ in range(3):
        submit(delivery, intake, "training")
    delivery.work()
    broker.release(NoSuchTopic("not authorised"))
    broker.hold = False
    submit(delivery, intake, "serving")
    delivery.work()
    assert topics_of(broker) == ["mlmm.serving"]
    clock.now += 0.1
    delivery.work()
    delivery.work()
    assert topics_of(broker) == ["mlmm.serving"] + ["mlmm.training"] * 3
    assert (len(broker.links), intake.reconnects, intake.sent) == (1, 0, 4)


def test_done_records_leave_though_another_topic_waits(delivery: Delivery, broker: FakeBroker, intake: Intake) -> None:
    broker.refuse = missing_training
    submit(delivery, intake, "training")
    for _ in range(100):
        submit(delivery, intake, "serving")
        delivery.work()
    delivery.work()
    assert delivery.records == 1
