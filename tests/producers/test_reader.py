"""The command reader, on a consumer that is a list."""

import threading
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, Self

import pytest
from kafka import TopicPartition

from mlmm.producers.reader import CommandReader
from tests.producers.fakes import settings
from tests.waiting import wait_until

TOPIC = "mlmm.commands"


class FakeConsumer:
    """What the reader uses of kafka-python's consumer."""

    def __init__(self, log: "FakeLog") -> None:
        self.log = log
        self.at: dict[Any, int] = {}
        self.closed = False

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        assert topic == TOPIC
        return self.log.partitions

    def assign(self, partitions: list[Any]) -> None:
        self.at = dict.fromkeys(partitions, -1)

    def assignment(self) -> set[Any]:
        return set(self.at)

    def offsets_for_times(self, times: dict[Any, int]) -> dict[Any, Any]:
        self.log.asked_times.append(times)
        found = self.log.offset_at_time
        return {partition: None if found is None else SimpleNamespace(offset=found) for partition in times}

    def beginning_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        self.log.asked_ends += 1
        return {partition: len(self.log.records[partition.partition]) for partition in partitions}

    def seek(self, partition: Any, offset: int) -> None:
        self.at[partition] = offset

    def poll(self, _milliseconds: int) -> dict[Any, list[Any]]:
        if self.log.broken:
            self.log.broken = False
            raise ConnectionError("reset")
        polled = {}
        for partition, at in self.at.items():
            records = self.log.records[partition.partition][at:]
            if records:
                self.at[partition] = at + len(records)
                polled[partition] = records
        self.log.polled.set()
        self.log.pause.wait(0.001)
        return polled

    def close(self) -> None:
        self.closed = True


class FakeLog:
    def __init__(self) -> None:
        self.partitions: set[int] | None = {0, 1}
        self.records: dict[int, list[Any]] = defaultdict(list)
        self.offset_at_time: int | None = None
        self.asked_times: list[Any] = []
        self.asked_ends = 0
        self.broken = False
        self.polled = threading.Event()
        self.pause = threading.Event()
        self.consumers: list[FakeConsumer] = []

    def connect(self, _settings: Any) -> FakeConsumer:
        self.consumers.append(FakeConsumer(self))
        return self.consumers[-1]

    def put(self, partition: int, value: bytes) -> None:
        records = self.records[partition]
        records.append(SimpleNamespace(key=b"k", value=value, headers=[], offset=len(records)))


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


class Reading:
    def __init__(self, log: FakeLog) -> None:
        self.values: list[bytes | None] = []
        self.fail_at: bytes | None = None
        self.reader = CommandReader(settings(), self.take, connect=log.connect)

    def take(self, _key: Any, value: bytes | None, _headers: Any) -> None:
        if value == self.fail_at:
            raise RuntimeError("unreadable")
        self.values.append(value)

    def __enter__(self) -> Self:
        self.reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.stop()
        assert self.reader._thread is not None
        self.reader._thread.join(5)
        assert not self.reader._thread.is_alive()


def test_all_partitions_are_read_from_a_day_ago_on(log: FakeLog) -> None:
    log.offset_at_time = 1
    for value in (b"too old", b"a", b"b"):
        log.put(0, value)
        log.put(1, value)
    with Reading(log) as reading:
        wait_until(lambda: len(reading.values) == 4, timeout=5, what="the commands")
    assert sorted(reading.values) == [b"a", b"a", b"b", b"b"]
    assert {p.partition for p in log.asked_times[0]} == {0, 1}
    assert log.consumers[0].closed


def test_where_a_time_can_not_be_looked_up_it_begins_at_the_beginning(log: FakeLog) -> None:
    log.put(1, b"a")
    with Reading(log) as reading:
        wait_until(lambda: reading.values == [b"a"], timeout=5, what="the command")


def test_after_a_lost_connection_it_goes_on_where_it_was(log: FakeLog, caplog: pytest.LogCaptureFixture) -> None:
    log.put(0, b"a")
    with Reading(log) as reading:
        wait_until(lambda: reading.values == [b"a"], timeout=5, what="the first")
        log.broken = True
        log.put(0, b"b")
        wait_until(lambda: reading.values == [b"a", b"b"], timeout=5, what="the second")
    assert [consumer.closed for consumer in log.consumers] == [True, True]
    assert {TopicPartition(TOPIC, 1)} == log.asked_times[1].keys()  # where nothing was read yet, and there alone
    assert "can't be read (ConnectionError: reset)" in caplog.text
    assert "read again" in caplog.text


def test_partitions_that_are_added_are_read_and_the_others_go_on(log: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlmm.producers.reader._LOOK_EVERY", 0.01)
    log.put(0, b"a")
    with Reading(log) as reading:
        wait_until(lambda: reading.values == [b"a"], timeout=60, what="the first")
        log.put(2, b"c")
        log.partitions = {0, 1, 2}
        wait_until(lambda: reading.values == [b"a", b"c"], timeout=60, what="what lies in the new partition")
        for partition in range(3):
            log.put(partition, b"later")
        wait_until(lambda: len(reading.values) == 5, timeout=60, what="what came later")
        log.partitions = None  # a broker that knows nothing of the topic for a moment
        log.put(1, b"last")
        wait_until(lambda: reading.values[-1] == b"last", timeout=60, what="what came then")
    assert reading.values[2:] == [b"later"] * 3 + [b"last"]
    assert len(log.consumers) == 1


def test_a_missing_topic_is_told_and_waited_for(log: FakeLog, caplog: pytest.LogCaptureFixture) -> None:
    log.partitions = None
    log.put(0, b"a")
    with Reading(log) as reading:
        wait_until(lambda: "mlmm topics create" in caplog.text, timeout=5, what="the message")
        assert reading.reader.age is None
        log.partitions = {0}
        wait_until(lambda: reading.values == [b"a"], timeout=5, what="the command")
        assert reading.reader.age < 60


def test_a_command_that_can_not_be_taken_does_not_end_the_reading(
    log: FakeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.put(0, b"bad")
    log.put(0, b"good")
    reading = Reading(log)
    reading.fail_at = b"bad"
    with reading:
        wait_until(lambda: reading.values == [b"good"], timeout=5, what="the one behind it")
    assert "offset 0 could not be taken" in caplog.text


def test_a_silent_topic_is_asked_something_that_must_be_answered(log: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away looks like an empty poll: only an answer makes the reader's age small."""
    monkeypatch.setattr("mlmm.producers.reader._ASK_EVERY", 0.01)
    with Reading(log) as reading:
        wait_until(lambda: log.asked_ends > 2, timeout=5, what="questions")
        assert reading.reader.age is not None
