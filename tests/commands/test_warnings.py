"""Without a key that signs, each program says so once, loudly, when it starts."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from mlmm.console.commands import alerting, worker
from mlmm.producers import modes
from mlmm.producers.modes import KafkaOutlet
from mlmm.runtime.settings import AlertingSettings, KafkaSettings, Settings, SigningKey
from tests.commands.world import BOTH, NEW, key_of

GONE = datetime(2020, 1, 1, tzinfo=UTC)
Keys = tuple[SigningKey, ...]


def settings_with(keys: Keys) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"), alerting=AlertingSettings(keys=keys))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Warnings of ours, whatever a program does to the loggers when it starts."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep(logging.WARNING)
    monkeypatch.setattr("mlmm.runtime.logs.configure", lambda **_: None)
    names = ("worker", "alerting", "mlmm.producers")
    from mlmm.runtime import logs

    loggers = [logs.get(name) for name in names[:2]] + [logging.getLogger(names[2])]
    for logger in loggers:
        logger.addHandler(handler)
    yield lines
    for logger in loggers:
        logger.removeHandler(handler)


CASES: list[tuple[Keys, str]] = [
    ((), "whoever may write to the commands topic can stop any run"),
    ((key_of(NEW),), "trainers with these keys refuse them: set active = true"),
    (BOTH, ""),
]


@pytest.mark.parametrize("program", [worker.worker, alerting.alerting], ids=["worker", "alerting"])
@pytest.mark.parametrize(("keys", "told"), CASES, ids=["no key", "none active", "signed"])
def test_worker_and_alerting(
    monkeypatch: pytest.MonkeyPatch, said: list[str], program: Callable[..., Any], keys: Keys, told: str
) -> None:
    module = worker if program is worker.worker else alerting
    monkeypatch.setattr(module, "load_settings", lambda _config: settings_with(keys))
    monkeypatch.setattr(module, "supervise_slots", lambda *_, **__: 0)
    with pytest.raises(typer.Exit):
        program(**({"workers": 3} if module is worker else {}))
    assert len(said) == bool(told)
    assert all(told in line for line in said)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ((), "whoever may write to mlmm.commands can stop this run"),
        ((key_of(NEW, accepted_until=GONE),), "no stop command will be obeyed"),
        ((key_of(NEW),), ""),
        ((*BOTH,), ""),
    ],
    ids=["no key", "all retired", "one that is accepted", "two"],
)
def test_trainer(monkeypatch: pytest.MonkeyPatch, said: list[str], keys: Keys, told: str) -> None:
    monkeypatch.setattr(modes, "_warned_unsigned", False)
    monkeypatch.setattr(modes.CommandReader, "start", lambda _reader: None)
    monkeypatch.setattr(modes, "emitter_for", lambda _settings: type("E", (), {"intake": None})())
    outlet = KafkaOutlet(settings_with(keys))
    for _ in range(3):  # a process may have many runs: one warning for all
        outlet.read_commands(lambda *_: None)
    assert len(said) == bool(told)
    assert all(told in line for line in said)
