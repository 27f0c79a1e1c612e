"""The harness around the processors without its services: records in, messages out, cells kept as Redis would."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mlmm.alerting import AlertingProcessor
from mlmm.events import header
from mlmm.runtime import outbox
from mlmm.runtime.claims import Claim
from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.metrics import PartitionMetrics
from mlmm.runtime.outbox import Message
from mlmm.runtime.processor import Processor
from mlmm.runtime.sequence import Seen, source
from mlmm.runtime.settings import Notifier, Order, Rule, ServingSettings, Settings, TrainingSettings
from mlmm.runtime.store import Keys
from mlmm.stream_processors import ServingProcessor, TrainingProcessor
from tests.fuzz.cases import Case

__all__ = ["LARGEST", "Fetched", "Rig"]

LARGEST = 1_000_000
"""Bytes that a record may have at a broker as it comes, its envelope aside."""
SERVING = ServingSettings(windows=(60.0,), max_models=200, max_features=32, max_pending=2_000)
RULES = (
    Rule(name="accuracy", model="*", metric="accuracy", below=0.9, window="60s", min_count=1, notify=("on_call",)),
    Rule(name="change", model="*", metric="accuracy", drops_by=0.1, window="60s", min_count=1, notify=("on_call",)),
    Rule(name="drift", model="*", drift="*", notify=("on_call",), command=Order(kind="stop")),
    Rule(name="silent", model="*", no_data="10m", notify=("on_call",)),
    Rule(name="hopeless", run="*", trigger="*", notify=("on_call",), command=Order(kind="stop")),
)
SETTINGS = Settings(
    serving=SERVING, training=TrainingSettings(), rules=RULES,
    notifiers={"on_call": Notifier(kind="email", to=("a@example.org",))},
)  # fmt: skip


class Fetched(NamedTuple):
    """A record as aiokafka gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]


class _Side:
    """One partition of one processor."""

    def __init__(self, processor: Processor, *, workers_write: bool) -> None:
        self.processor = processor
        self.cells: dict[bytes, bytes] = {}
        self.seen = Seen() if workers_write else None
        self.remembered: dict[bytes, bytes] = {}
        topic = f"mlmm.{processor.input}"
        self.partition = Partition(
            processor, topic, 0, 1, keys=Keys.of("fuzz", processor.name, 0),
            source=source("fuzz", processor.name, topic, 0), claim=Claim("t", 1, 0, 0, 0),
            state=processor.state(), seen=self.seen, metrics=PartitionMetrics(),
        )  # fmt: skip

    def feed(self, cases: Sequence[Case], milliseconds: int) -> list[Message]:
        """Fold one poll; return what would be sent."""
        start = self.partition.offset
        fetched = [
            Fetched(start + n, milliseconds, case.key or None, case.value, list(case.headers))
            for n, case in enumerate(cases)
        ]
        change = self.partition.fold(fetched, 0)
        for cell, value in change.cells.items():
            if value is None:
                self.cells.pop(cell, None)
            else:
                self.cells[cell] = value
        self.remembered.update(change.seen)
        return [outbox.message(entry, self.partition.source, None) for entry in change.outputs]

    def check_cells(self) -> None:
        """What was committed piece by piece is the state, and reads back as itself."""
        state = self.partition.state
        assert dict(state.cells()) == self.cells
        again = self.processor.state()
        again.load(self.cells.items())
        assert dict(again.cells()) == self.cells
        assert again.deadline() == state.deadline()


class Rig:
    """Serving, training and alerting; what the first two find goes to the third.

    Raises whatever a worker would die of, and ``AssertionError`` where something else that must hold does not.
    """

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.sides = {
            "serving": _Side(ServingProcessor(settings.serving), workers_write=False),
            "training": _Side(TrainingProcessor(settings.training), workers_write=False),
            "findings": _Side(AlertingProcessor(settings), workers_write=True),
        }

    def feed(self, cases: Sequence[Case], milliseconds: int) -> list[Message]:
        """Send records, each to its topic, as one poll each; return their dead letters."""
        letters: list[Message] = []
        for topic, side in self.sides.items():
            mine = [case for case in cases if case.topic == topic]
            if mine:
                letters += self._take(topic, mine, side.feed(mine, milliseconds), milliseconds)
        return letters

    def _take(self, topic: str, cases: Sequence[Case], messages: list[Message], milliseconds: int) -> list[Message]:
        letters = [each for each in messages if each.topic == "dead-letters"]
        offsets = [header(each.headers, "mlmm_offset") for each in letters]
        assert len(set(offsets)) == len(offsets) <= len(cases), f"{topic}: a record has two dead letters"
        for message in messages:
            size = len(message.key) + len(message.value)
            size += sum(len(name.encode()) + len(value or b"") for name, value in message.headers)
            assert size <= LARGEST, f"{topic}: {message.topic} would get {size} bytes: no broker takes them"
        for letter in letters:
            assert header(letter.headers, "mlmm_error"), "a dead letter without a reason"
            assert header(letter.headers, "mlmm_topic") == topic.encode()
        found = [
            Case("findings", each.key, each.value, tuple(each.headers)) for each in messages if each.topic == "findings"
        ]
        if found:
            side = self.sides["findings"]
            answers = self._take("findings", found, side.feed(found, milliseconds), milliseconds)
            assert not answers, f"alerting refuses what {topic} found: {_first(answers)}"
        return letters

    def check_cells(self) -> None:
        """See `_Side.check_cells`."""
        for side in self.sides.values():
            side.check_cells()


def _first(letters: list[Message]) -> str:
    letter = letters[0]
    return f"{(header(letter.headers, 'mlmm_error') or b'').decode()}: {msgspec.json.encode(letter.value[:300])!r}"
