"""A notifier that is killed at any instruction between taking a notification and noting its outcome, and started again.

The process is the thread of a line; its death is an exception that no code of ours catches, raised before one bytecode
instruction after the other. What Kafka holds and what the mail server took outlives it.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import mlmm.alerting.notifier as room
from mlmm.alerting.notifier import Delivery, _outcomes
from mlmm.alerting.notifier._line import Line
from mlmm.alerting.notifier._outcomes import Outcomes
from mlmm.alerting.notifier._pipeline import Job, Policy, stages_of
from mlmm.runtime.settings import KafkaSettings, Settings
from tests.alerting.stories import START, Story, accuracy_rule, report, settings

TO = ("one@example.org", "two@example.org", "three@example.org")
OURS = str(Path(room.__file__).parent)


class Killed(BaseException):
    pass


class Noted(NamedTuple):
    value: bytes
    headers: list
    offset: int


class Kafka:
    """The topic of outcomes, as far as `Outcomes` sees it."""

    def __init__(self):
        self.log = []

    def send(self, topic, *, key, value, headers):
        self.log.append(Noted(value, headers, len(self.log)))
        return self

    def get(self, timeout):
        return None


class Server:
    """A mail server that takes what it is given; ``later`` recipients only at their second try."""

    longest = 60.0

    def __init__(self, later=()):
        self.recipients = TO
        self.mails = []
        self.later = set(later)

    def render(self, notification):
        return notification.notification_id.encode()

    def deliver(self, message, recipients):
        now = tuple(each for each in recipients if each not in self.later)
        again = tuple(each for each in recipients if each in self.later)
        self.later.clear()
        self.mails.extend(now)
        return Delivery(now, again, "451 later" if again else "")


class Death:
    """Kills at the nth instruction of this room."""

    def __init__(self, nth):
        self.left = nth

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                raise Killed
        return self


def ends(kafka):
    return [each for each in kafka.log if b'"retrying"' not in each.value]


def live(kafka, server, notification, nth=None):
    """Run a notifier on one notification until it is done, or killed at the nth instruction."""
    outcomes = Outcomes(Settings(kafka=KafkaSettings(bootstrap_servers="none:1")), None)
    for each in kafka.log:
        outcomes._note(each)
    stages = stages_of(
        server,
        Policy(first=0.0),
        owned=lambda place: True,
        done=outcomes,
        noted=outcomes.noted,
        clock=lambda: START,
        jitter=lambda: 0.0,
    )
    done = []
    line = Line("n", stages, write=outcomes.write, finished=done.extend, limit=9, clock=lambda: 0.0, now=lambda: START)
    line._finished = lambda places: (done.extend(places), line.stop(0))
    line.offer(Job(notification, [(0, 1, 0)], TO))
    if nth is not None:
        sys.settrace(Death(nth))
    try:
        line._run()
    except Killed:
        return False
    finally:
        sys.settrace(None)
    assert done
    return True


@pytest.mark.parametrize("later", [(), TO[2:]], ids=["all at once", "one at a second try"])
def test_a_kill_at_any_instruction_loses_nothing_and_mails_at_most_twice(monkeypatch, later):
    kafka = Kafka()
    monkeypatch.setattr(_outcomes, "kafka_producer", lambda *_, **__: kafka)
    monkeypatch.setattr(_outcomes, "kafka_consumer", lambda *_, **__: None)
    story = Story(settings(accuracy_rule()))
    story.tell(report(0, 0.8))
    (notification,) = story.of("notifications")
    before = sys.gettrace()
    twice, nth, whole = 0, 0, False
    try:
        while not whole:
            kafka.log, server = [], Server(later)
            whole = live(kafka, server, notification, nth)
            taken, noted = list(server.mails), list(ends(kafka))
            said = {to for each in kafka.log for to in TO if to.encode() in each.value}
            assert live(kafka, server, notification), "started again, it ends"
            assert set(server.mails) == set(TO), f"nobody is left out: instruction {nth}"
            assert len(ends(kafka)) == 1, f"one outcome: instruction {nth}"
            for to in TO:
                again = server.mails.count(to) - 1
                assert again <= 1
                assert not again or (to in taken and to not in said), f"again though it was noted: instruction {nth}"
                twice += again
            assert not noted or server.mails == taken
            nth += 1
    finally:
        sys.settrace(before)
    assert nth > 200, "the way is longer than that"
    assert twice, "the window is there, and the test saw it"
