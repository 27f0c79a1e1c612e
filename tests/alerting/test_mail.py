"""The mail itself: what it says, that it is the same each time, and that no stranger's text can do harm."""

import email
import io
import string
from email import policy

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image

from mlmm.alerting.notifier._mail import compose
from mlmm.alerting.notifier._plot import draw, history_of
from mlmm.events.types import Incident, Notification, Subject
from tests.alerting.stories import (
    Story,
    accuracy_rule,
    drift,
    falling_rule,
    report,
    rule,
    run_state,
    said,
    settings,
    trigger,
)

TO = ("ml-on-call@example.org", "second@example.org")


def notes(*findings, rules=None) -> list[Notification]:
    story = Story(
        settings(*(rules or (accuracy_rule(hold="1 of 2"), falling_rule(), rule(name="drift", model="*", drift="*"))))
    )
    story.tell(*findings)
    return story.of("notifications")


def mailed(note: Notification):
    return email.message_from_bytes(compose(note, "mlmm@example.org", TO).as_bytes(), policy=policy.default)


def text_of(mail) -> str:
    return mail.get_body(("plain",)).get_content()


def html_of(mail) -> str:
    return mail.get_body(("html",)).get_content()


def fired():
    return mailed(notes(report(0, 0.95), report(1, 0.81))[0])


def test_the_subject_says_state_whom_rule_and_figures():
    assert fired()["Subject"] == "[firing] fraud: accuracy fell \u2014 accuracy 0.81 below 0.9 (10m)"


@pytest.mark.parametrize("body", [text_of, html_of], ids=["text", "html"])
def test_both_bodies_say_what_since_when_the_figures_and_what_to_do(body):
    said_in = body(fired())
    for words in (
        "fraud: accuracy fell",
        "accuracy 0.81 below 0.9 (10m)",
        "since 2027-01-15 08:20:10 UTC",
        "2027-01-15 08:10:00 to 08:20:00 UTC (10m)",
        "500",
        "warning",
        "mlmm incidents",
        "mlmm tail findings",
    ):
        assert words in said_in


def test_a_command_and_its_state_are_told():
    first = notes(trigger(60))[0]
    command_id = first.incident.evidence["command"]["command_id"]
    assert "A command to stop churn-1 was given at 2027-01-15 08:01:00 UTC" in text_of(mailed(first))
    assert "Nobody has answered yet." in text_of(mailed(first))
    last = notes(
        trigger(60),
        said(61, command_id, "accepted"),
        said(62, command_id, "completed", checkpoint="file:///c/300"),
        run_state(63, status="stopped"),
    )[-1]
    assert "churn-1 completed it at 2027-01-15 08:01:02 UTC; checkpoint file:///c/300." in text_of(mailed(last))
    assert "from 2027-01-15 08:01:00 UTC to 2027-01-15 08:01:03 UTC (3s)" in text_of(mailed(last))


def test_a_run_without_a_command_can_be_stopped_by_what_the_mail_says():
    note = notes(trigger(60, run="churn 1; rm -rf /"), rules=(falling_rule(run="*", command=None),))[0]
    assert "mlmm stop 'churn 1; rm -rf /' --reason 'hopeless run'" in text_of(mailed(note))


def test_the_same_notification_gives_the_same_bytes():
    note = notes(drift(0))[0]
    first = compose(note, "mlmm@example.org", TO).as_bytes()
    assert compose(note, "mlmm@example.org", TO).as_bytes() == first


def test_a_resolved_mail_threads_with_the_one_that_told_of_the_fire():
    first, last = map(mailed, notes(report(0, 0.8), report(1, 0.95), report(2, 0.95)))
    assert last["In-Reply-To"] == first["Message-ID"]
    assert last["References"] == first["Message-ID"]
    assert first["In-Reply-To"] is None
    assert first["Message-ID"] != last["Message-ID"]


def test_the_picture_is_inline_and_the_page_shows_it():
    mail = mailed(notes(drift(0))[0])
    (picture,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert picture.get_content_disposition() == "inline"
    assert f'src="cid:{picture["Content-ID"][1:-1]}"' in html_of(mail)
    image = Image.open(io.BytesIO(picture.get_content()))
    assert image.size == (960, 320)


def test_without_a_history_there_is_no_picture():
    mail = mailed(notes(trigger(0, history=()))[0])
    assert [part.get_content_type() for part in mail.walk() if part.get_content_maintype() == "image"] == []
    assert "cid:" not in html_of(mail)


EVIL = '<script>alert("x")</script>\r\nBcc: victim@example.org\x00\x1b[31m\u202e\ud7ff" onload="'
NAMES = [EVIL, EVIL * 300, "\n" * 600, "{{ 7*7 }}{% raw %}", "'\"<>&", "\U0001f4a9" * 4000, "a" * 10_000]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_hostile_name_is_harmless_everywhere(name):
    incident = Incident(
        incident_id=name,
        rule=name,
        state="resolved",
        severity="critical",
        subject=Subject(model=name, version=name, run=name, segment=name),
        started=1,
        updated=2,
        ended=3,
        reason=name,
        evidence={
            "what": name,
            "condition": name,
            "figures": {name: name, "b": {"deep": name}},
            "report": {name: 1.0},
            "history": {"name": name, "values": [1.0, 2.0], "ends": [1, 2]},
            "command": {"kind": name, "target": name, "state": name, "answers": [{"by": name, "reason": name}]},
            "was": name,
        },
    )
    raw = compose(
        Notification(notification_id=name, notifier=name, incident=incident, created=0), "mlmm@example.org", TO
    ).as_bytes()
    mail = email.message_from_bytes(raw, policy=policy.default)
    assert mail["Bcc"] is None
    assert len(mail["Subject"]) <= 200
    assert set(mail.keys()) <= {
        "Subject", "From", "To", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "Content-Type",
        "X-Auto-Response-Suppress", "X-MLMM-Incident", "X-MLMM-State", "X-MLMM-Severity", "MIME-Version",
    }  # fmt: skip
    assert len(raw) < 150_000
    page = html_of(mail)
    assert "<script" not in page
    assert 'onload="' not in page
    assert "{{ 7*7 }}" in page or "{{" not in name
    for said_in in (page, text_of(mail), str(mail["Subject"])):
        assert not set(said_in) & {"\x00", "\x1b", "\u202e"}
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["what", "condition", "figures", "report", "history", "command", "drifted", "was", "alarms"])
INNER = st.sampled_from(["values", "limits", "change", "ends", "block", "name", "answers", "state", "kind", "at", "by"])


@examples(max_examples=120, deadline=None)
@given(st.dictionaries(KEYS, JSON | st.dictionaries(INNER, JSON, max_size=6), max_size=9), st.integers(), st.integers())
def test_evidence_of_any_shape_makes_a_mail(evidence, started, ended):
    incident = msgspec.structs.replace(notes(drift(0))[0].incident, evidence=evidence, started=started, ended=ended)
    note = Notification(notification_id="n", notifier="on_call", incident=incident, created=started)
    assert mailed(note)["Subject"]


NUMBERS = st.floats(allow_nan=True) | st.none() | st.integers(-(10**30), 10**30)


@examples(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, max_size=60), st.lists(NUMBERS, max_size=3), st.integers(-1, 60))
def test_any_history_can_be_drawn_or_is_left_out(values, limits, change):
    history = history_of({"history": {"values": values, "limits": limits, "change": change}})
    if history is not None:
        assert draw(history).startswith(b"\x89PNG")


def test_text_that_is_plain_stays_as_it_is():
    name = string.ascii_letters + " \u00e4\u00f6\u4e2d"
    mail = mailed(notes(report(0, 0.8, model="fraud " + name), rules=(accuracy_rule(),))[0])
    assert name in text_of(mail)
