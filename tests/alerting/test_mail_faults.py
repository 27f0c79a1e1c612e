"""What a mail server may do to a notification: how often it is tried, who has it, how often, and what is said of it."""

import contextlib
import copy
import dataclasses
import logging
import ssl
from collections import Counter
from collections.abc import Callable

import pytest

from mlmm.alerting.notifier._pipeline import Again, Job, Policy, stages_of, walk
from mlmm.alerting.notifier.email import EmailNotifier
from mlmm.runtime.settings import Secret, SmtpSettings
from tests.alerting.mailbox import PASSWORD, TAKEN, USER, Mailbox, certificate, smtp_server
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.services import free_port

TO = ("one@example.org", "two@example.org", "three@example.org")
FOREVER = 50
WRONG, UMLAUT = "hunter2 and more", "p\u00e4ss and more"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("other tls"))


def notification():
    story = Story(settings(accuracy_rule()))
    story.tell(report(0, 0.8))
    return story.of("notifications")[0]


class Told:
    """What became of one notification: every try, without the pauses between them."""

    def __init__(self, port: int, before: Callable[[int], None] = lambda nth: None, ca=None, **fields):
        smtp = SmtpSettings(host="localhost", port=port, **{"timeout": "30s", "answer_timeout": "60s", **fields})
        notifier = EmailNotifier(smtp, TO, context=lambda: ssl.create_default_context(cafile=ca and str(ca[0])))
        self.longest = notifier.longest
        stages = stages_of(
            notifier,
            Policy(attempts=smtp.attempts),
            owned=lambda place: True,
            done=(),
            noted=lambda notification_id: None,
            clock=lambda: 42,
            jitter=lambda: 0.0,
        )
        job = Job(notification(), [(0, 1, 7)], TO)
        self.notes, self.pauses = [], []
        before(0)
        while isinstance(ended := walk(stages, job), Again):
            self.notes.append(ended.outcome)
            self.pauses.append(ended.after)
            before(len(self.pauses))
        self.outcome = ended.outcome

    @property
    def ended(self):
        return self.outcome.state, self.outcome.attempts


def received(box: Mailbox) -> Counter:
    return Counter(address for envelope in box.envelopes for address in envelope)


ONCE = dict.fromkeys(TO, 1)
QUICK = {"timeout": "1s"}
"""A step's time where it must run out; on a busy machine it may then run out for other steps too."""


@dataclasses.dataclass
class Fault:
    """A fault, and what follows: state and tries, what each recipient has, words of the reason."""

    name: str
    box: dict
    ended: tuple[str, int]
    received: dict
    said: str = ""
    fields: dict = dataclasses.field(default_factory=dict)


FAULTS = [
    Fault("no greeting", {"manners": {"220": ["silence"] * 2}}, ("delivered", 3), ONCE, "no answer in time", QUICK),
    Fault("greets in single bytes", {"manners": {"220": ["drip"]}}, ("delivered", 2), ONCE, "no answer in time", QUICK),
    Fault("an answer without end", {"manners": {"220": ["flood"]}}, ("delivered", 2), ONCE, "without end"),
    Fault("accepts and closes", {"manners": {"220": ["drop"] * 3}}, ("delivered", 4), ONCE, "Connection"),
    Fault("too busy", {"manners": {"220": ["421 too busy"] * 2}}, ("delivered", 3), ONCE, "421 too busy"),
    Fault("greylisting", {"refusals": {to: ["451 come back"] * 2 for to in TO}}, ("delivered", 3), ONCE, "451"),
    Fault("greylists one", {"refusals": {TO[1]: ["451 come back"] * 3}}, ("delivered", 4), ONCE, "451 come back"),
    Fault(
        "refuses one for good",
        {"refusals": {TO[1]: ["550 no such user"]}},
        ("failed", 1),
        {TO[0]: 1, TO[2]: 1},
        f"{TO[1]}: 550 no such user",
    ),
    Fault(
        "refuses one for now, for ever",
        {"refusals": {TO[2]: ["452 mailbox full"] * FOREVER}},
        ("failed", 8),
        {TO[0]: 1, TO[1]: 1},
        f"{TO[2]}: 452 mailbox full",
    ),
    Fault(
        "refuses one for good, one for now",
        {"refusals": {TO[0]: ["550 gone"], TO[1]: ["450 later"]}},
        ("failed", 2),
        {TO[1]: 1, TO[2]: 1},
        f"{TO[0]}: 550 gone",
    ),
    Fault("ends amid recipients", {"refusals": {TO[1]: ["421 going down"]}}, ("delivered", 2), ONCE, "421 going down"),
    Fault("5xx for ever", {"data_answers": ["554 never"] * FOREVER}, ("failed", 1), {}, "554 never"),
    Fault("4xx for ever", {"data_answers": ["451 later"] * FOREVER}, ("failed", 8), {}, "451 later"),
    Fault("ends before the message", {"manners": {"354": ["drop"]}}, ("delivered", 2), ONCE, "Connection"),
    Fault("late with its answer", {"manners": {TAKEN: [3.0]}}, ("delivered", 1), ONCE, "", QUICK),
    Fault("another yes", {"manners": {TAKEN: ["252 taken, I think"]}}, ("delivered", 1), ONCE),
    Fault("drops before its answer", {"manners": {TAKEN: ["drop"]}}, ("delivered", 2), dict.fromkeys(TO, 2), "not say"),
    Fault("answers nonsense", {"manners": {TAKEN: ["what?"]}}, ("delivered", 2), dict.fromkeys(TO, 2), "not say"),
    Fault(
        "never answers whole messages",
        {"manners": {TAKEN: ["silence"] * FOREVER}},
        ("failed", 2),
        dict.fromkeys(TO, 2),
        "may have arrived",
        {"answer_timeout": "1s"},
    ),
    Fault(
        "drops each whole message",
        {"manners": {TAKEN: ["drop"] * FOREVER}},
        ("failed", 2),
        dict.fromkeys(TO, 2),
        "may have arrived",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_a_server_does(fault):
    with smtp_server() as (box, port):
        box.sessions = 0  # the server greeted itself when it started
        for name, value in fault.box.items():
            setattr(box, name, copy.deepcopy(value))
        told = Told(port, **fault.fields)
    if fault.fields is QUICK:
        assert told.ended[0] == fault.ended[0]
        assert fault.ended[1] <= told.ended[1] <= 8
    else:
        assert told.ended == fault.ended
    assert received(box) == fault.received
    assert set(told.outcome.delivered_to) <= set(fault.received)
    assert fault.said in "; ".join([*(note.error for note in told.notes), told.outcome.error])
    assert len(set(box.raw)) <= 1, "each mail of a notification is the same"
    assert box.sessions == told.outcome.attempts, "one session a try"
    assert len(told.pauses) < 8
    assert sum(told.pauses) <= 2482


def test_a_server_that_comes_back_gets_the_mail():
    box, port = Mailbox(), free_port()
    with contextlib.ExitStack() as later:

        def before(nth):
            if nth == 3:
                later.enter_context(smtp_server(box=box, port=port))

        told = Told(port, before)
    assert told.ended == ("delivered", 4)
    assert received(box) == ONCE
    assert [note.attempts for note in told.notes] == [1, 2, 3]
    assert all("refused" in note.error for note in told.notes)


def test_a_server_that_stays_away_ends_as_a_failure_within_bounds():
    told = Told(free_port())
    assert told.ended == ("failed", 8)
    assert told.pauses == [2, 8, 32, 128, 512, 900, 900]
    assert told.outcome.error.startswith("ConnectionRefusedError")


def test_one_try_is_bounded_whatever_the_server_does():
    """Steps, recipients and the answer: what others may have to wait for in a rebalance."""
    assert EmailNotifier(SmtpSettings(timeout="10s", answer_timeout="10m"), TO).longest == 10 + 150 + 600 + 10


SECURITY = [
    ("TLS is wanted and absent", False, {"starttls": True}, "STARTTLS extension not supported"),
    ("TLS is demanded and not set up", True, {}, "530 Must issue a STARTTLS command first"),
    ("a wrong password", True, {"starttls": True, "username": USER, "password": Secret(WRONG)}, "535"),
    (
        "a password that can't be said",
        True,
        {"starttls": True, "username": USER, "password": Secret("p\u00e4ss")},
        "ASCII",
    ),
]


@pytest.mark.parametrize(("name", "tls", "fields", "said"), SECURITY, ids=[row[0] for row in SECURITY])
def test_what_the_settings_may_mend_is_tried_again_and_says_why(files, caplog, name, tls, fields, said):
    caplog.set_level(logging.DEBUG)
    with smtp_server(files if tls else None) as (box, port):
        told = Told(port, ca=files, attempts=3, **fields)
    assert told.ended == ("failed", 3)
    assert said in told.outcome.error
    assert box.raw == [], "nothing in clear, nothing without a logon"
    assert "and more" not in told.outcome.error + caplog.text
    assert "\u00e4" not in told.outcome.error + caplog.text


def test_a_certificate_of_somebody_else_is_refused(files, others):
    with smtp_server(files) as (box, port):
        told = Told(port, ca=others, attempts=2, starttls=True, username=USER, password=Secret(PASSWORD))
    assert told.ended == ("failed", 2)
    assert "CERTIFICATE_VERIFY_FAILED" in told.outcome.error
    assert (box.raw, box.logons) == ([], [])
