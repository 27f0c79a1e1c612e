"""The notifier worker without Kafka: how it ends."""

import threading

from mlmm.alerting.notifier import _worker
from mlmm.alerting.notifier._kinds import Delivery
from mlmm.alerting.notifier._pipeline import Job
from mlmm.runtime.settings import Settings
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.waiting import wait_until

TO = ("one@example.org",)


class Gated:
    """A notifier whose tries wait until `open` is set."""

    recipients = TO
    longest = 60.0

    def __init__(self) -> None:
        self.open = threading.Event()
        self.tries: list[str] = []

    def render(self, notification):
        return notification.notification_id.encode()

    def deliver(self, message, recipients):
        self.tries.append(message.decode())
        assert self.open.wait(60)
        return Delivery(recipients, (), "")


class Outcomes:
    """In place of the topic."""

    def __init__(self, settings, stop_event):
        self.written = []

    def __contains__(self, notification_id):
        return False

    def noted(self, notification_id):
        return None

    def write(self, outcome):
        self.written.append(outcome)
        return True

    def close(self):
        pass


def notification(nth):
    story = Story(settings(accuracy_rule()))
    story.tell(report(nth, 0.8))
    return story.of("notifications")[0]


def test_no_notifier_begins_a_try_while_another_ends_its_own(monkeypatch):
    """Each line is told to end before any is waited for: a try that began later would get no time to end."""
    monkeypatch.setattr(_worker, "Outcomes", Outcomes)
    slow, quick = Gated(), Gated()
    worker = _worker._Worker(Settings(), {"slow": slow, "quick": quick}, threading.Event())
    worker._offsets.assign([0])
    for line in worker._lines.values():
        line.start()
    for nth, name in enumerate(["slow", "quick", "quick"]):
        assert worker._lines[name].offer(Job(notification(nth), [worker._offsets.take(0, nth)], TO))
    wait_until(lambda: slow.tries and quick.tries, timeout=60, what="a try of each")

    first, second = worker._lines["slow"], worker._lines["quick"]
    wait_for_first = first.stop

    def stop(timeout):
        """The first is waited for: meanwhile the second ends its try, and begins another or ends."""
        quick.open.set()
        wait_until(lambda: len(quick.tries) > 1 or not second._thread.is_alive(), timeout=60, what="its end")
        slow.open.set()
        return wait_for_first(timeout)

    monkeypatch.setattr(first, "stop", stop)
    assert worker.close()
    assert [len(quick.tries), second.waiting] == [1, 1], "what waits stays in Kafka"
    assert len(worker._outcomes.written) == 2
