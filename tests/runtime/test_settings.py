"""Settings: where values come from, and what is said about wrong ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlmm.runtime.settings import (
    Notifier,
    Rule,
    Secret,
    Settings,
    SettingsError,
    load,
    override,
)
from mlmm.runtime.settings.reference import reference


def problems(**given) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**{"env": {}, **given})
    return str(caught.value)


def toml(folder: Path, text: str) -> Path:
    path = folder / "mlmm.toml"
    path.write_text(text)
    return path


def test_defaults_need_neither_file_nor_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(env={}) == Settings()


def test_arguments_beat_environment_beats_file_beats_defaults(tmp_path):
    path = toml(tmp_path, "[worker]\npoll_records = 1\noutbox_limit = 1\nworkers = 1\n")
    env = {"MLMM_WORKER__OUTBOX_LIMIT": "2", "MLMM_WORKER__WORKERS": "2"}
    settings = load(path, env, {"worker.workers": 3})
    assert (settings.worker.poll_records, settings.worker.outbox_limit, settings.worker.workers) == (1, 2, 3)
    assert settings.worker.tick_interval == Settings().worker.tick_interval
    origins = [settings.origin(f"worker.{key}") for key in ("poll_records", "outbox_limit", "workers", "tick_interval")]
    assert origins == [str(path), "MLMM_WORKER__OUTBOX_LIMIT", "argument", "default"]


def test_the_file_is_the_one_named_else_mlmm_config_else_the_one_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toml(tmp_path, 'deployment = "here"')
    named, pointed = tmp_path / "named.toml", tmp_path / "pointed.toml"
    named.write_text('deployment = "named"')
    pointed.write_text('deployment = "pointed"')
    env = {"MLMM_CONFIG": str(pointed)}
    assert [load(named, env).deployment, load(env=env).deployment, load(env={}).deployment] == [
        "named",
        "pointed",
        "here",
    ]


def test_a_file_that_is_named_must_be_there(tmp_path):
    assert "absent.toml: can't be read" in problems(config=tmp_path / "absent.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    assert "mlmm.toml: is no valid TOML" in problems(config=toml(tmp_path, "[kafka\n"))


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("MLMM_KAFKA__PARTITIONS", "6", "kafka.partitions", 6),
        ("MLMM_KAFKA__SSL_CHECK_HOSTNAME", "false", "kafka.ssl_check_hostname", False),
        ("MLMM_EMITTER__MAX_BYTES", "1MiB", "emitter.max_bytes", 1048576),
        ("MLMM_EMITTER__LINGER", "250ms", "emitter.linger", 0.25),
        ("MLMM_SERVING__WINDOWS", "5m,1m", "serving.windows", (60.0, 300.0)),
        ("MLMM_SERVING__WINDOWS", '["10m", 60]', "serving.windows", (60.0, 600.0)),
        ("MLMM_SERVING__DETECTORS__ADWIN_DELTA", "0.01", "serving.detectors.adwin_delta", 0.01),
        ("MLMM_SERVING__DETECTORS__SERIES", "error", "serving.detectors.series", ("error",)),
        ("MLMM__TOPIC_PREFIX", "acme", "topic_prefix", "acme"),
    ],
)
def test_environment_values_are_read_as_their_type(variable, text, path, value):
    found = load(env={variable: text})
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


def test_variables_without_a_double_underscore_are_not_settings():
    assert load(env={"MLMM_MODE": "off", "MLMM_TEST_KAFKA": "x"}) == Settings()


def test_a_notifier_keeps_its_case_when_the_environment_changes_it(tmp_path):
    path = toml(tmp_path, '[notifiers.On_Call]\nkind = "email"\nto = ["a@example.org"]\n')
    settings = load(path, {"MLMM_NOTIFIERS__ON_CALL__TO": "b@example.org,c@example.org"})
    assert settings.notifiers == {"On_Call": Notifier(kind="email", to=["b@example.org", "c@example.org"])}


def test_lists_of_tables_come_from_the_environment_as_json():
    rules = [{"name": "slow", "model": "*", "metric": "latency_p95", "above": 0.5}]
    assert load(env={"MLMM__RULES": json.dumps(rules)}).rules[0].above == 0.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[kafka]\npartitons = 3", "kafka.partitons: there is no such key (did you mean 'partitions'?)"),
        ("[kafk]\npartitions = 3", "kafk: there is no such key (did you mean 'kafka'?)"),
        ("kafka = 3", "kafka: expected a table of keys"),
        ("[deployment]\na = 1", "deployment: expected a value, not a table"),
        ("[kafka]\npartitions = 0", "kafka.partitions: 0: expected int >= 1"),
        ('[kafka]\npartitions = "three"', "kafka.partitions: 'three': expected int, got str"),
        ('[kafka]\nbootstrap_servers = "localhost"', "kafka.bootstrap_servers: 'localhost': expected host:port"),
        ('[kafka]\nsecurity_protocol = "SSLL"', "kafka.security_protocol: 'SSLL': expected one of"),
        ('[kafka]\nsecurity_protocol = "SASL_SSL"', "kafka.sasl_password: is needed"),
        ('[kafka]\nssl_cafile = "ca.pem"', "kafka.ssl_cafile: is not used"),
        ('[kafka]\nheartbeat_interval = "9s"', "kafka.heartbeat_interval: expected at most a third"),
        ('[redis]\nurl = "http://x"', "redis.url: 'http://x': expected"),
        ('[redis]\nurl = "redis://x:port/0"', "redis.url: 'redis://x:port/0': expected"),
        ('[redis]\nurl = "redis://x/0?db=3"', "redis.url: 'redis://x/0?********': options have their own keys"),
        ('[redis]\ntimeout = "5 parsecs"', "redis.timeout: '5 parsecs': expected a duration"),
        ("[redis]\ntimeout = -1", "redis.timeout: -1: expected a duration"),
        ("[worker]\ntick_interval = 0", "worker.tick_interval: 0.0: expected float > 0"),
        ('[serving]\nwindows = "1m"', "serving.windows: '1m': expected array, got str"),
        ("[serving]\nwindows = []", "serving.windows: expected at least one"),
        ("[smtp]\nstarttls = true\nssl = true", "smtp.starttls: expected only one"),
        ('[smtp]\nhost = "mail"\nusername = "u"\npassword = "p"', "smtp.starttls: a password would travel in clear"),
        ('[[alerting.keys]]\nid = "a"\nsecret = "short"', "alerting.keys[0].secret: expected at least 16"),
        ('[alerting]\ncommand_lifetime = "2d"', "alerting.command_lifetime: expected at most 24h"),
        ('[notifiers.x]\nkind = "email"', "notifiers.x.to: is needed"),
        ('[notifiers.x]\nkind = "email"\nto = []', "notifiers.x.to: []: expected"),
        ('[notifiers.x]\nkind = "fax"\nto = ["a@b"]', "notifiers.x.kind: 'fax': expected one of \"email\""),
    ],
)
def test_a_wrong_setting_names_file_key_value_and_what_is_allowed(tmp_path, text, told):
    path = toml(tmp_path, text)
    assert f"{path}: {told}" in problems(config=path)


def test_all_problems_are_told_at_once(tmp_path):
    path = toml(tmp_path, "[kafka]\npartitions = 0\n[worker]\nworkers = 0\n")
    told = problems(config=path, env={"MLMM_SMTP__PORT": "70000"})
    assert [line.split(": ")[1] for line in told.splitlines()] == ["kafka.partitions", "worker.workers", "smtp.port"]
    assert told.splitlines()[2].startswith("MLMM_SMTP__PORT: smtp.port: '70000'")


def test_a_process_reads_only_the_sections_that_it_uses(tmp_path):
    path = toml(tmp_path, '[kafka]\nbootstrap_servers = "b:9092"\n[[rules]]\nname = "broken"\n')
    assert load(path, {}, sections=("kafka", "emitter")).kafka.servers == ["b:9092"]


def test_windows_that_rules_name_are_reported():
    rule = Rule(name="a", model="m", metric="accuracy", below=0.9, window="10m")
    assert Settings(rules=[rule]).serving.windows == (60.0, 600.0)


def test_override_keeps_the_rest_and_remembers_origins(tmp_path):
    settings = load(toml(tmp_path, "[kafka]\npartitions = 7\n"), {})
    changed = override(settings, {"kafka.bootstrap_servers": "127.0.0.1:1", "serving.detectors.adwin": False})
    assert (changed.kafka.partitions, changed.kafka.servers) == (7, ["127.0.0.1:1"])
    assert not changed.serving.detectors.adwin
    assert changed.origin("kafka.bootstrap_servers") == "argument"
    assert changed.origin("kafka.partitions") == settings.origin("kafka.partitions")
    with pytest.raises(SettingsError, match=r"argument: kafka\.partitions: 0"):
        override(settings, {"kafka.partitions": 0})


def test_kafka_that_is_needed_and_not_configured_says_what_to_set():
    with pytest.raises(SettingsError, match="MLMM_KAFKA__BOOTSTRAP_SERVERS"):
        Settings().require_kafka()


def test_keys_are_kept_for_verification_and_one_signs():
    keys = [{"id": "old", "secret": "o" * 16}, {"id": "new", "secret": Secret("n" * 16), "active": True}]
    alerting = load(env={}, arguments={"alerting.keys": keys}).alerting
    assert alerting.signing_key.id == "new"
    assert alerting.verification_keys == {"old": b"o" * 16, "new": b"n" * 16}


def test_rows_show_every_setting_as_it_would_stand_in_the_file(tmp_path):
    path = toml(tmp_path, '[notifiers.n]\nkind = "email"\nto = ["a@b", "c@d"]\n[redis]\ntimeout = 1.5\n')
    rows = {key: (value, origin) for key, value, origin in load(path, {}).rows()}
    assert rows["redis.timeout"] == ("1500ms", str(path))
    assert rows["kafka.retention"] == ("7d", "default")
    assert rows["emitter.max_bytes"] == ("64MiB", "default")
    assert rows["notifiers.n.to"] == ("a@b, c@d", str(path))


def test_the_page_about_settings_is_what_the_code_says():
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text() == reference(), "python -m mlmm.runtime.settings.reference > docs/settings.md"


def test_importing_settings_loads_neither_kafka_nor_redis_nor_numpy():
    code = "import sys, mlmm.runtime.settings as s; s.load(env={}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
    assert {name.split(".")[0] for name in loaded.split()}.isdisjoint({"kafka", "redis", "numpy", "aiokafka", "ssl"})
