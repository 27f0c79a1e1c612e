"""docker-compose.yml, its image and its settings, held against the real command line and the real settings."""

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlmm.alerting import check_rules
from mlmm.console.cli import main
from mlmm.runtime.settings import Settings, load

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("mlmm:")}
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def settings_of(service: dict[str, Any]) -> Settings:
    """The settings that a service reads: its file is mounted where its variable says."""
    environment = {name: str(value) for name, value in service["environment"].items()}
    mounts = {target: ROOT / source for source, target, *_ in (each.split(":") for each in service["volumes"])}
    return load(mounts[environment.pop("MLMM_CONFIG")], env=environment)


def commands() -> list[list[str]]:
    checks = [service["healthcheck"]["test"][1:] for service in OURS.values() if "healthcheck" in service]
    return [*(service["command"] for service in OURS.values()), *checks]


def test_every_role_is_there() -> None:
    assert set(OURS) == {"topics", "worker", "alerting"}


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_are_of_the_real_command_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = command
    assert program in PROJECT["scripts"]
    assert main([*arguments, "--help"]) == 0
    assert f"Usage: {' '.join(part for part in command if not part.startswith('-') and not part.isdigit())}" in (
        capsys.readouterr().out
    )


def test_an_option_that_is_not_there_would_be_noticed() -> None:
    assert main(["worker", "--wrokers", "2", "--help"]) == 2


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings_and_reach_the_other_services(name: str) -> None:
    settings = settings_of(OURS[name])
    host, _, port = settings.kafka.bootstrap_servers.partition(":")
    assert f"INSIDE://{host}:{port}" in SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert re.fullmatch(r"redis://redis:6379/0", settings.redis.url)
    assert settings.smtp.host in SERVICES
    assert settings.smtp.port == 1025, "Mailpit's"


def test_the_rules_can_fire_and_tell_somebody() -> None:
    settings = settings_of(OURS["alerting"])
    assert [note.text for note in check_rules(settings) if note.level == "problem"] == []
    assert all(rule.notify for rule in settings.rules)


def test_nothing_listens_beyond_the_loopback_interface() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_whatever_runs_for_long_has_a_health_check_and_starts_again() -> None:
    for name, service in SERVICES.items():
        if name == "topics":
            assert service["restart"] == "no"
        else:
            assert "healthcheck" in service, name
            assert service["restart"] == "unless-stopped", name


def test_topics_are_made_by_our_command_alone_and_before_anyone_reads() -> None:
    """A topic made by accident would have the wrong timestamps and partitions."""
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    for name in ("worker", "alerting"):
        assert SERVICES[name]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_redis_keeps_its_state_and_never_evicts() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


@pytest.mark.parametrize("name", ["worker", "alerting"])
def test_a_container_is_given_the_time_to_end_in_good_order(name: str) -> None:
    grace = re.fullmatch(r"(\d+)s", SERVICES[name]["stop_grace_period"])
    assert grace
    assert int(grace[1]) > settings_of(OURS[name]).worker.stop_timeout


def test_the_image_installs_what_every_role_needs_on_a_python_that_we_support() -> None:
    extra = re.search(r"/src\[(\w+)\]", DOCKERFILE)
    assert extra
    assert extra[1] in PROJECT["optional-dependencies"]
    (python,) = set(re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE))
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


def test_the_image_warms_up_by_a_function_that_is_there_before_it_drops_its_rights() -> None:
    found = re.search(r"from (\S+) import (\w+); \2\(\)", DOCKERFILE)
    assert found
    assert callable(getattr(import_module(found[1]), found[2]))
    assert DOCKERFILE.index("warm_up()") < DOCKERFILE.index("USER mlmm")
