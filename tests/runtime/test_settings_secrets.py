"""A secret never shows itself: not in repr, not in rows, not in errors."""

import copy
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.runtime.settings import Secret, Settings, SettingsError, load, mask_url

SECRET_KEYS = ("kafka.ssl_password", "kafka.sasl_password", "redis.password", "smtp.password")
# Letters that no key, default or message holds in a row.
secrets = st.text("QXZ7#/@:?%", min_size=6, max_size=40).map(lambda text: f"QZX{text}XZQ")


def texts(settings: Settings) -> str:
    return f"{settings!r}{settings}{settings.rows()}{settings.redis!r}{settings.kafka}"


@given(secrets)
def test_a_secret_shows_itself_in_no_text(secret):
    value = Secret(secret)
    assert secret not in f"{value} {value!r} {value!s:>30} {[value]} {copy.deepcopy(value)!r}"
    assert value.reveal() == secret


@given(secrets)
def test_settings_with_secrets_never_show_them(secret):
    arguments = {
        **dict.fromkeys(SECRET_KEYS, secret),
        "kafka.security_protocol": "SASL_SSL",
        "kafka.sasl_mechanism": "PLAIN",
        "kafka.sasl_username": "u",
        "smtp.username": "u",
        "alerting.keys": [{"id": "k", "secret": secret * 2}],
    }
    settings = load(env={}, arguments=arguments)
    assert settings.redis.password.reveal() == secret
    assert secret not in texts(settings)


@given(secrets)
def test_a_secret_in_a_url_is_taken_out_of_it(secret):
    from urllib.parse import quote

    settings = load(env={"MLMM_REDIS__URL": f"redis://me:{quote(secret, safe='')}@host:6380/1"})
    assert (settings.redis.url, settings.redis.username) == ("redis://host:6380/1", "me")
    assert settings.redis.password.reveal() == secret
    assert secret not in texts(settings)


@given(
    secrets, st.sampled_from(["redis://{}@h:x/0", "redis://u:{}@h/0/1", "http://:{}@h", "redis:// {}@h?{}", "x//{}@"])
)
def test_errors_about_a_url_never_show_its_secret(secret, shape):
    with pytest.raises(SettingsError) as caught:
        load(env={}, arguments={"redis.url": shape.format(secret, secret), "kafka.partitions": 0})
    shown = "".join(traceback.format_exception(caught.value))
    assert secret not in shown
    assert "kafka.partitions" in shown


@given(secrets)
def test_errors_about_secrets_never_show_them(secret):
    keys = [{"id": "k", "secret": secret, "activ": True}, {"id": "k", "secret": [secret]}, secret]
    env = {"MLMM_REDIS__PASWORD": secret, "MLMM_SMTP__PASSWORD": secret}
    with pytest.raises(SettingsError) as caught:
        load(env=env, arguments={"alerting.keys": keys, "kafka": {"sasl_password": {"x": secret}, "ssl_password": 7}})
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert len(caught.value.problems) >= 5


@given(secrets)
def test_broken_json_with_secrets_is_not_shown(secret):
    with pytest.raises(SettingsError) as caught:
        load(env={"MLMM_ALERTING__KEYS": f'[{{"id": "k", "secret": "{secret}"'})
    assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://u:p@h/0", "redis://********@h/0"),
        ("redis://u:a@b/c@h/0", "redis://********@h/0"),
        ("redis://h/0?password=p", "redis://h/0?********"),
        ("u:p@h", "********"),
    ],
)
def test_a_masked_url_keeps_what_helps(url, shown):
    assert mask_url(url) == shown


def test_secrets_come_from_files_without_the_newline_at_their_end(tmp_path: Path):
    (tmp_path / "redis").write_text("from file\n")
    (tmp_path / "mlmm.toml").write_text('[redis]\npassword_file = "redis"\n')
    settings = load(tmp_path / "mlmm.toml", {})
    assert settings.redis.password == Secret("from file")
    assert str(tmp_path / "redis") in settings.origin("redis.password")


def test_a_secret_of_a_higher_layer_replaces_the_file_of_a_lower_one_and_back(tmp_path: Path):
    (tmp_path / "secret").write_text("from file")
    config = tmp_path / "mlmm.toml"
    config.write_text('[redis]\npassword_file = "absent"\n')
    assert load(config, {"MLMM_REDIS__PASSWORD": "plain"}).redis.password == Secret("plain")
    config.write_text('[redis]\npassword = "plain"\n')
    env = {"MLMM_REDIS__PASSWORD_FILE": str(tmp_path / "secret")}
    assert load(config, env).redis.password == Secret("from file")


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path):
    config = tmp_path / "mlmm.toml"
    config.write_text('[redis]\npassword = "a"\npassword_file = "b"\n')
    with pytest.raises(SettingsError, match=r"redis.password_file: expected only one of password and password_file"):
        load(config, {})


def test_a_secret_file_that_is_absent_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"redis\.password_file: .*absent' can't be read: No such file"):
        load(env={"MLMM_REDIS__PASSWORD_FILE": str(tmp_path / "absent")})


def test_a_secret_is_never_pickled():
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(Secret("x"))


def test_equal_settings_hash_alike_with_their_secrets():
    one, two = (load(env={"MLMM_REDIS__PASSWORD": "x"}).redis for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != Settings().redis
