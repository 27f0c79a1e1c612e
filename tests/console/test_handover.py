"""States under another number of partitions are those that one reading of the whole log would have made."""

import time
from collections import Counter

import pytest

from mlmm.alerting import AlertingProcessor
from mlmm.events import cloudevents_headers, header
from mlmm.events.placement import partition_of
from mlmm.runtime import outbox
from mlmm.runtime.handover import Handover
from mlmm.runtime.processor import Processor, Record, State
from mlmm.runtime.sequence import WIDTH, encode
from mlmm.runtime.settings import ServingSettings, TrainingSettings
from mlmm.stream_processors import ServingProcessor, TrainingProcessor
from tests.alerting.stories import accuracy_rule, report
from tests.alerting.stories import record as finding
from tests.alerting.stories import settings as alerting_settings
from tests.faults.workload import Workload
from tests.runtime.counting import Counting

OLD, NEW = 3, 5
SERVING = ServingSettings(windows=("2s",), allowed_lateness="1s", idle_after="3s", label_horizon="20s", last=200)


class Log:
    """Partitions that records are appended to, at one log time after another."""

    def __init__(self, time: int) -> None:
        self.records: dict[int, list[Record]] = {n: [] for n in range(NEW)}
        self.all: list[tuple[int, Record]] = []
        self.time = time

    def append(self, record: Record, partitions: int, partition: int | None = None) -> None:
        self.time += 1000
        where = partition_of(record.key, partitions) if partition is None else partition
        made = record._replace(offset=len(self.records[where]), log_time=self.time)
        self.records[where].append(made)
        self.all.append((where, made))


def workload(topic: str) -> list[Record]:
    return [
        Record(0, time.time_ns() // 1000, each.key, each.value, each.headers)
        for sent in Workload(7, 6)
        for each in sent
        if each.topic == topic
    ]


def findings() -> list[Record]:
    made = []
    for nth in range(12):
        for m in range(6):
            each = finding(report(nth, 0.8 if nth % 3 else 0.97, model=f"m{m}"))
            headers = [*each.headers, ("ce_sequence", encode(0, nth, m))]
            made.append(each._replace(headers=headers))
    return made


def processors() -> dict[str, tuple[Processor, list[Record]]]:
    return {
        "serving": (ServingProcessor(SERVING), workload("serving")),
        "training": (TrainingProcessor(TrainingSettings()), workload("training")),
        "alerting": (AlertingProcessor(alerting_settings(accuracy_rule(model="*"))), findings()),
        "counting": (Counting(), [Record(0, 0, b"k%d" % (n % 9), b"\x93\x01\x02\x03", []) for n in range(60)]),
    }


@pytest.mark.parametrize("name", ["serving", "training", "alerting", "counting"])
def test_cells_and_outputs_are_those_of_one_reading(name: str):
    processor, records = processors()[name]
    log = Log(max(r.log_time for r in records) if name != "alerting" else records[-1].log_time)
    third = len(records) // 3
    for at, record in enumerate(records):
        log.append(record, OLD if at < 2 * third else NEW)
    whole, read = [processor.state() for _ in range(NEW)], [processor.state() for _ in range(OLD)]
    expected: Counter[tuple[bytes, str, bytes]] = Counter()
    outputs: Counter[tuple[bytes, str, bytes]] = Counter()
    for at, (where, record) in enumerate(log.all):
        expected.update(said(whole[partition_of(record.key, NEW)], record))
        if at < third:
            outputs.update(said(read[where], record))

    handover = Handover(
        processor, OLD, NEW, layout=processor.layouts[-1], epoch=1, log_time=log.all[third - 1][1].log_time
    )
    for state in read:
        handover.load(state.cells().items())
    entries = handover.feed(log.all[third:])
    for state, wanted in zip(handover.states, whole, strict=True):
        assert dict(state.cells()) == dict(wanted.cells())
    assert sum(handover.records) == len(records) - third
    for found in entries.values():
        assert [e[:WIDTH] for e in found] == sorted({e[:WIDTH] for e in found}), "ascending, each once"
        outputs.update((m.key, head(m.headers), m.value) for m in (outbox.message(e, "s", None) for e in found))
    assert outputs == expected
    assert expected


def said(state: State, record: Record) -> list[tuple[bytes, str, bytes]]:
    return [(o.key, o.id, o.value) for o in state.process([record])]


def head(headers: list[tuple[str, bytes]]) -> str:
    return (header(headers, "ce_id") or b"").decode()


def test_what_was_seen_is_dropped_and_what_was_only_overtaken_is_not():
    """Two partitions of one source: the higher sequence of one says nothing of the other."""
    keys = {n: next(k for i in range(99) if partition_of(k := b"m%d" % i, 2) == n) for n in range(2)}

    def made(sequence: int, key: bytes) -> Record:
        headers = cloudevents_headers("t", "i", "source", 0, "x", sequence=encode(0, sequence, 0).decode())
        return Record(0, 0, key, b"\x91\x01", headers)

    handover = Handover(Counting(input="findings"), 2, 3, layout=1, epoch=1, log_time=0)
    handover.load_seen(0, {b"source": encode(0, 4, 0)})
    handover.load_seen(1, {b"source": encode(0, 9, 0)})
    handover.feed(
        [
            (0, made(4, keys[0])),  # seen
            (0, made(7, keys[0])),  # lower than what the other partition saw
            (0, made(7, keys[0])),  # sent twice
            (1, made(8, keys[1])),  # seen
            (1, made(11, keys[1])),
        ]
    )
    counts = {key: cell[0] for state in handover.states for key, cell in state.sums.items()}
    assert counts == {keys[0]: 1, keys[1]: 1}
    assert handover.seen == {b"source": encode(0, 11, 0)}
