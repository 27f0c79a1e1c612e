"""Strangers' text, and secrets in it: harmless in a mail's headers, text and page, in outcomes, logs and on screens."""

import email
import functools
import io
import json
import logging
from email import policy
from html.parser import HTMLParser

import msgspec
import pytest

from mlmm.alerting.notifier._mail import compose
from mlmm.alerting.notifier._pipeline import Job, Policy, stages_of, walk
from mlmm.alerting.notifier.email import EmailNotifier
from mlmm.console.reading import describe
from mlmm.console.screen import plain
from mlmm.events import JSON, encode_json
from mlmm.events.types import Incident, Notification, Subject
from mlmm.runtime.logs import JsonFormatter, TextFormatter
from mlmm.runtime.processor import Record
from mlmm.runtime.settings import Secret, SmtpSettings
from tests.alerting.mailbox import smtp_server
from tests.alerting.stories import START, Story, rule, run_state, settings

TO = ("one@example.org",)
SECRET = "S3CRET-hunter2"
ATTACKS = {
    "script": '<script>document.title="owned"</script>',
    "attribute": '" onmouseover="document.title=1" style="background:url(//evil.example)',
    "image": "<img src=x onerror=document.title=1>",
    "closing": "</title></style></td></table><iframe src='javascript:1'></iframe><svg/onload=1>",
    "link": '<a href="https://evil.example">click</a> <base href="https://evil.example">',
    "meta": '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    "header": "x\r\nBcc: victim@example.org\r\n\r\n<script>",
    "folded": "x\n Bcc: victim@example.org\x0b\x0c\x85\u2028\u2029Bcc: victim@example.org",
    "boundary": "\r\n--=_x_0\r\nContent-Type: text/html\r\n\r\n<script>1</script>",
    "encoded word": "=?utf-8?b?QmNjOiB2aWN0aW1AZXhhbXBsZS5vcmc=?= =?utf-8?q?=0D=0ABcc=3A_x=40y?=",
    "directions": "safe\u202egnp.exe\u2066\u2069\u200b\u200f\ufeff",
    "controls": "\x00\x1b[31m\x1b]0;owned\x07\x9b2J\x7f",
    "surrogates": "half \ud800 and \udfff",
    "template": "{{ 7*7 }}{% raw %}{{ cycler.__init__.__globals__ }}",
    "dots": "\r\n.\r\nMAIL FROM:<evil@example.org>\r\n",
    "entities": "&lt;script&gt;&#60;script&#62;&amp;",
    "long": "<b>" * 3_400,
    "quotes": "'\"`&<>",
}
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "div",
    "table",
    "tr",
    "td",
    "span",
    "h1",
    "h2",
    "p",
    "pre",
    "img",
}
ATTRIBUTES = {
    "lang", "charset", "name", "content", "style", "role", "class", "width", "height", "cellpadding", "cellspacing",
    "align", "src", "alt",
}  # fmt: skip


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def incident(name: str) -> Incident:
    return Incident(
        incident_id=name, rule=name, state="firing", severity="critical",
        subject=Subject(model=name, version=name, run=name, segment=name, host=name),
        started=START, updated=START, reason=name,
        evidence={
            "what": name, "condition": name, "figures": {name: name}, "report": {name: 1.0}, "was": name,
            "history": {"name": name, "values": [1.0, 2.0], "ends": [1, 2]},
            "command": {"kind": name, "target": name, "state": name, "answers": [{"by": name, "reason": name}]},
        },
    )  # fmt: skip


@functools.cache
def mail_of(name: str):
    note = Notification(notification_id=name, notifier=name, incident=incident(name), created=START)
    raw = compose(note, "mlmm@example.org", TO).as_bytes()
    return raw, email.message_from_bytes(raw, policy=policy.default)


def tags_of(name: str) -> list[str]:
    return Page(mail_of(name)[1].get_body(("html",)).get_content()).tags


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_page_is_the_same_page_whatever_a_name_says(attack):
    """No element more than with a harmless name, none that runs, loads or leads anywhere."""
    page = Page(mail_of(attack)[1].get_body(("html",)).get_content())
    assert page.tags == tags_of("harmless")
    assert set(page.tags) <= TAGS
    for name, value in page.attributes:
        assert name in ATTRIBUTES
        assert name != "src" or value.startswith("cid:history.")
        assert name != "style" or "url(" not in value


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_headers_and_text_hold_one_line_of_harmless_characters(attack):
    raw, mail = mail_of(attack)
    assert mail.defects == []
    assert mail["Bcc"] is None
    assert [value for name, value in mail.items() if "victim" in value and name != "Subject"] == []
    assert mail.keys() == mail_of("harmless")[1].keys()
    assert [part.get_content_type() for part in mail.walk()] == [
        part.get_content_type() for part in mail_of("harmless")[1].walk()
    ]
    forbidden = {c for c in attack if not c.isprintable()} - {"\n", "\r"}
    for shown in (*map(str, mail.values()), mail.get_body(("plain",)).get_content()):
        assert not set(shown) & forbidden
    assert raw.decode("ascii").isascii()
    assert len(raw) < 150_000
    assert b"\r\n.\r\n" not in raw


def test_the_mail_arrives_through_a_real_server_as_it_was_sent():
    """Dots, long lines and control characters: nothing of a name ends the message or adds a recipient."""
    with smtp_server() as (box, port):
        sender = EmailNotifier(SmtpSettings(host="127.0.0.1", port=port, timeout="30s"), TO)
        for attack in ATTACKS.values():
            note = Notification(notification_id="n", notifier="o", incident=incident(attack), created=START)
            assert sender.deliver(sender.render(note), TO).delivered == TO
    assert box.envelopes == [TO] * len(ATTACKS)


TEXTS = [
    f"ConnectionError: redis://mlmm:{SECRET}@cache:6379/0 timed out",
    f"kafka://u:{SECRET}@broker:9092 refused",
    f"401 for Authorization: Bearer {SECRET}",
    f"SMTPAuthenticationError: password={SECRET}",
    f"{{'sasl_plain_password': '{SECRET}'}}",
    "x" * 3_000 + f" redis://mlmm:{SECRET}@cache " + "y" * 3_000,
    f"redis://mlmm:{'p' * 150}{SECRET}{'q' * 600}@cache",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_secret_in_an_exception_is_in_no_mail_incident_or_screen(text):
    story = Story(settings(rule(name="gone", run="*", no_data="15m")))
    story.tell(run_state(0, status="running"), run_state(1, status="lost", error=text))
    (note,) = story.of("notifications")
    raw = compose(note, "mlmm@example.org", TO)
    parts = [part.get_content() for part in raw.walk() if part.get_content_maintype() == "text"]
    shown = [*parts, str(raw["Subject"]), repr([each.reason for each in story.of("incidents")])]
    record = Record(0, START, b"churn-1", encode_json(run_state(1, status="lost", error=text)), [
        ("ce_type", b"mlmm.run.state.v1"), ("content-type", JSON.encode())])  # fmt: skip
    shown += describe(0, record)
    assert all("hunter2" not in each for each in shown)
    assert any("lost" in each for each in parts)


def _fail(text):
    raise ConnectionError(text)


@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_secret_in_an_exception_is_in_no_log(kind, text):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(kind())
    logger = logging.getLogger("mlmm.tests.hostile")
    logger.addHandler(handler)
    try:
        _fail(text)
    except ConnectionError:
        logger.exception("it failed: " + text, extra={"error": text, "inner": {"said": [text]}})  # noqa: G003 - as text
    finally:
        logger.removeHandler(handler)
    assert "hunter2" not in stream.getvalue()
    assert "ConnectionError" in stream.getvalue()


class Betrayer:
    """A server whose answers, and a library whose errors, repeat what they were told."""

    recipients, longest = TO, 60.0

    def __init__(self, text: str) -> None:
        self._text = text

    def render(self, notification):
        return b""

    def deliver(self, message, recipients):
        notifier = EmailNotifier(SmtpSettings(username="u", password=Secret("plain words"), starttls=True), TO)
        error = notifier._said(550, f"{self._text}; and plain words".encode())
        return type(self).made((), (), error)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_secret_in_a_servers_answer_is_in_no_outcome(text):
    from mlmm.alerting.notifier import Delivery

    Betrayer.made = Delivery
    note = Notification(notification_id="n", notifier="o", incident=incident("fraud"), created=START)
    stages = stages_of(
        Betrayer(text), Policy(), owned=lambda place: True, done=(), noted=lambda name: None,
        clock=lambda: START, jitter=lambda: 0.0,
    )  # fmt: skip
    outcome = walk(stages, Job(note, [(0, 1, 0)], TO)).outcome
    assert outcome.state == "failed"
    assert "hunter2" not in outcome.error
    assert "plain words" not in outcome.error
    assert json.loads(msgspec.json.encode(outcome))["error"].startswith("550 ")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_terminal_gets_nothing_to_obey(attack):
    line = plain(f"{attack} ")
    assert line.isprintable()
    line.encode()
