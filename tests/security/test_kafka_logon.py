"""TLS and SASL to a real Kafka: every client gets in, and what keeps one out is told, with place and remedy."""

import pytest

from mlmm.console.cli import main
from mlmm.runtime.connections import kafka_admin, kafka_consumer, kafka_producer
from mlmm.runtime.errors import ServiceUnavailable
from mlmm.runtime.settings import load

pytestmark = pytest.mark.integration

MAKERS = (kafka_admin, kafka_consumer, kafka_producer)
WRONG = "hunter2-the-wrong-one"

# What is wrong → changes of the settings, what is said, and the key that is named.
FAULTS = {
    "wrong password": ({"kafka__sasl_password": WRONG}, "refused the logon", "sasl_password"),
    "wrong password, PLAIN": (
        {"kafka__sasl_password": WRONG, "kafka__sasl_mechanism": "PLAIN"},
        "refused the logon",
        "sasl_password",
    ),
    "unknown user": ({"kafka__sasl_username": "mallory"}, "refused the logon", "sasl_username"),
    "mechanism that is off": (
        {"kafka__sasl_mechanism": "SCRAM-SHA-256"},
        "takes no logon by SCRAM-SHA-256",
        "sasl_mechanism",
    ),
    "wrong authority": ({"kafka__ssl_cafile": "{stranger}"}, "certificate refused", "ssl_cafile"),
    "wrong name": (
        {"kafka__bootstrap_servers": "127.0.0.1:{secure_port}"},
        "not valid for '127.0.0.1'",
        "bootstrap_servers",
    ),
    "TLS to a plain port": ({"kafka__bootstrap_servers": "{plain}"}, "no handshake", "security_protocol"),
    "TLS to a server that says nothing": (
        {"kafka__bootstrap_servers": "{redis}"},
        "no handshake: it said nothing in time",
        "security_protocol",
    ),
}


def changes(secured, fault: str) -> dict[str, str]:
    places = {
        "stranger": secured.stranger.certificate,
        "secure_port": secured.kafka.secure_port,
        "plain": secured.kafka.address,
        "redis": f"localhost:{secured.redis.port}",
    }
    return {key: value.format(**places) for key, value in FAULTS[fault][0].items()} | {"kafka__connect_timeout": "4s"}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_password_over_tls_lets_each_client_in(secured, make, mechanism):
    make(secured.settings("admin", kafka__sasl_mechanism=mechanism)).close()


def test_a_certificate_of_ours_lets_a_client_in_and_its_key_may_be_encrypted(secured, tmp_path):
    pair = secured.kafka.authority.sign("client", password="the key's own")
    settings = load(
        env={},
        arguments={
            "kafka.bootstrap_servers": secured.kafka.mutual,
            "kafka.security_protocol": "SSL",
            "kafka.ssl_cafile": str(secured.authority.certificate),
            "kafka.ssl_certfile": str(pair.certificate),
            "kafka.ssl_keyfile": str(pair.key),
            "kafka.ssl_password": "the key's own",
        },
    )
    kafka_admin(settings).close()


def test_a_certificate_that_is_wanted_and_not_there_is_named(secured):
    settings = load(
        env={},
        arguments={
            "kafka.bootstrap_servers": secured.kafka.mutual,
            "kafka.security_protocol": "SSL",
            "kafka.ssl_cafile": str(secured.authority.certificate),
            "kafka.connect_timeout": "4s",
        },
    )
    with pytest.raises(ServiceUnavailable, match=r"alert.*ssl_certfile"):
        kafka_admin(settings)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_keeps_a_client_out_is_told_with_place_and_remedy_and_no_secret(secured, fault):
    _, said, key = FAULTS[fault]
    settings = secured.settings("admin", **changes(secured, fault))
    with pytest.raises(ServiceUnavailable) as caught:
        kafka_admin(settings)
    told = str(caught.value)
    assert told.startswith(f"Kafka at {settings.kafka.bootstrap_servers}: ")
    assert said in told
    assert key in caught.value.remedy
    assert settings.kafka.sasl_password.reveal() not in told


def test_a_plain_client_at_a_tls_port_is_told_to_look_at_its_protocol(secured):
    values = {"kafka.bootstrap_servers": secured.kafka.secure, "kafka.connect_timeout": "4s"}
    with pytest.raises(ServiceUnavailable, match="security_protocol must fit its listener"):
        kafka_producer(load(env={}, arguments=values))


@pytest.mark.parametrize(
    ("fault", "command"),
    [
        ("wrong authority", ["doctor"]),
        ("wrong password", ["topics", "create"]),
        ("wrong name", ["tail", "findings", "--no-follow"]),
    ],
)
def test_the_command_line_ends_with_3_and_says_why(secured, fault, command, monkeypatch, capsys):
    _, said, key = FAULTS[fault]
    given = {**secured.values("admin")}
    given |= {name.replace("__", "."): value for name, value in changes(secured, fault).items()}
    for name, value in given.items():
        monkeypatch.setenv(f"MLMM_{name.replace('.', '__').upper()}", value)
    assert main(command) == 3
    out = capsys.readouterr()
    shown = " ".join((out.out + out.err).split())
    assert said in shown
    assert key in shown
    assert given["kafka.sasl_password"] not in shown
    assert "Traceback" not in shown
