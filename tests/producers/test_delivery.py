"""Records in flight, with a clock that stands still until it is moved."""

import pytest

from mlmm.events import Topics
from mlmm.producers.delivery import Delivery
from mlmm.producers.intake import Intake
from mlmm.producers.packing import Packed, slices
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
    return Intake(1000, 1_000_000, lambda: None)


@pytest.fixture
def delivery(broker: FakeBroker, intake: Intake, clock: Clock) -> Delivery:
    return Delivery(intake, Topics(), broker.connect, lambda: None, max_flight=100, clock=clock)


def packed(value: bytes = b"x", topic: str = "serving") -> Packed:
    return Packed(topic=topic, key=b"k", value=value, headers=[], n=1, size=10)


def submit(delivery: Delivery, intake: Intake, *records: Packed) -> None:
    for record in records:
        with intake.lock:
            intake.accepted += record.n
            intake.events += record.n
            intake.bytes += record.size
        delivery.submit(record, 1)


def test_tries_are_further_and_further_apart(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock
) -> None:
    broker.away = True
    submit(delivery, intake, packed())
    pauses = []
    for _ in range(9):
        pause = delivery.work()
        assert pause is not None
        pauses.append(round(pause, 3))
        assert delivery.work() == pytest.approx(pause)  # asked again too soon it only says how long still
        clock.now += pause
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_an_acknowledgement_makes_the_next_pause_short_again(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock
) -> None:
    broker.away = True
    submit(delivery, intake, packed())
    for _ in range(5):
        clock.now += delivery.work() or 0.0
    broker.away = False
    delivery.work()
    delivery.work()
    assert delivery.idle
    broker.refuse = lambda _value: ConnectionError("reset")
    submit(delivery, intake, packed())
    assert delivery.work() == pytest.approx(0.1)


def test_a_silent_broker_is_told_once(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    broker.hold = True
    submit(delivery, intake, packed())
    assert delivery.work() == pytest.approx(5.0)
    for _ in range(3):
        clock.now += 5.0
        delivery.work()
    assert intake.last_error == "TimeoutError: no acknowledgement for 15 s"
    assert len(caplog.records) == 1
    broker.release()
    delivery.work()
    assert caplog.messages[-1] == "the broker answers again: events are being delivered"


def test_what_is_in_flight_is_bounded(delivery: Delivery, broker: FakeBroker, intake: Intake) -> None:
    broker.hold = True
    submit(delivery, intake, packed(b"x" * 99))
    delivery.work()
    assert delivery.has_room
    submit(delivery, intake, packed(b"x"))
    assert not delivery.has_room
    broker.release()
    delivery.work()
    assert delivery.has_room


def test_a_late_acknowledgement_of_an_old_link_still_counts(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock
) -> None:
    """A record that the old link delivered after all is not sent a third time."""
    broker.hold = True
    submit(delivery, intake, packed(b"a"), packed(b"b"))
    delivery.work()
    (_, first), (_, second) = broker.held
    broker.held = []
    second(ConnectionError("reset"))
    delivery.work()
    first(None)
    clock.now += 1
    delivery.work()
    assert [record[2] for record, _ in broker.held] == [b"b"]
    assert intake.sent == 1


def test_a_failure_of_a_link_that_was_given_up_breaks_no_other(
    delivery: Delivery, broker: FakeBroker, intake: Intake, clock: Clock
) -> None:
    broker.hold = True
    submit(delivery, intake, packed(b"a"), packed(b"b"))
    delivery.work()
    (_, first), (_, second) = broker.held
    first(ConnectionError("reset"))
    delivery.work()
    clock.now += 1
    delivery.work()
    second(ConnectionError("reset"))
    delivery.work()
    assert len(broker.links) == 2
    assert broker.links[1].closed is None
    assert intake.reconnects == 1


def test_what_is_closed_with_records_in_flight_counts_them_as_dropped(
    delivery: Delivery, broker: FakeBroker, intake: Intake
) -> None:
    broker.hold = True
    submit(delivery, intake, packed(b"a"), packed(b"b"))
    delivery.work()
    broker.held[0][1](None)
    delivery.close(0.5)
    assert broker.links[0].closed == 0.5
    assert (intake.sent, dict(intake.dropped), intake.events) == (1, {"closed": 1}, 0)


@pytest.mark.parametrize(("n", "size"), [(1, 10), (7, 100), (1000, 12_345), (200, 0), (3, 10_000_000)])
@pytest.mark.parametrize(("events", "limit"), [(200, 512), (1, 1), (3, 1 << 20)])
def test_slices_give_out_all_events_and_all_bytes(n: int, size: int, events: int, limit: int) -> None:
    cut = list(slices(n, size, events, limit))
    assert [first for first, _, _ in cut] == [0, *(end for _, end, _ in cut[:-1])]
    assert cut[-1][1] == n
    assert sum(share for _, _, share in cut) == size
    assert all(0 < end - first <= events for first, end, _ in cut)
