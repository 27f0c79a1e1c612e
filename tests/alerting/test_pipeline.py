"""The way of a notification: tried again with pauses, told once, slow servers on their own."""

import threading
from collections import deque

import msgspec
import pytest

from mlmm.alerting.notifier._kinds import Delivery
from mlmm.alerting.notifier._line import Line
from mlmm.alerting.notifier._offsets import Offsets
from mlmm.alerting.notifier._pipeline import Again, Finish, Job, Policy, stages_of, walk
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.waiting import wait_until

TO = ("one@example.org", "two@example.org")


class Fake:
    """A notifier that answers as it was told to, then delivers; `hold` makes it slow."""

    def __init__(self, *answers: Delivery) -> None:
        self.recipients = TO
        self.longest = 60.0
        self.answers = deque(answers)
        self.tries: list[tuple[str, ...]] = []
        self.rendered = 0
        self.open = threading.Event()
        self.open.set()

    def render(self, notification):
        self.rendered += 1
        return notification.notification_id.encode()

    def deliver(self, message, recipients):
        self.tries.append(recipients)
        assert self.open.wait(60)
        return self.answers.popleft() if self.answers else Delivery(recipients, (), "")


def note(nth: int = 0):
    story = Story(settings(accuracy_rule()))
    story.tell(report(nth, 0.8))
    return story.of("notifications")[0]


AWAY = Delivery((), TO, "connection refused")


class Way:
    """A pipeline with a clock and a done-set of its own."""

    def __init__(self, fake, **policy) -> None:
        self.done: set[str] = set()
        self.notes = {}
        self.stages = stages_of(
            fake,
            Policy(**policy),
            owned=lambda place: place[1] == 1,
            done=self.done,
            noted=self.notes.get,
            clock=lambda: 42,
            jitter=lambda: 0.0,
        )

    def walk(self, job):
        return walk(self.stages, job)


def job(nth: int = 0, assignment: int = 1) -> Job:
    return Job(note(nth), [(0, assignment, 7)], TO)


def test_a_delivery_ends_with_an_outcome():
    ended = Way(Fake()).walk(job())
    assert isinstance(ended, Finish)
    assert (ended.outcome.state, ended.outcome.attempts, ended.outcome.time) == ("delivered", 1, 42)
    assert ended.outcome.delivered_to == TO


def test_pauses_grow_to_a_bound_and_tries_end():
    fake = Fake(*[AWAY] * 20)
    way, given = Way(fake, attempts=8), job()
    pauses = []
    while isinstance(ended := way.walk(given), Again):
        pauses.append(ended.after)
    assert pauses == [2, 8, 32, 128, 512, 900, 900]
    assert ended.outcome.state == "failed"
    assert ended.outcome.attempts == 8
    assert ended.outcome.error == "connection refused"
    assert fake.rendered == 1


def test_jitter_only_shortens_a_pause():
    assert Policy().pause(2, 1.0) == 6.0
    assert Policy().pause(2, 0.0) == 8.0


def test_only_those_who_lack_it_are_tried_again():
    fake = Fake(Delivery(TO[:1], TO[1:], "two: 450 later"))
    way, given = Way(fake), job()
    assert isinstance(way.walk(given), Again)
    ended = way.walk(given)
    assert fake.tries == [TO, TO[1:]]
    assert ended.outcome.state == "delivered"
    assert ended.outcome.error == ""


def test_who_has_it_is_noted_so_that_another_worker_tells_only_the_others():
    """A worker that goes on where one ended: the 40 minutes of tries must not tell those again who have it."""
    first = Way(Fake(Delivery(TO[:1], TO[1:], "two: 450 later"))).walk(job())
    assert isinstance(first, Again)
    assert (first.outcome.state, first.outcome.delivered_to, first.outcome.attempts) == ("retrying", TO[:1], 1)
    assert first.outcome.error == "two: 450 later"
    fake = Fake()
    way = Way(fake)
    way.notes[first.outcome.notification_id] = first.outcome
    ended = way.walk(job())
    assert fake.tries == [TO[1:]]
    assert (ended.outcome.state, ended.outcome.delivered_to, ended.outcome.attempts) == ("delivered", TO, 2)


def test_tries_of_earlier_workers_count():
    way, given = Way(Fake(AWAY, AWAY), attempts=3), job()
    noted = way.walk(given)
    way.notes[given.notification.notification_id] = msgspec.structs.replace(noted.outcome, attempts=2)
    ended = way.walk(job())
    assert (ended.outcome.state, ended.outcome.attempts) == ("failed", 3)


def test_tries_without_an_answer_of_earlier_workers_count():
    """Each may have sent it: a notification that changes hands after one must not be sent a third time."""
    unsure = Delivery((), TO, "no answer", unsure=True)
    given = job()
    noted = Way(Fake(unsure)).walk(given)
    fake = Fake(unsure)
    way = Way(fake)
    way.notes[given.notification.notification_id] = noted.outcome
    ended = way.walk(job())
    assert isinstance(ended, Finish), "no third try"
    assert (ended.outcome.state, ended.outcome.attempts, ended.outcome.unsure) == ("failed", 2, 2)
    assert len(fake.tries) == 1


def test_where_everyone_has_it_nobody_is_told_again():
    fake = Fake(Delivery(TO[:1], TO[1:], "two: 450 later"))
    way, given = Way(fake), job()
    noted = way.walk(given)
    way.notes[given.notification.notification_id] = msgspec.structs.replace(noted.outcome, delivered_to=TO)
    assert way.walk(given).outcome.state == "delivered"
    assert len(fake.tries) == 1


def test_a_message_without_an_answer_is_sent_a_second_time_and_no_third():
    unsure = Delivery((), TO, "no answer", unsure=True)
    fake = Fake(AWAY, unsure, AWAY, unsure, unsure)
    way, given = Way(fake), job()
    while isinstance(ended := way.walk(given), Again):
        pass
    assert len(fake.tries) == 4
    assert ended.outcome.state == "failed"
    assert ended.outcome.error == "no answer; it may have arrived all the same"


def test_a_recipient_that_is_refused_for_good_is_named_and_nobody_is_asked_again():
    ended = Way(Fake(Delivery(TO[:1], (), "two: 550 no such user"))).walk(job())
    assert ended.outcome.state == "failed"
    assert ended.outcome.delivered_to == TO[:1]
    assert ended.outcome.error == "two: 550 no such user"


def test_what_has_an_outcome_is_not_sent_again():
    fake = Fake()
    way, given = Way(fake), job()
    way.done.add(given.notification.notification_id)
    assert way.walk(given) == Finish(None)
    assert fake.tries == []


def test_what_another_worker_owns_by_now_is_left_to_it():
    fake = Fake()
    assert Way(fake).walk(job(assignment=0)) == Finish(None)
    assert fake.tries == []


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """A line whose clock stands still until it is moved."""

    def __init__(self, fake, limit: int = 10, **policy) -> None:
        self.clock, self.written, self.noted, self.done = Clock(), [], [], []
        self.way = Way(fake, **policy)
        self.line = Line(
            "on_call",
            self.way.stages,
            write=self._write,
            finished=self.done.extend,
            limit=limit,
            clock=self.clock,
            now=lambda: 42,
        )
        self.accepts = True
        self.line.start()

    def _write(self, outcome):
        (self.noted if outcome.state == "retrying" else self.written).append(outcome)
        return self.accepts

    def move(self, seconds: float) -> None:
        self.clock.now += seconds
        self.line.nudge()


@pytest.fixture
def rig():
    made = []

    def make(fake, **options):
        made.append(Rig(fake, **options))
        return made[-1]

    yield make
    for each in made:
        assert each.line.stop(60)


def test_a_retry_waits_without_keeping_others_waiting(rig):
    fake = Fake(AWAY)
    given = rig(fake)
    assert given.line.offer(job(0))
    wait_until(lambda: len(fake.tries) == 1, timeout=60, what="the first try")
    assert given.line.offer(job(1))
    wait_until(lambda: len(given.written) == 1, timeout=60, what="the second notification")
    assert given.written[0].notification_id == note(1).notification_id
    given.move(2.0)
    wait_until(lambda: len(given.written) == 2, timeout=60, what="the retry")
    assert given.written[1].attempts == 2
    assert [(each.attempts, each.error) for each in given.noted] == [(1, "connection refused")]
    wait_until(lambda: given.line.waiting == 0, timeout=60, what="the end of the retry")


def test_a_slow_notifier_delays_no_other(rig):
    slow, quick = Fake(), Fake()
    slow.open.clear()
    first, second = rig(slow), rig(quick)
    first.line.offer(job(0))
    second.line.offer(job(1))
    wait_until(lambda: second.written, timeout=60, what="the quick one")
    assert first.written == []
    slow.open.set()


def test_a_full_queue_takes_no_more(rig):
    fake = Fake()
    fake.open.clear()
    given = rig(fake, limit=2)
    assert [given.line.offer(job(i)) for i in range(3)] == [True, True, False]
    fake.open.set()
    wait_until(lambda: given.line.waiting == 0, timeout=60, what="room")
    assert given.line.offer(job(2))


def test_a_notification_that_comes_twice_is_sent_once_and_both_records_are_done(rig):
    fake = Fake()
    fake.open.clear()
    given = rig(fake)
    twin = job()
    twin.places = [(0, 1, 8)]
    given.line.offer(job())
    given.line.offer(twin)
    fake.open.set()
    wait_until(lambda: len(given.done) == 2, timeout=60, what="both records")
    assert len(fake.tries) == 1
    assert [place[2] for place in given.done] == [7, 8]


def test_an_offset_is_not_done_when_the_outcome_could_not_be_written(rig):
    given = rig(Fake())
    given.accepts = False
    given.line.offer(job())
    wait_until(lambda: given.written and given.line.waiting == 0, timeout=60, what="the try")
    assert given.done == []


def test_a_notifier_that_breaks_fails_its_notification_and_goes_on(rig):
    fake = Fake()
    fake.render = lambda notification: 1 / 0
    given = rig(fake)
    given.line.offer(job())
    wait_until(lambda: given.written, timeout=60, what="the outcome")
    assert given.written[0].state == "failed"
    assert given.written[0].error.startswith("ZeroDivisionError")
    assert given.written[0].time == 42, "what the notification says of its time is not trusted"
    fake.render = lambda notification: b""
    given.line.offer(job(1))
    wait_until(lambda: len(given.written) == 2, timeout=60, what="the next")
    assert given.written[1].state == "delivered"


def test_only_offsets_before_which_all_is_done_are_committed():
    offsets = Offsets()
    offsets.assign([0, 1])
    places = [offsets.take(0, i) for i in (5, 6, 9)]
    assert offsets.committable() == {0: 5}
    offsets.done([places[1]])
    assert offsets.committable() == {0: 5}
    offsets.done([places[0]])
    assert offsets.committable() == {0: 9}
    offsets.committed({0: 9})
    assert offsets.committable() == {}
    offsets.done([places[2]])
    assert offsets.committable() == {0: 10}


def test_what_is_done_of_an_earlier_assignment_counts_for_nothing():
    offsets = Offsets()
    offsets.assign([0])
    place = offsets.take(0, 5)
    assert offsets.revoke([0]) == {0: 5}, "where its next owner, or we again, must read on"
    assert not offsets.owned(place)
    offsets.assign([0])
    again = offsets.take(0, 5)
    offsets.done([place])
    assert offsets.committable() == {0: 5}
    assert offsets.owned(again)
    assert not offsets.owned(place)


def test_an_outcome_is_bounded():
    ended = Way(Fake(Delivery((), (), "x" * 10_000))).walk(job())
    assert len(msgspec.json.encode(ended.outcome)) < 1500
