"""The processors and the rules over records in memory: what workers would have made of the same log."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from mlmm.events import JSON, cloudevents_headers, encode_json, partition_of
from mlmm.events.types import Tick
from mlmm.runtime.harness.intake import Placement
from mlmm.runtime.processor import Output, Processor, Record, State
from mlmm.runtime.settings import Settings

__all__ = ["Made", "Replay", "Replayer", "alerting", "inputs", "replay_records", "tick"]


class Made(NamedTuple):
    """One output, and where it would lie."""

    processor: str
    """Who made it."""
    source: int
    """Input partition that it was made from."""
    partition: int
    """Partition of its own topic."""
    output: Output


class Replay(NamedTuple):
    """What a log came to."""

    findings: list[Made]
    """In the order in which the rules read them."""
    incidents: list[Made]
    notifications: list[Made]
    commands: list[Made]
    dead_letters: list[Made]
    cells: dict[tuple[str, int], dict[bytes, bytes]]
    """(processor, input partition) → all cells of the final state."""
    counters: dict[tuple[str, int], dict[str, int]]
    """(processor, input partition) → counts."""
    records: int
    end: int
    """Log time of the last record; 0 where there was none."""


def inputs(settings: Settings) -> list[Processor]:
    """Return the processors that read what users send."""
    from mlmm.stream_processors.serving import ServingProcessor
    from mlmm.stream_processors.training import TrainingProcessor

    return [ServingProcessor(settings.serving), TrainingProcessor(settings.training)]


def alerting(settings: Settings) -> Processor:
    """Return the processor that reads findings."""
    from mlmm.alerting import AlertingProcessor

    return AlertingProcessor(settings)


def tick(offset: int, time: int) -> Record:
    """Make a tick that no log holds."""
    value = encode_json(Tick(time=time))
    return Record(offset, time, b"", value, cloudevents_headers("mlmm.tick.v1", f"replay@{time}", "replay", time, JSON))


class Replayer:
    """Folds records as workers do, partition by partition; then the rules over what came of it.

    Parameters
    ----------
    settings : Settings
        ``serving``, ``training``, ``rules``, ``alerting`` and ``kafka.partitions`` are used.
    checked : bool
        Whether what lies in another partition than murmur2 modulo ``kafka.partitions`` says is a dead letter, as it is
        to a worker.
    processors : sequence of Processor, optional
        Instead of those of the settings.
    """

    POLL = 5_000

    def __init__(
        self, settings: Settings, *, checked: bool = True, processors: Sequence[Processor] | None = None
    ) -> None:
        self._settings = settings
        self._partitions = settings.kafka.partitions
        self._checked = checked
        self._processors = {each.input: each for each in (inputs(settings) if processors is None else processors)}
        self._states: dict[tuple[str, int], State] = {}
        self._placements: dict[tuple[str, int], Placement] = {}
        self._outputs: dict[tuple[str, int], list[Output]] = {}
        self.records = 0
        self.end = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """Logical names of the topics that are replayed."""
        return tuple(self._processors)

    def state(self, topic: str, partition: int) -> State:
        """State of one input partition, empty where nothing was fed yet."""
        place = (topic, partition)
        if place not in self._states:
            self._states[place] = self._processors[topic].state()
            self._placements[place] = Placement(partition, self._partitions)
            self._outputs[place] = []
        return self._states[place]

    def feed(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Fold records of one partition, in order."""
        state = self.state(topic, partition)
        made = self._outputs[topic, partition]
        for start in range(0, len(records), self.POLL):
            poll = list(records[start : start + self.POLL])
            letters: list[Output] = []
            if self._checked:
                poll, letters = self._placements[topic, partition].split(poll)
            outputs = state.process(poll)
            state.changed()  # as in a worker, so that what is kept for it does not grow
            made.extend(heapq.merge(outputs, letters, key=_offset) if letters else outputs)
        if records:
            self.records += len(records)
            self.end = max(self.end, records[-1].log_time)

    def finish(self) -> Replay:
        """Judge the findings by the rules and hand over everything."""
        findings: list[list[tuple[int, Made]]] = []
        letters: list[Made] = []
        cells: dict[tuple[str, int], dict[bytes, bytes]] = {}
        counters: dict[tuple[str, int], dict[str, int]] = {}
        for (topic, partition), state in sorted(self._states.items()):
            name = self._processors[topic].name
            cells[name, partition] = dict(state.cells())
            counters[name, partition] = dict(state.counters())
            found = [each for each in self._outputs[topic, partition] if each.topic == "findings"]
            letters += [
                Made(name, partition, partition, each) for each in self._outputs[topic, partition] if not each.type
            ]
            # A finding's time may lie before that of its forerunner (another key's deadline): a source keeps its order.
            times = accumulate((each.time for each in found), max)
            findings.append(
                [(time, self._made(name, partition, each)) for time, each in zip(times, found, strict=True)]
            )
        merged = list(heapq.merge(*findings, key=_time))
        judged = _Judge(alerting(self._settings), self._partitions)
        judged.hear(merged, until=self.end)
        cells |= judged.cells()
        counters |= judged.counters()
        said = [self._made("alerting", partition, each) for partition, each in judged.outputs]
        by_topic = {topic: [each for each in said if each.output.topic == topic] for topic in _SAID}
        letters += [each for each in said if not each.output.type]
        return Replay(
            findings=[each for _, each in merged],
            incidents=by_topic["incidents"],
            notifications=by_topic["notifications"],
            commands=by_topic["commands"],
            dead_letters=letters,
            cells=cells,
            counters=counters,
            records=self.records,
            end=self.end,
        )

    def _made(self, processor: str, source: int, output: Output) -> Made:
        return Made(processor, source, partition_of(output.key, self._partitions), output)


_SAID = ("incidents", "notifications", "commands")


class _Judge:
    """Alerting over findings in memory.

    Its clock is the findings' own: before a finding it hears a tick at each deadline that has passed, and at the end at
    those up to the log's last time. A worker is told of the same deadlines by ticks that may come later; what they put
    out speaks of the deadline in both.
    """

    def __init__(self, processor: Processor, partitions: int) -> None:
        self._processor = processor
        self._partitions = partitions
        self._states: dict[int, State] = {}
        self._offsets: dict[int, int] = {}
        self.outputs: list[tuple[int, Output]] = []

    def hear(self, findings: Iterable[tuple[int, Made]], *, until: int) -> None:
        end = until
        for time, made in findings:
            partition = made.partition
            if partition not in self._states:
                self._states[partition] = self._processor.state()
                self._offsets[partition] = 0
            self._pass_time(partition, time - 1)
            output = made.output
            headers = cloudevents_headers(
                output.type,
                output.id,
                f"{made.processor}/{made.source}",
                output.time,
                JSON,
                causationid=output.causation,
            )
            self._feed(partition, Record(self._next(partition), time, output.key, output.value, headers))
            end = max(end, time)
        for partition in sorted(self._states):
            self._pass_time(partition, end)

    def _pass_time(self, partition: int, now: int) -> None:
        state, last = self._states[partition], -1
        while (deadline := state.deadline()) is not None and last < deadline <= now:
            self._feed(partition, tick(self._next(partition), deadline))
            last = deadline

    def _feed(self, partition: int, record: Record) -> None:
        state = self._states[partition]
        self.outputs.extend((partition, output) for output in state.process([record]))
        state.changed()

    def _next(self, partition: int) -> int:
        self._offsets[partition] += 1
        return self._offsets[partition] - 1

    def cells(self) -> dict[tuple[str, int], dict[bytes, bytes]]:
        return {(self._processor.name, at): dict(state.cells()) for at, state in sorted(self._states.items())}

    def counters(self) -> dict[tuple[str, int], dict[str, int]]:
        return {(self._processor.name, at): dict(state.counters()) for at, state in sorted(self._states.items())}


def replay_records(
    records: Mapping[tuple[str, int], Sequence[Record]], settings: Settings, *, checked: bool = True
) -> Replay:
    """Replay what lies in memory.

    Parameters
    ----------
    records : Mapping
        (logical topic, partition) → its records in order. Topics that no processor reads are passed over.
    settings : Settings
        As the workers have them; ``kafka.partitions`` is the number of partitions of the topics.
    checked : bool
        As in `Replayer`.

    Returns
    -------
    Replay
        Byte for byte what workers make of the same log, `sequence` apart. No ticks are added to the input.
    """
    replayer = Replayer(settings, checked=checked)
    for (topic, partition), each in sorted(records.items()):
        if topic in replayer.topics:
            replayer.feed(topic, partition, each)
    return replayer.finish()


def _offset(output: Output) -> int:
    return output.offset


def _time(entry: tuple[int, Made]) -> int:
    return entry[0]
