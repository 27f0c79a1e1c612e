"""Emitters on a fake broker."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlmm.producers import Emitter, Monitor, modes
from tests.producers.fakes import FakeBroker, settings


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def emitter_with(broker: FakeBroker) -> Iterator[Callable[..., Emitter]]:
    made: list[Emitter] = []

    def make(**values: Any) -> Emitter:
        made.append(Emitter(settings(**values), connect=broker.connect))
        return made[-1]

    yield make
    broker.hold = broker.away = False
    broker.refuse = lambda _value: None
    broker.release()
    for emitter in made:
        emitter.close(5)


@pytest.fixture
def monitor_with(monkeypatch: pytest.MonkeyPatch, emitter_with: Callable[..., Emitter]) -> Callable[..., Monitor]:
    """Make monitors whose emitters speak to the fake broker; settings' keys have two underscores."""

    def make(model: str = "fraud", **keywords: Any) -> Monitor:
        values = {key: keywords.pop(key) for key in list(keywords) if "__" in key or key == "topic_prefix"}
        emitter = emitter_with(**values)
        monkeypatch.setattr(modes, "emitter_for", lambda _settings: emitter)
        keywords.setdefault("on_error", "raise")
        return Monitor(model, mode="kafka", settings=emitter.settings, **keywords)

    return make
