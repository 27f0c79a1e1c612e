"""A broker that is a list, and settings without files."""

import threading
from collections.abc import Callable
from typing import Any

from mlmm.events import Event, decode_events, header
from mlmm.runtime.settings import Settings, load

Done = Callable[[Exception | None], None]


class FakeBroker:
    """Takes records; can be away, hold acknowledgements back, or fail them."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes, list[tuple[str, bytes]]]] = []
        self.links: list[FakeLink] = []
        self.held: list[tuple[Any, Done]] = []
        self.away = False
        self.hold = False
        self.refuse: Callable[[bytes], Exception | None] = lambda _value: None
        self.connected = threading.Event()

    def connect(self) -> "FakeLink":
        if self.away:
            raise ConnectionError("the broker is away")
        link = FakeLink(self)
        self.links.append(link)
        self.connected.set()
        return link

    def release(self, error: Exception | None = None) -> None:
        """Acknowledge what was held back, or fail it."""
        held, self.held = self.held, []
        for record, done in held:
            if error is None:
                self.records.append(record)
            done(error)

    @property
    def events(self) -> list[Event]:
        found: list[Event] = []
        for _topic, _key, value, headers in self.records:
            type_, content = (header(headers, name) or b"" for name in ("ce_type", "content-type"))
            found += decode_events(type_.decode(), content.decode(), value)
        return found

    @property
    def ids(self) -> list[str]:
        return [event.prediction_id for event in self.events if hasattr(event, "prediction_id")]


class FakeLink:
    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.closed: float | None = None
        self.forgotten = False

    def send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]], done: Done) -> None:
        assert self.closed is None
        error = self.broker.refuse(value)
        record = (topic, key, value, headers)
        if error is not None:
            raise error
        if self.broker.hold:
            self.broker.held.append((record, done))
            return
        self.broker.records.append(record)
        done(None)

    def close(self, timeout: float) -> None:
        self.closed = timeout

    def forget(self) -> None:
        self.forgotten = True


def settings(**values: Any) -> Settings:
    """Settings of a broker that is never dialled; keys as ``emitter__linger``."""
    given = {"kafka.bootstrap_servers": "127.0.0.1:1", "emitter.linger": 0.001}
    return load(env={}, arguments={**given, **{key.replace("__", "."): value for key, value in values.items()}})
