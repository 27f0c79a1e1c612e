"""The spool behind an emitter: what the broker does not take lies on the disk, in order, bounded, and comes back."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmm.events import header
from mlmm.producers import Emitter, Monitor, modes
from mlmm.producers.delivery import NoSuchTopic
from mlmm.producers.intake import Intake
from mlmm.producers.spool import Spool
from mlmm.runtime.errors import SettingsError
from tests.producers.fakes import FakeBroker, settings
from tests.waiting import wait_until

Make = Callable[..., Monitor]
MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spooling(monitor_with: Make, folder: Path) -> Make:
    def make(**values: Any) -> Monitor:
        return monitor_with(**{"emitter__spool_dir": str(folder), "emitter__batch_events": 10, **values})

    return make


def log(monitor: Monitor, first: int, count: int) -> list[str]:
    ids = [f"{i:06d}" for i in range(first, first + count)]
    for each in ids:
        monitor.log_prediction(each, {"a": 1.0, "b": 2.0}, 1)
    return ids


def balanced(monitor: Monitor) -> bool:
    stats = monitor.stats()
    return stats.accepted == stats.sent + sum(stats.dropped.values()) + stats.queued_events + stats.spooled


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.seg"))


def all_on_disk(monitor: Monitor) -> None:
    wait_until(lambda: monitor.stats().queued_events == 0, timeout=60, what="all to lie on the disk")
    assert monitor.stats().queued_bytes == 0
    assert balanced(monitor)


def test_nothing_is_written_while_the_broker_answers(spooling: Make, broker: FakeBroker, folder: Path) -> None:
    monitor = spooling()
    ids = log(monitor, 0, 100)
    assert monitor.flush(60)
    assert broker.ids == ids
    assert not list(folder.iterdir())


def test_what_is_logged_while_the_broker_is_away_is_delivered_in_order(
    spooling: Make, broker: FakeBroker, folder: Path
) -> None:
    """Far more than the queue holds: it waits on the disk, and the queue stays free."""
    broker.away = True
    monitor = spooling(emitter__max_events=100)
    ids: list[str] = []
    for first in range(0, 1000, 50):
        ids += log(monitor, first, 50)
        wait_until(lambda: monitor.stats().queued_events == 0, timeout=60, what="the disk")
    assert monitor.stats().spooled == 1000
    assert monitor.flush(0.01) is False
    broker.away = False
    assert monitor.flush(60)
    assert broker.ids == ids
    stats = monitor.stats()
    assert (stats.sent, stats.spooled, stats.dropped) == (1000, 0, {})
    wait_until(lambda: not on_disk(folder), timeout=60, what="the segments to be deleted")
    more = log(monitor, 1000, 50)
    assert monitor.flush(60)
    assert broker.ids == ids + more


def test_what_was_in_flight_when_the_broker_fell_silent_is_written_too(
    spooling: Make, broker: FakeBroker, folder: Path
) -> None:
    broker.hold = True
    monitor = spooling()
    first = log(monitor, 0, 30)
    wait_until(lambda: broker.held, timeout=60, what="records in flight")
    wait_until(lambda: monitor.stats().spooled == 30, timeout=60, what="them to be written")
    second = log(monitor, 30, 30)
    wait_until(lambda: monitor.stats().spooled == 60, timeout=60, what="what came then, too")
    broker.hold = False
    broker.release()
    assert monitor.flush(60)
    assert broker.ids == first + second


def test_callers_that_are_faster_than_the_broker_fill_the_disk_and_not_the_queue(
    spooling: Make, broker: FakeBroker
) -> None:
    broker.hold = True
    monitor = spooling(emitter__max_bytes="128KiB")
    ids: list[str] = []
    for first in range(0, 5000, 100):
        ids += log(monitor, first, 100)
        wait_until(lambda: monitor.stats().queued_bytes < 100_000, timeout=60, what="room in the queue")
    assert not monitor.stats().dropped
    broker.hold = False
    broker.release()
    assert monitor.flush(60)
    assert broker.ids == ids


def test_everything_is_written_first_with_spool_when_always(spooling: Make, broker: FakeBroker, folder: Path) -> None:
    broker.hold = True
    monitor = spooling(emitter__spool_when="always")
    ids = log(monitor, 0, 100)
    wait_until(lambda: monitor.stats().spooled == 100, timeout=60, what="all to lie on the disk")
    assert monitor.stats().last_error is None
    broker.hold = False
    broker.release()
    assert monitor.flush(60)
    assert broker.ids == ids
    assert monitor._outlet.emitter.close(60)
    assert not on_disk(folder)
    assert [path.name for path in folder.iterdir()] == ["spool.lock"]


def test_what_an_emitter_leaves_at_its_end_is_delivered_by_the_next(
    spooling: Make, broker: FakeBroker, folder: Path
) -> None:
    broker.away = True
    monitor = spooling()
    ids = log(monitor, 0, 500)
    assert monitor._outlet.emitter.close(60) is False
    stats = monitor.stats()
    assert (stats.spooled, stats.dropped, stats.queued_events) == (500, {}, 0)
    broker.away = False
    after = spooling()
    log(after, 500, 1)
    wait_until(lambda: after.stats().inherited == 500, timeout=60, what="the inheritance to be delivered")
    assert [each for each in broker.ids if each != "000500"] == ids
    assert after.stats().accepted == 1
    assert after._outlet.emitter.close(60)
    assert [path.name for path in folder.iterdir()] == ["spool.lock"]


def test_a_record_goes_out_the_second_time_as_the_first(spooling: Make, broker: FakeBroker) -> None:
    """What was delivered, and its acknowledgement lost with the process: same value, same ids."""
    broker.hold = True
    monitor = spooling(emitter__spool_when="always")
    log(monitor, 0, 10)
    wait_until(lambda: broker.held, timeout=60, what="a record in flight")
    delivered = [record for record, _ in broker.held]
    monitor._outlet.emitter.close(0.1)
    broker.hold, broker.held = False, []
    log(spooling(), 10, 1)
    wait_until(lambda: "000009" in broker.ids, timeout=60, what="the inheritance")
    again = [record for record in broker.records if header(record[3], "ce_id") == header(delivered[0][3], "ce_id")]
    assert again == delivered[:1]


def test_the_spool_is_bounded_and_what_finds_no_room_is_counted(
    spooling: Make, broker: FakeBroker, folder: Path
) -> None:
    broker.away = True
    monitor = spooling(emitter__spool_bytes=8 * MIB, emitter__max_events=2000, emitter__batch_events=200)
    text, logged = "x" * 4000, 0
    while not monitor.stats().dropped:
        for _ in range(400):
            monitor.log_prediction(f"{logged:06d}", {"text": f"{logged}{text}"}, 1)
            logged += 1
        assert on_disk(folder) <= 8 * MIB
        with contextlib.suppress(AssertionError):
            wait_until(lambda: monitor.stats().queued_events < 400, timeout=1, what="room, which comes to an end")
    assert on_disk(folder) <= 8 * MIB
    assert "full" in (monitor.stats().last_error or "") or "away" in (monitor.stats().last_error or "")
    assert set(monitor.stats().dropped) == {"queue_full"}
    assert monitor.stats().spooled > 1000
    broker.away = False
    monitor.flush(60)
    wait_until(lambda: monitor.stats().queued_events == 0, timeout=60, what="all to be delivered")
    stats = monitor.stats()
    assert stats.sent == len(broker.ids) == logged - stats.dropped["queue_full"]
    assert broker.ids == sorted(broker.ids)


def test_a_missing_topic_waits_on_the_disk_and_others_go_on(spooling: Make, broker: FakeBroker) -> None:
    missing = True
    broker.refuse = lambda value: NoSuchTopic("create it") if missing and b"churn" in value else None
    monitor = spooling()
    run = modes.KafkaOutlet(monitor._outlet.settings, monitor._outlet.emitter)
    from mlmm.producers.run_stack import RunStack, Said

    stack = RunStack(run.intake, "churn-1", "1")
    for step in range(300):
        assert stack.log(Said((f"loss-{step}",), "train", step, 1_795_230_000_000_000, (1.0,)))
    ids = log(monitor, 0, 100)
    wait_until(lambda: broker.ids == ids, timeout=60, what="the other topic's events")
    wait_until(lambda: monitor.stats().spooled == 300, timeout=60, what="the missing topic's on the disk")
    missing = False
    assert monitor.flush(60)
    assert (monitor.stats().sent, monitor.stats().dropped) == (400, {})
    assert [event.step for event in broker.events if hasattr(event, "step")] == list(range(300))


def test_a_missing_topic_that_fills_the_disk_stops_no_other(spooling: Make, broker: FakeBroker, folder: Path) -> None:
    """It has half of the queue then; what it has no room for is dropped and counted as its own."""
    missing, text = True, "x" * 4000
    broker.refuse = lambda value: NoSuchTopic("create it") if missing and b"xxxx" in value else None
    monitor = spooling(emitter__spool_bytes=8 * MIB, emitter__max_events=2000, emitter__batch_events=200)
    from mlmm.producers.run_stack import RunStack, Said

    stack = RunStack(monitor._outlet.emitter.intake, "churn-1", "1")
    steps = 0

    def a_step_arrives() -> None:
        nonlocal steps
        assert stack.log(Said(("loss",), "train", steps, 1_795_230_000_000_000, (1.0,)))
        steps += 1
        wait_until(lambda: len(broker.records) == steps, timeout=60, what="the other topic's event")

    a_step_arrives()
    logged = 0
    while not monitor.stats().dropped:
        for _ in range(400):
            monitor.log_prediction(f"{logged:06d}", {"text": f"{logged}{text}"}, 1)
            logged += 1
        a_step_arrives()
    assert on_disk(folder) <= 8 * MIB
    assert monitor.stats().spooled > 1000
    assert set(monitor.stats().dropped) == {"no_topic"}
    assert 400 < monitor.stats().queued_events <= 1000
    missing = False
    monitor.flush(60)
    wait_until(lambda: monitor.stats().queued_events == 0, timeout=60, what="all to be delivered")
    assert balanced(monitor)
    ids = broker.ids
    assert len(ids) == logged - monitor.stats().dropped["no_topic"]
    assert ids == sorted(ids)


def test_damage_on_the_disk_is_counted_and_costs_nothing_else(spooling: Make, broker: FakeBroker, folder: Path) -> None:
    broker.away = True
    monitor = spooling(emitter__max_bytes="32KiB")
    for first in range(0, 1000, 50):
        log(monitor, first, 50)
        all_on_disk(monitor)
    (segment,) = folder.glob("*.seg")
    with segment.open("r+b") as file:
        place = len(file.read().rstrip(b"\0")) * 3 // 4  # far behind what is in flight, and was not read back
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 4]))
    broker.away = False
    assert monitor.flush(60) is False, "some were lost"
    stats = monitor.stats()
    assert stats.damaged == 1
    assert 0 < stats.dropped["damaged"] <= 10
    assert stats.sent == len(broker.ids) == 1000 - stats.dropped["damaged"]
    assert "damaged" in (stats.last_error or "")


def test_a_disk_that_fails_is_told_and_events_wait_in_memory(
    spooling: Make, broker: FakeBroker, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.away = True
    monitor = spooling(emitter__max_events=500)
    shutil.rmtree(folder)
    ids = log(monitor, 0, 500)
    wait_until(lambda: "spool" in "".join(caplog.messages), timeout=60, what="the trouble to be told")
    assert str(folder) in "".join(caplog.messages)
    log(monitor, 500, 10)
    assert monitor.stats().dropped == {"queue_full": 10}
    broker.away = False
    monitor.flush(60)
    assert broker.ids == ids


def test_a_living_process_keeps_its_own(spooling: Make, broker: FakeBroker) -> None:
    """And another deployment's is left alone, living or not."""
    broker.away = True
    living, foreign = spooling(), spooling(topic_prefix="other")
    log(living, 0, 10)
    log(foreign, 10, 10)
    all_on_disk(living)
    foreign._outlet.emitter.close(60)
    after = spooling()
    log(after, 20, 10)
    all_on_disk(after)
    assert after._outlet.emitter._delivery._spool._inherited == []
    broker.away = False
    assert after.flush(60)
    assert living.flush(60)
    assert (after.stats().inherited, living.stats().sent) == (0, 10)
    assert "000010" not in broker.ids


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"emitter__spool_bytes": "1MiB"}, r"emitter\.spool_bytes.*8388608"),
        ({"emitter__spool_when": "sometimes"}, r"emitter\.spool_when.*expected one of \"away\", \"always\""),
        (
            {"emitter__spool_dir": "/proc/no/such"},
            r"emitter\.spool_dir: '/proc/no/such'.*name a folder",
        ),
        ({"emitter__spool_dir": __file__}, r"emitter\.spool_dir.*File exists; name a folder"),
    ],
)
def test_wrong_settings_are_told_when_the_emitter_is_made(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        Emitter(settings(**values), connect=FakeBroker().connect)


PROCESS = """
import json, os, sys
from mlmm.producers import Emitter, Monitor, modes
from tests.producers.fakes import FakeBroker, settings
broker = FakeBroker()
broker.away = True
arguments = json.loads(os.environ["SPOOLED"])
emitter = Emitter(settings(**arguments), connect=broker.connect)
modes.emitter_for = lambda _settings: emitter
monitor = Monitor("fraud", mode="kafka", settings=emitter.settings, on_error="raise")
def say():
    stats = monitor.stats()
    print(json.dumps([stats.accepted, stats.spooled, stats.queued_events, dict(stats.dropped)]), flush=True)
"""


@pytest.fixture
def process(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that spool; ``code`` runs in them."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **values: Any) -> subprocess.Popen[str]:
        arguments = {"emitter__spool_dir": str(folder), "emitter__batch_events": 10, **values}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROCESS + textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, env={**os.environ, "SPOOLED": json.dumps(arguments)},
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()
        for pipe in (each.stdin, each.stdout):
            if pipe:
                pipe.close()


LOGS = """
from tests.waiting import wait_until
name, count = sys.stdin.readline().split()
for i in range(int(count)):
    monitor.log_prediction(f"{name}-{i:06d}", {"a": 1.0}, 1)
wait_until(lambda: monitor.stats().queued_events == 0, timeout=60, what="all on the disk")
say()
sys.stdin.readline()
"""


def ask(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin
    process.stdin.write(line + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    return json.loads(process.stdout.readline())


def test_a_killed_processes_events_are_delivered_by_the_next(
    spooling: Make, broker: FakeBroker, folder: Path, process: Any
) -> None:
    killed = process(LOGS)
    ask(killed, "a 1000")
    assert answer(killed) == [1000, 1000, 0, {}]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    monitor = spooling()
    log(monitor, 0, 1)
    wait_until(lambda: monitor.stats().inherited == 1000, timeout=60, what="the inheritance")
    assert [each for each in broker.ids if each != "000000"] == [f"a-{i:06d}" for i in range(1000)]
    assert monitor._outlet.emitter.close(60)
    assert [path.name for path in folder.iterdir()] == ["spool.lock"]


def test_several_processes_share_the_folder_within_its_bound(
    spooling: Make, broker: FakeBroker, folder: Path, process: Any
) -> None:
    """Four write at once, more than there is room for; one inherits from all of them, each event once."""
    four = [process(LOGS.replace("1.0", "1.0, 't': 'x' * 3000"), emitter__spool_bytes=8 * MIB) for _ in range(4)]
    for name, each in zip("abcd", four, strict=True):
        ask(each, f"{name} 250")
    kept = sum(answer(each)[1] for each in four)
    assert kept == 1000
    assert on_disk(folder) <= 8 * MIB
    for each in four:
        each.kill()
        each.wait()
    monitor = spooling(emitter__spool_bytes=8 * MIB)
    log(monitor, 0, 1)
    wait_until(lambda: monitor.stats().inherited == kept, timeout=60, what="the inheritances")
    ids = [each for each in broker.ids if each != "000000"]
    assert sorted(ids) == [f"{name}-{i:06d}" for name in "abcd" for i in range(250)]


def test_a_forked_child_keeps_no_hold_of_its_parents_spool(
    spooling: Make, broker: FakeBroker, folder: Path, process: Any
) -> None:
    """The parent is killed, the child lives: the parent's events can be inherited, the child's are its own."""
    code = LOGS.replace(
        "sys.stdin.readline()\n",
        """
import threading
if os.fork():
    threading.Event().wait()
monitor.log_prediction("child", {"a": 1.0}, 1)
wait_until(lambda: monitor.stats().spooled == 1, timeout=60, what="the child's own")
say()
sys.stdin.read()
os._exit(0)
""",
    )
    parent = process(code)
    ask(parent, "p 100")
    assert answer(parent) == [100, 100, 0, {}]
    assert answer(parent) == [1, 1, 0, {}]
    parent.kill()
    parent.wait()
    monitor = spooling()
    log(monitor, 0, 1)
    wait_until(lambda: monitor.stats().inherited == 100, timeout=60, what="the parent's")
    assert "child" not in broker.ids
    assert list(folder.glob("*.seg"))


def test_a_child_forked_while_a_segment_is_made_does_not_keep_the_folder_locked(folder: Path) -> None:
    """It has a copy of the descriptor: closing the parent's alone would leave the lock to the child's life."""
    given = settings(emitter__spool_dir=str(folder))
    folder.mkdir()
    spool = Spool(given.emitter, given.topic_prefix, Intake(10, 10_000, lambda: None))
    reader, writer = os.pipe()
    with spool._alone() as alone:
        assert alone
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    os.close(reader)
    try:
        with spool._alone() as again:
            assert again
    finally:
        os.close(writer)
        os.waitpid(child, 0)
