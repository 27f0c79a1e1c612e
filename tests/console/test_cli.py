"""The command line in this process: help, exit codes, messages. Nothing here reaches a service that answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlmm.console.cli import main

COMMANDS = [
    tuple(line.split())
    for line in ("", "demo", "worker", "alerting", "replay", "topics", "topics create", "topics check", "tail", "stop",
                 "labels", "labels send", "doctor", "config", "config show", "rules", "rules check",
                 "dead-letters", "dead-letters list", "dead-letters show", "dead-letters retry")
]  # fmt: skip
WITH_EXAMPLES = [
    "worker",
    "replay",
    "tail",
    "stop",
    "labels send",
    "topics create",
    "demo",
    "dead-letters list",
    "dead-letters show",
    "dead-letters retry",
]
NOBODY = "localhost:1"
"""A port on which nobody listens."""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings file, no variables, a wide terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLMM_CONFIG", "MLMM_KAFKA__BOOTSTRAP_SERVERS", "MLMM_REDIS__URL", "MLMM_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MLMM_KAFKA__CONNECT_TIMEOUT", "300ms")
    return tmp_path


def settings(folder: Path, text: str) -> str:
    (folder / "other.toml").write_text(text)
    return str(folder / "other.toml")


def apart(arguments: list[str], variables: dict[str, str]) -> tuple[int, str, str]:
    """Run in a process of its own: kafka-python leaves a socket open where no broker answers."""
    command = [sys.executable, "-m", "mlmm.console", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, text=True, env={**os.environ, **variables})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_shown_without_traces_of_markup(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: mlmm" in shown
    assert not re.search(r"\[/?(bold|dim)\]|from \.|in \.$", shown)


@pytest.mark.parametrize("command", WITH_EXAMPLES)
def test_help_teaches_by_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*command.split(), "--help"])
    assert re.search(rf"^\s+(\w+=\S+ )*mlmm {command}\b", capsys.readouterr().out, re.MULTILINE)


GROUPS = ("topics", "labels", "config", "rules", "dead-letters")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c and c[-1] not in GROUPS])
def test_every_command_takes_json(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    main([*command, "--help"])
    assert "--json" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"mlmm \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command"),
        (["tali"], "Did you mean 'tail'"),
        (["tail", "everything"], "one of serving, training"),
        (["topics", "check"], "kafka.bootstrap_servers"),
        (["stop", "run-1", "--reason", "x"], "kafka.bootstrap_servers"),
        (["worker"], "kafka.bootstrap_servers"),
        (["alerting"], "kafka.bootstrap_servers"),
        (["stop", "run-1"], "--reason"),
        (["replay", "missing.jsonl", "-o", "x"], "does not exist"),
        (["config", "show", "--config", "missing.toml"], "missing.toml"),
    ],
)
def test_usage_and_settings_exit_with_2_and_say_why(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    heard = capsys.readouterr()
    assert said in " ".join(heard.err.split())
    assert "Traceback" not in heard.err
    assert not heard.out


def test_a_wrong_setting_names_file_key_and_what_is_allowed(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings(bare, "[kafka]\npartitions = 0\nbootstrap = 'x:1'\n")
    assert main(["doctor", "--config", file]) == 2
    said = capsys.readouterr().err
    assert file in said
    assert "kafka.partitions" in said
    assert "bootstrap_servers" in said


@pytest.mark.parametrize(
    "command", ["topics create", "topics check", "tail findings", "stop run-1 --reason x", "doctor"]
)
def test_a_broker_that_is_away_exits_with_3_and_says_where_and_what_to_do(command: str) -> None:
    services = {"MLMM_KAFKA__BOOTSTRAP_SERVERS": NOBODY, "MLMM_REDIS__URL": f"redis://{NOBODY}/0"}
    code, out, err = apart(command.split(), services)
    assert code == 3
    assert NOBODY in out + err
    assert "MLMM_KAFKA__BOOTSTRAP_SERVERS" in out + err
    assert "Traceback" not in err


def test_doctor_looks_at_everything_and_says_it_in_json(bare: Path) -> None:
    """One service away does not hide another."""
    file = settings(
        bare,
        f"""
        kafka.bootstrap_servers = "{NOBODY}"
        redis.url = "redis://:secret-word@{NOBODY}/0"
        smtp = {{ host = "localhost", port = 1 }}
        notifiers.a = {{ kind = "email", to = ["a@example.org"] }}
        """,
    )
    code, out, err = apart(["doctor", "--config", file, "--json"], {})
    assert code == 3
    rows = {row["what"]: row for row in map(json.loads, out.splitlines())}
    assert [rows[what]["state"] for what in ("Kafka", "Redis", "SMTP")] == ["unreachable"] * 3
    assert all(rows[what]["remedy"] for what in ("Kafka", "Redis", "SMTP"))
    assert rows["rules"]["state"] == "fine"
    assert "secret-word" not in out + err


def test_config_shows_origins_and_masks_secrets(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLMM_REDIS__PASSWORD", "secret-word")
    file = settings(bare, 'deployment = "blue"\n')
    assert main(["config", "show", "--config", file, "--json"]) == 0
    shown = capsys.readouterr().out
    rows = {row["key"]: row for row in map(json.loads, shown.splitlines())}
    assert rows["deployment"]["value"] == "blue"
    assert file in rows["deployment"]["origin"]
    assert rows["redis.password"]["origin"] == "MLMM_REDIS__PASSWORD"
    assert "secret-word" not in shown
    assert main(["config", "show", "--config", file]) == 0
    assert "secret-word" not in capsys.readouterr().out


def test_rules_check_fails_where_a_rule_can_never_fire(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = settings(bare, '[[rules]]\nname = "a"\nmodel = "m"\nmetric = "acuracy"\nbelow = 0.9\n')
    assert main(["rules", "check", "--config", wrong, "--json"]) == 1
    (row, *_) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["rule"] == "a"
    assert "accuracy" in row["text"]
    right = settings(bare, '[[rules]]\nname = "a"\nmodel = "m"\nmetric = "accuracy"\nbelow = 0.9\nmin_count = 50\n')
    assert main(["rules", "check", "--config", right]) == 0
    assert "1 rules, no problems" in capsys.readouterr().err


def test_a_demo_never_writes_over_what_it_did_not_make(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bare / "mine").mkdir()
    (bare / "mine" / "thesis.txt").write_text("years of work")
    assert main(["demo", "--out", "mine"]) == 2
    assert "was not made by the demo" in capsys.readouterr().err
    assert (bare / "mine" / "thesis.txt").read_text() == "years of work"


def test_help_loads_nothing_heavy() -> None:
    """``mlmm --help`` answers at once: what a command needs is imported when it runs."""
    heavy = "{'kafka', 'numpy', 'pandas', 'numba', 'faust', 'redis', 'sklearn', 'aiokafka'}"
    script = f"import sys, mlmm.console.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_running_the_module_is_running_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlmm.console", "--version"], capture_output=True, check=True, text=True
    )
    assert done.stdout.startswith("mlmm ")
