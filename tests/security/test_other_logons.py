"""TLS and passwords to Redis and to a mail server, the emitter that is kept out, and workers that are."""

import os
import subprocess
import sys

import msgspec
import pytest

from mlmm.alerting.notifier._kinds import make
from mlmm.console.cli import main
from mlmm.producers import Monitor
from mlmm.runtime.connections import redis_client, redis_errors
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import Notifier, RedisSettings, Settings, SmtpSettings
from tests.alerting.mailbox import PASSWORD, USER, smtp_server
from tests.alerting.stories import Story, accuracy_rule, report, settings
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

SECRET = "hush-redis-reader-Wm3"
WRONG = "hunter2-the-wrong-one"
TO = ("on-call@example.org",)


@pytest.fixture(scope="module")
def reader(secured):
    """Make a user that may say PING and nothing else; return its settings."""
    import redis

    client = redis.Redis.from_url(secured.redis.url)
    client.execute_command("ACL", "SETUSER", "reader", "reset", "on", f">{SECRET}", "+ping", "+hello")
    client.close()
    return {
        "url": f"rediss://{secured.redis.secure}/0",
        "username": "reader",
        "password": SECRET,
        "ssl_cafile": str(secured.authority.certificate),
        "timeout": "4s",
    }


def ask(given: dict[str, str], *command: str) -> object:
    redis = RedisSettings(**given)
    client = redis_client(Settings(redis=redis))
    try:
        with redis_errors(redis):
            return client.execute_command(*command)
    finally:
        client.close()


def test_a_password_over_tls_lets_into_redis(reader):
    assert ask(reader, "PING")


@pytest.mark.parametrize(
    ("changes", "said", "remedy"),
    [
        ({"password": WRONG}, "it refused the logon", "password in [redis]"),
        ({"username": "mallory"}, "it refused the logon", "username"),
        ({"ssl_cafile": "{stranger}"}, "CERTIFICATE_VERIFY_FAILED", "ssl_cafile"),
        ({"url": "rediss://127.0.0.1:{secure}/0"}, "not valid for '127.0.0.1'", "name it as that does"),
        ({"url": "rediss://localhost:{plain}/0"}, "", "begins with rediss://"),
        ({"url": "redis://localhost:{secure}/0", "ssl_cafile": ""}, "", "begins with rediss://"),
    ],
)
def test_what_keeps_out_of_redis_is_told_with_place_and_remedy_and_no_secret(secured, reader, changes, said, remedy):
    places = {
        "stranger": secured.stranger.certificate, "secure": secured.redis.secure_port, "plain": secured.redis.port,
    }  # fmt: skip
    given = {**reader, **{key: value.format(**places) for key, value in changes.items()}}
    with pytest.raises(ServiceUnavailable) as caught:
        ask(given, "PING")
    told = str(caught.value)
    assert told.startswith(f"Redis at {given['url']}: ")
    assert said in told
    assert remedy in caught.value.remedy
    assert given["password"] not in told


def test_a_command_that_a_user_may_not_give_is_told_as_a_missing_right(reader):
    with pytest.raises(ServiceUnavailable, match=r"does not allow this user to do this.*mlmm acls"):
        ask(reader, "HGET", "{mlmm:serving:0}:meta", "offset")


def test_a_worker_without_its_rights_ends_with_3_and_says_which(secured, reader, tmp_path):
    """Not even INFO is allowed: the first thing that a worker asks."""
    values = {**secured.values("admin"), **{f"redis.{key}": value for key, value in reader.items()}}
    given = {f"MLMM_{key.replace('.', '__').upper()}": str(value) for key, value in values.items()}
    others = {name: value for name, value in os.environ.items() if not name.startswith("MLMM_")}
    line = [sys.executable, "-m", "mlmm.console", "alerting", "--slot", "0", "--name", "x"]
    done = subprocess.run(
        line, env=others | given, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "does not allow this user to do this" in done.stderr
    assert "info" in done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
    assert secured.kafka.users["admin"] not in done.stderr


def test_an_emitter_that_is_kept_out_drops_and_counts_and_says_why(secured):
    """The log calls return, memory keeps to its bound, and the reason stands in the counts."""
    given = secured.settings("serving", kafka__sasl_password=WRONG, emitter__max_events=20)
    monitor = Monitor("fraud", settings=given)
    for number in range(100):
        monitor.log_prediction(f"p{number}", {"amount": 1.0}, output=1.0)
    said = "it refused the logon"  # the first attempt may fail for another reason: a slow broker, say
    wait_until(lambda: said in (monitor.stats().last_error or ""), timeout=120, what="the reason")
    monitor.close(1.0)
    stats = monitor.stats()
    assert WRONG not in stats.last_error
    assert stats.sent == 0
    assert stats.dropped["queue_full"] >= 80
    assert sum(stats.dropped.values()) + stats.queued_events == 100


def notification():
    story = Story(settings(accuracy_rule()))
    story.tell(report(0, 0.8))
    (note,) = story.of("notifications")
    return msgspec.structs.replace(note, notifier="on_call")


def smtp(secured, port: int, **changes: object) -> Settings:
    given = {
        "host": "localhost", "port": port, "starttls": True, "username": USER, "password": PASSWORD,
        "ssl_cafile": str(secured.authority.certificate), "timeout": "10s",
    }  # fmt: skip
    made = SmtpSettings(**{**given, **changes})
    return Settings(smtp=made, notifiers={"on_call": Notifier(kind="email", to=TO)})


def deliver(given: Settings):
    notifier = make(given)["on_call"]
    return notifier.deliver(notifier.render(notification()), TO)


@pytest.mark.parametrize("implicit", [False, True])
def test_mail_goes_over_tls_of_an_authority_of_ones_own_with_a_logon(secured, implicit):
    with smtp_server(tuple(secured.authority.sign("mail", "localhost")), implicit=implicit) as (box, port):
        given = smtp(secured, port, starttls=not implicit, ssl=implicit)
        assert deliver(given).delivered == TO
        assert box.logons == [True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": WRONG}, "535"),
        ({"ssl_cafile": "{stranger}"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"host": "127.0.0.1"}, "not valid for '127.0.0.1'"),
        ({"starttls": False, "ssl": True, "timeout": "4s"}, ""),
    ],
)
def test_what_keeps_out_of_a_mail_server_is_told_and_no_secret(secured, changes, said, monkeypatch, capsys):
    """By the notifier, for whom another try may help, and by the doctor."""
    changes = {
        key: value.format(stranger=secured.stranger.certificate) if isinstance(value, str) else value
        for key, value in changes.items()
    }
    with smtp_server(tuple(secured.authority.sign("mail", "localhost"))) as (box, port):
        given = smtp(secured, port, **changes)
        result = deliver(given)
        assert (result.delivered, result.again) == ((), TO)
        assert result.error
        assert said in result.error
        from mlmm.console.health import _guarded, _smtp

        (finding,) = _guarded("SMTP", _smtp, given)
        assert finding.state in ("wrong", "unreachable")
        assert f"{given.smtp.host}:{port}" in finding.details
        assert not box.mails
    for secret in (PASSWORD, WRONG):
        assert secret not in f"{result.error} {finding}"


def test_a_certificate_file_that_is_not_there_is_named_at_the_start(secured, capsys, monkeypatch):
    for name, value in {"SSL_CAFILE": "/absent.pem", "STARTTLS": "true"}.items():
        monkeypatch.setenv(f"MLMM_SMTP__{name}", value)
    monkeypatch.setenv("MLMM_NOTIFIERS__ON_CALL__KIND", "email")
    monkeypatch.setenv("MLMM_NOTIFIERS__ON_CALL__TO", "a@example.org")
    monkeypatch.setenv("MLMM_KAFKA__BOOTSTRAP_SERVERS", secured.kafka.address)
    assert main(["alerting", "--slot", "1"]) == 2
    assert "smtp.ssl_cafile: '/absent.pem' can't be used" in " ".join(capsys.readouterr().err.split())
