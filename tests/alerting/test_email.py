"""E-mail over real SMTP: TLS, logon, refusals, and no secret in what is said of them."""

import logging
import ssl

import pytest

from mlmm.alerting.notifier import Delivery
from mlmm.alerting.notifier.email import EmailNotifier
from mlmm.runtime.settings import Secret, SmtpSettings
from tests.alerting.mailbox import PASSWORD, USER, certificate, smtp_server
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.services import free_port

TO = ("one@example.org", "two@example.org", "three@example.org")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def notification():
    story = Story(settings(accuracy_rule()))
    story.tell(report(0, 0.8))
    return story.of("notifications")[0]


def notifier(port, files=None, **fields):
    smtp = SmtpSettings(host="localhost", port=port, timeout="5s", **fields)
    if files is None:
        return EmailNotifier(smtp, TO)
    return EmailNotifier(smtp, TO, context=lambda: ssl.create_default_context(cafile=str(files[0])))


def send(sender, notification, recipients=TO):
    return sender.deliver(sender.render(notification), recipients)


def test_one_mail_goes_to_all(notification):
    with smtp_server() as (box, port):
        assert send(notifier(port), notification) == Delivery(TO, (), "")
        assert box.envelopes == [TO]
        assert box.mails[0]["To"] == ", ".join(TO)
        assert box.mails[0]["Subject"].startswith("[firing] fraud: accuracy fell")


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "ssl"])
def test_tls_and_logon(notification, files, implicit):
    with smtp_server(files, implicit=implicit) as (box, port):
        sender = notifier(port, files, ssl=implicit, starttls=not implicit, username=USER, password=Secret(PASSWORD))
        assert send(sender, notification).delivered == TO
        assert box.logons == [True]


def test_a_wrong_password_is_recoverable_and_never_shown(notification, files, caplog):
    wrong = "hunter2 and more"
    caplog.set_level(logging.DEBUG)
    with smtp_server(files) as (_, port):
        tried = send(notifier(port, files, starttls=True, username=USER, password=Secret(wrong)), notification)
    assert tried.delivered == ()
    assert tried.again == TO
    assert "535" in tried.error
    assert wrong not in tried.error + caplog.text + repr(notifier(port).__dict__)


def test_a_server_that_repeats_the_password_is_masked():
    sender = notifier(25, username=USER, password=Secret(PASSWORD))
    assert PASSWORD not in sender._said(535, f"bad password {PASSWORD}".encode())
    assert "********" in sender._said(535, f"bad password {PASSWORD}".encode())


def test_a_certificate_that_nobody_vouches_for_is_refused(notification, files):
    with smtp_server(files) as (box, port):
        tried = send(notifier(port, starttls=True), notification)
    assert "CERTIFICATE_VERIFY_FAILED" in tried.error
    assert tried.again == TO
    assert box.mails == []


def test_starttls_that_is_wanted_and_absent_sends_nothing_in_clear(notification):
    with smtp_server() as (box, port):
        tried = send(notifier(port, starttls=True, username=USER, password=Secret(PASSWORD)), notification)
    assert "STARTTLS" in tried.error
    assert box.mails == []


def test_an_absent_server_is_recoverable(notification):
    tried = send(notifier(free_port()), notification)
    assert tried.again == TO
    assert "refused" in tried.error


def test_what_can_be_delivered_is_and_each_refusal_is_told(notification):
    with smtp_server() as (box, port):
        box.refusals = {TO[1]: ["450 greylisted, come back"], TO[2]: ["550 no such user"]}
        tried = send(notifier(port), notification)
        assert tried.delivered == TO[:1]
        assert tried.again == TO[1:2]
        assert tried.error == f"{TO[1]}: 450 greylisted, come back; {TO[2]}: 550 no such user"
        assert send(notifier(port), notification, tried.again).delivered == TO[1:2]
        assert box.envelopes == [TO[:1], TO[1:2]]


@pytest.mark.parametrize(("answer", "again"), [("451 try later", TO), ("554 never", ())])
def test_a_refused_mail_is_tried_again_only_when_it_may_help(notification, answer, again):
    with smtp_server() as (box, port):
        box.data_answers = [answer]
        assert send(notifier(port), notification) == Delivery((), again, answer)


@pytest.mark.parametrize(("answer", "again"), [("450 later", TO), ("550 no", ())])
def test_all_recipients_refused(notification, answer, again):
    with smtp_server() as (box, port):
        box.refusals = {each: [answer] for each in TO}
        assert send(notifier(port), notification).again == again


def test_a_server_that_does_not_say_goodbye_has_the_mail(notification):
    with smtp_server() as (box, port):
        box.quit_answer = "421 too busy to say goodbye"
        assert send(notifier(port), notification) == Delivery(TO, (), "")
        assert box.envelopes == [TO]


def test_a_refusal_for_good_stays_one_when_the_server_does_not_say_goodbye(notification):
    with smtp_server() as (box, port):
        box.data_answers, box.quit_answer = ["554 never"], "421 too busy to say goodbye"
        assert send(notifier(port), notification) == Delivery((), (), "554 never")
