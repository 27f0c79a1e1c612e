"""Trainers, the training processor and alerting on logs that are lists: what befalls a command, without services.

Time passes only where a test says so. A trainer's events wait in its queue until they are delivered; what a crash
finds there is lost. Each record key of the commands topic is a partition of its own: a reader goes through each in
order, and through several in any order.
"""

import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import msgspec

from mlmm.alerting.processor import AlertingProcessor
from mlmm.events import JSON, SIGNATURE, TYPES, Acked, Command, Event, cloudevents_headers, encode_json, sign
from mlmm.producers import TrainingRun, not_finite, training_run, voice
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.settings import AlertingSettings, Order, Rule, Settings, SigningKey
from mlmm.runtime.ticks import tick
from mlmm.stream_processors.training import TrainingProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
RETIREMENT = START + 7200 * SECOND
NEW, OLD, STRANGE = "2026-12", "2026-06", "2025-12"
SECRETS = {NEW: b"the key of December", OLD: b"the key of last June", STRANGE: b"a key that nobody has"}
NAMES = {of: name for name, of in TYPES.items()}
MODEL = "churn"

Headers = list[tuple[str, bytes]]


class Sent(NamedTuple):
    """A record of the commands topic."""

    key: bytes
    value: bytes
    headers: Headers


def key_of(name: str, **fields: Any) -> SigningKey:
    return SigningKey(id=name, secret=SECRETS[name].decode(), **fields)


BOTH = (key_of(NEW, active=True), key_of(OLD, accepted_until=datetime.fromtimestamp(RETIREMENT // SECOND, UTC)))
ONLY_OLD = (key_of(OLD, active=True),)


def written(command: Command, key_id: str | None = NEW, **changed: Any) -> Sent:
    """A command as its issuer writes it; ``changed``: its key, value or id after it was signed."""
    key, value = (command.run_id or command.model or "").encode(), encode_json(command)
    id_ = changed.get("id_", command.command_id)
    headers = cloudevents_headers("mlmm.command.v1", id_, command.issued_by, command.issued_at, JSON)
    if key_id is not None:
        signed = sign(key_id, SECRETS[key_id], key, "mlmm.command.v1", command.command_id, value)
        headers.append((SIGNATURE, changed.get("signature", signed)))
    return Sent(changed.get("key", key), changed.get("value", value), headers)


class World:
    """All there is beside the trainers: the logs, the processors, the clock."""

    def __init__(self, keys: tuple[SigningKey, ...] = BOTH) -> None:
        self.now = START
        self.keys = keys
        self.settings = Settings(
            alerting=AlertingSettings(keys=keys),
            rules=(
                Rule(name="not finite", run="*", trigger="not_finite", command=Order(kind="stop")),
                Rule(name="drift", model=MODEL, drift="error", command=Order(kind="stop")),
            ),
        )
        self.commands: dict[bytes, list[Sent]] = defaultdict(list)
        self.genuine: list[tuple[Command, str | None, Sent]] = []
        self.training: list[Record] = []
        self.findings: list[Record] = []
        self.outputs: list[Output] = []
        self.processor = TrainingProcessor(SimpleNamespace(lost_after=3)).state()
        self.alerting = AlertingProcessor(self.settings).state()
        self._folded = self._judged = 0
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self._patches = [
            mock.patch.object(training_run, "now", self.clock),
            mock.patch.object(voice, "now", self.clock),
            mock.patch.object(training_run, "Signals", mock.MagicMock()),  # handlers of runs that crash would stay
        ]
        for patch in self._patches:
            patch.start()

    def close(self) -> None:
        for patch in self._patches:
            patch.stop()
        self._folder.cleanup()

    def clock(self) -> int:
        return self.now

    # --- the logs ----------------------------------------------------------------------------------------------------

    def put(self, sent: Sent) -> None:
        self.now += 1000
        self.commands[sent.key].append(sent)

    def order(self, command: Command, key_id: str | None = NEW) -> Sent:
        """Give a genuine order."""
        sent = written(command, key_id)
        self.genuine.append((command, key_id, sent))
        self.put(sent)
        return sent

    def say(self, event: Event) -> None:
        """Let the log take an event of a trainer."""
        name = NAMES[type(event)]
        self.now += 1000
        key = getattr(event, "run_id", None) or getattr(event, "target", "")
        headers = cloudevents_headers(name, "i", "mlmm://t", self.now, JSON)
        self.training.append(Record(len(self.training), self.now, key.encode(), encode_json(event), headers))

    def find(self, finding: Event, key: str) -> None:
        """Let the log take a finding of another processor."""
        self.now += 1000
        headers = cloudevents_headers(NAMES[type(finding)], "i", "mlmm/serving", self.now, JSON)
        self.findings.append(Record(len(self.findings), self.now, key.encode(), encode_json(finding), headers))

    def pass_time(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)
        for topic, log in (("training", self.training), ("findings", self.findings)):
            message = tick(topic, "mlmm/t", self.now)
            log.append(Record(len(log), self.now, b"", message.value, message.headers))

    # --- the processors ----------------------------------------------------------------------------------------------

    def fold(self, most: int = 10_000) -> None:
        """Let the training processor take what waits."""
        records = self.training[self._folded : self._folded + most]
        self._folded += len(records)
        for output in self.processor.process(records):
            assert output.topic == "findings", output
            headers = cloudevents_headers(output.type, output.id, "mlmm/training", output.time, JSON)
            self.now += 1
            self.findings.append(Record(len(self.findings), self.now, output.key, output.value, headers))

    def judge(self, most: int = 10_000) -> None:
        """Let alerting take what waits, and sign what it orders."""
        records = self.findings[self._judged : self._judged + most]
        self._judged += len(records)
        for output in self.alerting.process(records):
            assert output.topic != "dead-letters", output
            self.outputs.append(output)
            if output.topic == "commands":
                self.order(msgspec.json.decode(output.value, type=Command), self.settings.alerting.signing_key.id)

    def settle(self) -> None:
        """Let both take all, and what follows from it."""
        while self._folded < len(self.training) or self._judged < len(self.findings):
            self.fold()
            self.judge()

    # --- what is seen ------------------------------------------------------------------------------------------------

    def incidents(self, command_id: str) -> list[Any]:
        """All that was told of incidents that concern a command."""
        told = [msgspec.json.decode(o.value, type=TYPES[o.type]) for o in self.outputs if o.topic == "incidents"]
        return [each for each in told if each.evidence.get("command", {}).get("command_id") == command_id]

    def shown(self, command_id: str) -> dict[str, Any]:
        """How an incident that gave a command shows it now."""
        return self.incidents(command_id)[-1].evidence["command"]

    def alarmed(self, command_id: str) -> list[str]:
        """Reasons of incidents that the command was not obeyed."""
        return [each.reason for each in self.incidents(command_id) if each.rule.endswith("command not obeyed")]

    def logged(self, kind: type[Event] = Acked) -> list[tuple[int, Any]]:
        """Events of a type in the training log, with their log time."""
        found = [record for record in self.training if dict(record.headers)["ce_type"] == NAMES[kind].encode()]
        return [(record.log_time, msgspec.json.decode(record.value, type=kind)) for record in found]


class Trainer:
    """An attempt at a run: the real `TrainingRun`, with a reader and an emitter that a test works by hand."""

    def __init__(self, world: World, run_id: str = "run-1", keys: tuple[SigningKey, ...] | None = None) -> None:
        self.world = world
        self.keys = world.keys if keys is None else keys
        self.at: dict[bytes, int] = defaultdict(int)
        self.sent = 0
        self.alive = True
        self.before_saved: Callable[[], None] = lambda: None
        world.now += 1000
        self.began = world.now
        self.run = TrainingRun(
            "churn", run_id=run_id, model=MODEL, triggers=[not_finite()], mode="memory", save=self._save,
            checkpoint_dir=world.folder, settings=Settings(alerting=AlertingSettings(keys=self.keys)),
        ).start()  # fmt: skip
        self.attempt = self.run.attempt

    def _save(self, folder: Path) -> None:
        self.before_saved()
        (folder / "weights").write_text("w")

    @property
    def stopping(self) -> bool:
        return self.run.should_stop

    @property
    def answers(self) -> list[Acked]:
        """All that it answered, delivered or not."""
        return [event for event in self.run.events if isinstance(event, Acked)]

    def step(self, loss: float = 1.0) -> None:
        self.world.now += 1000
        self.run.log({"loss": loss}, step=(self.run.last_step or 0) + 1)

    def beat(self) -> None:
        self.run._voice.heartbeat(self.run.last_step, 0.0)

    def read(self, key: bytes, most: int = 10_000) -> list[Sent]:
        """Read on in one partition of the commands topic."""
        records = self.world.commands[key][self.at[key] : self.at[key] + most]
        self.at[key] += len(records)
        for record in records:
            self.take(record)
        return records

    def take(self, sent: Sent) -> None:
        assert self.run._orders is not None
        self.run._orders.receive(sent.key, sent.value, sent.headers)

    def deliver(self, most: int = 10_000) -> None:
        """Let the log take what was said, in order."""
        events = self.run.events[self.sent : self.sent + most]
        self.sent += len(events)
        for event in events:
            self.world.say(event)

    def again(self, count: int) -> None:
        """Let the log take the last ones once more: at least once."""
        for event in self.run.events[max(0, self.sent - count) : self.sent]:
            self.world.say(event)

    def end(self, status: Any = "completed") -> None:
        self.run.end(status)

    def crash(self) -> None:
        """Die: what was not delivered is lost."""
        self.alive = False
