"""The emitter: bounds, counts, order, retries, fork, end of process."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mlmm.events import header
from mlmm.producers import Emitter, Monitor
from mlmm.producers.delivery import NoSuchTopic, StillConnecting, TooLarge
from tests.producers.fakes import FakeBroker
from tests.waiting import wait_until

Make = Callable[..., Monitor]


def log(monitor: Monitor, *ids: str, **more: object) -> None:
    for prediction_id in ids:
        monitor.log_prediction(prediction_id, {"a": 1.0, "b": 2.0}, 1, **more)


def balanced(monitor: Monitor) -> bool:
    stats = monitor.stats()
    return stats.accepted == stats.sent + sum(stats.dropped.values()) + stats.queued_events


def test_nothing_is_connected_and_no_thread_runs_before_the_first_event(monitor_with: Make, broker: FakeBroker) -> None:
    monitor_with()
    assert not broker.links
    assert not [thread for thread in threading.enumerate() if thread.name == "mlmm-emitter"]


def test_events_arrive_packed_and_in_order(monitor_with: Make, broker: FakeBroker) -> None:
    monitor = monitor_with(emitter__batch_events=50, emitter__linger=0.05)
    ids = [f"id-{i}" for i in range(120)]
    log(monitor, *ids)
    assert monitor.flush(5)
    assert broker.ids == ids
    assert len(broker.records) <= 4
    assert monitor.stats().sent == 120


def test_a_record_says_what_it_is(monitor_with: Make, broker: FakeBroker) -> None:
    monitor = monitor_with()
    log(monitor, "x")
    assert monitor.flush(5)
    topic, key, _, headers = broker.records[0]
    assert (topic, key) == ("mlmm.serving", b"fraud")
    assert header(headers, "ce_type") == b"mlmm.predictions.v1"
    assert header(headers, "ce_specversion") == b"1.0"
    assert header(headers, "ce_source").endswith(f"/{os.getpid()}".encode())
    assert header(headers, "ce_id")


def test_the_queue_is_bounded_in_events(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with(emitter__max_events=10)
    log(monitor, *map(str, range(25)))
    stats = monitor.stats()
    assert (stats.accepted, stats.queued_events, stats.dropped) == (25, 10, {"queue_full": 15})


def test_the_queue_is_bounded_in_bytes(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with(emitter__max_bytes=4096)
    for i in range(100):
        monitor.log_prediction(str(i), {"a": 1.0, "text": "x" * 500}, 1)
    stats = monitor.stats()
    assert 0 < stats.queued_bytes <= 4096
    assert stats.dropped["queue_full"] == 100 - stats.queued_events > 0
    assert balanced(monitor)


def test_what_could_never_fit_is_too_large_even_when_callers_block(monitor_with: Make) -> None:
    monitor = monitor_with(emitter__max_bytes=2048, when_full="block")
    monitor.log_prediction("x", {"text": "x" * 5000}, 1)
    assert monitor.stats().dropped == {"too_large": 1}


def test_when_full_block_waits_for_room_and_loses_nothing(monitor_with: Make, broker: FakeBroker) -> None:
    broker.hold = True
    monitor = monitor_with(emitter__max_events=5, when_full="block")
    log(monitor, *"abcde")
    blocked = threading.Thread(target=log, args=(monitor, "f", "g"), daemon=True)
    blocked.start()
    wait_until(lambda: broker.held, timeout=5, what="records in flight")
    assert monitor.stats().queued_events == 5
    broker.hold = False
    broker.release()
    blocked.join(5)
    assert not blocked.is_alive()
    assert monitor.flush(5)
    assert sorted(broker.ids) == list("abcdefg")
    assert not monitor.stats().dropped


def test_a_blocked_caller_is_released_by_close(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with(emitter__max_events=1, when_full="block")
    log(monitor, "a")
    blocked = threading.Thread(target=log, args=(monitor, "b"), daemon=True)
    blocked.start()
    assert monitor._outlet.emitter.close(0.05) is False
    blocked.join(5)
    assert not blocked.is_alive()
    wait_until(lambda: monitor.stats().dropped.get("closed") == 2, timeout=5, what="both counted as dropped")


def test_flush_says_false_while_events_wait(monitor_with: Make, broker: FakeBroker) -> None:
    broker.hold = True
    monitor = monitor_with()
    log(monitor, "a")
    assert monitor.flush(0.05) is False
    broker.hold = False
    broker.release()
    assert monitor.flush(5) is True


def test_flush_says_false_once_after_events_were_dropped(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with(emitter__max_events=1)
    log(monitor, "a", "b")
    broker.away = False
    assert monitor.flush(5) is False
    assert monitor.flush(5) is True


def test_flush_does_not_wait_for_events_that_come_after_it(monitor_with: Make, broker: FakeBroker) -> None:
    """Each flush waits for its own events only: a busy process can flush, too."""
    monitor = monitor_with(emitter__max_events=1_000_000)
    stop = threading.Event()

    def chatter() -> None:
        while not stop.is_set():
            log(monitor, "x")

    other = threading.Thread(target=chatter, daemon=True)
    other.start()
    try:
        assert monitor.flush(10)
    finally:
        stop.set()
        other.join()
    broker.records.clear()


def test_events_wait_for_a_broker_that_comes_late(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with()
    log(monitor, "a", "b")
    wait_until(lambda: monitor.stats().last_error, timeout=5, what="the failed connection")
    assert "away" in monitor.stats().last_error
    broker.away = False
    assert monitor.flush(5)
    assert broker.ids == ["a", "b"]


def test_after_a_failure_all_that_was_not_acknowledged_is_sent_again_in_order(
    monitor_with: Make, broker: FakeBroker
) -> None:
    broker.hold = True
    monitor = monitor_with(emitter__batch_events=1)
    log(monitor, *"abc")
    wait_until(lambda: len(broker.held) == 3, timeout=5, what="three records in flight")
    (record, done), *failing = broker.held
    broker.records.append(record)
    done(None)
    broker.held, broker.hold = [], False
    for _, done in failing:
        done(ConnectionError("gone"))
    assert monitor.flush(5)
    assert broker.ids == ["a", "b", "c"]
    assert broker.links[0].closed == 0.0
    assert monitor.stats().reconnects == 1


def test_a_record_that_the_broker_finds_too_large_is_dropped_alone(monitor_with: Make, broker: FakeBroker) -> None:
    broker.refuse = lambda value: TooLarge("no") if b"big" in value else None
    monitor = monitor_with(emitter__batch_events=1)
    log(monitor, "a", "big", "c")
    assert monitor.flush(5) is False
    assert broker.ids == ["a", "c"]
    assert monitor.stats().dropped == {"too_large": 1}


def test_a_missing_topic_does_not_hold_up_the_others(monitor_with: Make, broker: FakeBroker) -> None:
    missing = True
    broker.refuse = lambda value: NoSuchTopic("create it") if missing and b"fraud" in value else None
    monitor = monitor_with()
    log(monitor, "a")
    wait_until(lambda: monitor.stats().last_error, timeout=5, what="the missing topic to be noticed")
    assert "create it" in monitor.stats().last_error
    missing = False
    assert monitor.flush(5)
    assert monitor.stats().reconnects == 0


@pytest.mark.parametrize("bad", ["x" * 300 + "é" * 200, "\ud800"], ids=["too many bytes", "lone surrogate"])
def test_an_event_that_breaks_the_contract_leaves_its_neighbours_alone(
    monitor_with: Make, broker: FakeBroker, bad: str
) -> None:
    monitor = monitor_with(emitter__linger=0.05)
    log(monitor, "a", "b", bad, "c")
    assert monitor.flush(5) is False
    assert broker.ids == ["a", "b", "c"]
    assert monitor.stats().dropped == {"invalid": 1}
    assert "fraud" in monitor.stats().last_error


def test_every_event_is_counted_whatever_happens(monitor_with: Make, broker: FakeBroker) -> None:
    """accepted = sent + dropped by cause + queued, from eight threads, with a broker that fails now and then."""
    failures = iter(range(10**9))
    broker.refuse = lambda _value: ConnectionError("reset") if next(failures) % 7 == 3 else None
    monitor = monitor_with(emitter__max_events=500, emitter__batch_events=20)

    def work(name: int) -> None:
        for i in range(300):
            log(monitor, f"{name}-{i}")
            assert balanced(monitor)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monitor.flush(20)
    stats = monitor.stats()
    assert stats.accepted == 2400
    assert stats.sent == len(set(broker.ids))
    assert stats.sent + sum(stats.dropped.values()) == 2400
    assert stats.queued_bytes == 0


@pytest.mark.parametrize("spool", [False, True])
def test_a_thread_that_cannot_be_started_is_tried_again(
    monitor_with: Make, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spool: bool
) -> None:
    """At the limit of a process's threads: the calls return, the events wait, and the next call tries again."""
    values = {"emitter__spool_dir": str(tmp_path / "spool")} if spool else {}
    monitor = monitor_with(emitter__max_events=2, **values)
    start, refused = threading.Thread.start, ["mlmm-emitter", "mlmm-emitter", "mlmm-emitter", "mlmm-dialler"]

    def start_or_not(thread: threading.Thread) -> None:
        if thread.name in refused:
            refused.remove(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    log(monitor, "a")
    stats = monitor.stats()
    assert (stats.accepted, stats.refused, stats.queued_events) == (1, 0, 1)
    assert "can't start new thread" in (stats.last_error or "")
    assert monitor.flush(60) is False
    log(monitor, "b")
    log(monitor, "the queue is full")
    wait_until(lambda: broker.ids == ["a", "b"], timeout=60, what="delivery")
    assert monitor.flush(60) is False
    assert monitor.stats().dropped == {"queue_full": 1}
    assert monitor.flush(60)


def test_events_after_close_are_counted_as_dropped(monitor_with: Make) -> None:
    monitor = monitor_with()
    log(monitor, "a")
    assert monitor._outlet.emitter.close(5)
    log(monitor, "b")
    assert monitor.stats().dropped == {"closed": 1}


def test_asyncio_flush_does_not_block_the_loop(monitor_with: Make, broker: FakeBroker) -> None:
    broker.hold = True
    monitor = monitor_with()
    log(monitor, "a")

    async def main() -> bool:
        waiting = asyncio.create_task(monitor.aflush(5))
        await asyncio.sleep(0)
        await asyncio.to_thread(wait_until, lambda: broker.held, timeout=5, what="a record in flight")
        broker.hold = False
        broker.release()
        return await waiting

    assert asyncio.run(main())


@pytest.mark.parametrize(
    ("features", "output", "more"),
    [
        ({"a": 1.0}, 1, {}),
        ({"a": 1.0, "b": "text"}, 1, {}),
        ({"a": None, "b": None, "c": "ü"}, "class ü", {}),
        ({"b": "text"}, "class", {"score": {"class": 0.5}, "segments": {"site": "B"}}),
    ],
)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_queue_that_was_delivered_is_empty_to_the_byte(
    monitor_with: Make, features: dict[str, object], output: object, more: dict[str, object], shards: int
) -> None:
    monitor = monitor_with(shards=shards)
    for round_ in range(3):
        for i in range(50):
            monitor.log_prediction(f"{round_}-{i}", features, output, **more)
            monitor.log_label(f"{round_}-{i}", output)
        monitor.log_failure(ValueError("x"))
        monitor.log_predictions(["1", "2"], {"a": [1.0, 2.0], "b": ["x", None]}, ["cat", "dog"])
        assert monitor.flush(5)
        stats = monitor.stats()
        assert (stats.queued_events, stats.queued_bytes) == (0, 0)


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **env},
    )  # fmt: skip


PREAMBLE = """
import os, sys
from mlmm.producers import Emitter, Monitor, modes
from tests.producers.fakes import FakeBroker, settings
broker = FakeBroker()
emitter = Emitter(settings(emitter__exit_timeout=float(os.environ.get("EXIT", "5"))), connect=broker.connect)
modes.emitter_for = lambda _settings: emitter
monitor = Monitor("fraud", mode="kafka", settings=emitter.settings, on_error="raise")
"""


@pytest.mark.parametrize("used_before", [True, False])
def test_a_forked_child_begins_anew_and_the_parent_delivers_its_own(used_before: bool) -> None:
    code = f"""
    if {used_before}:
        broker.hold = True
        monitor.log_prediction("parent", {{"a": 1.0}}, 1)
    child = os.fork()
    if child == 0:
        broker.hold = False
        before = monitor.stats().accepted
        monitor.log_prediction("child", {{"a": 1.0}}, 1)
        fine = monitor.flush(5) and broker.ids == ["child"] and before == 0
        fine = fine and all(link.closed is None for link in broker.links)
        os._exit(0 if fine else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    broker.hold = False
    broker.release()
    assert monitor.flush(5)
    assert broker.ids == (["parent"] if {used_before} else []), broker.ids
    sys.exit(code)
    """
    done = run_python(PREAMBLE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


def test_a_link_that_nobody_took_yet_is_the_parents_too(
    emitter_with: Callable[..., Emitter], broker: FakeBroker, tmp_path: Path
) -> None:
    """The dialler's: collected in the child, it would be closed there, which hangs."""
    emitter = emitter_with(emitter__spool_dir=str(tmp_path / "spool"))
    dialler = emitter._dialler
    assert dialler is not None
    with pytest.raises(StillConnecting):
        dialler()
    wait_until(lambda: dialler._made, timeout=60, what="the link")
    emitter.forked()
    (link,) = broker.links
    assert link.forgotten
    assert link.closed is None


def test_no_child_is_forked_in_the_middle_of_an_import() -> None:
    """The thread that imports is not there in the child: the module would stay half made for good."""
    code = """
    import threading
    from mlmm.producers.forking import unforked
    begun, finish, modules = threading.Event(), threading.Event(), []
    def load():
        with unforked():
            modules.append("half")
            begun.set()
            finish.wait(30)
            modules.append("whole")
    threading.Thread(target=load).start()
    begun.wait()
    threading.Timer(0.2, finish.set).start()
    child = os.fork()
    if child == 0:
        with unforked():  # is free for the child's own
            os._exit(0 if modules == ["half", "whole"] else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with unforked():
        sys.exit(code)
    """
    done = run_python(PREAMBLE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


def test_no_child_is_forked_between_two_steps_of_the_queue() -> None:
    """What is being taken waits no more, and is marked as waiting still: the child's events would join it, for good."""
    code = """
    import threading
    begun, finish = threading.Event(), threading.Event()
    class Slow:
        rank = 0
        def take(self):
            begun.set()
            finish.wait(30)
    emitter.intake.dirty.append(Slow())
    monitor.log_prediction("parent", {"a": 1.0}, 1)
    begun.wait()
    threading.Timer(0.2, finish.set).start()
    child = os.fork()
    own = "child" if child == 0 else "parent"
    monitor.log_prediction(f"{own}'s", {"a": 1.0}, 1)
    fine = monitor.flush(10) and {"parent", f"{own}'s"} == {"parent", *broker.ids}
    if child == 0:
        os._exit(0 if fine else 1)
    assert fine, broker.ids
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = run_python(PREAMBLE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


def test_what_is_queued_is_delivered_at_exit() -> None:
    code = """
    import atexit
    monitor.log_prediction("last words", {"a": 1.0}, 1)
    """
    check = 'import atexit\natexit.register(lambda: print("ids", broker.ids))\n'
    done = run_python(check + PREAMBLE + textwrap.dedent(code))
    assert "ids ['last words']" in done.stdout, done.stderr


def test_the_end_with_a_full_queue_and_no_broker_is_bounded() -> None:
    code = """
    import time
    broker.away = True
    for i in range(5000):
        monitor.log_prediction(str(i), {"a": 1.0}, 1)
    started = time.monotonic()
    """
    check = 'import atexit, time\natexit.register(lambda: print("took", time.monotonic() - started))\n'
    done = run_python(check + PREAMBLE + textwrap.dedent(code), EXIT="0.3")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[1]) < 2.5


def test_a_child_of_multiprocessing_delivers_at_its_end() -> None:
    code = """
    import multiprocessing
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    link = broker.connect().__class__
    send = link.send
    def told(self, *record):
        send(self, *record)
        writer.send(broker.ids)
    link.send = told
    child = context.Process(target=monitor.log_prediction, args=("child", {"a": 1.0}, 1))
    child.start()
    assert reader.poll(10)
    assert reader.recv() == ["child"]
    child.join(10)
    assert child.exitcode == 0
    """
    done = run_python(PREAMBLE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr


def test_a_signal_handler_may_log_while_its_thread_holds_the_lock(emitter_with: Callable[..., Emitter]) -> None:
    emitter = emitter_with()
    with emitter.intake.lock:
        emitter.intake.turn_away(1, "queue_full")
    assert emitter.stats().accepted == 1


@pytest.mark.parametrize("running", [False, True])
def test_a_signal_handler_may_flush_wherever_it_interrupts_a_flush(
    emitter_with: Callable[..., Emitter], running: bool
) -> None:
    """Tried between any two lines: a lock that its own thread holds already would be waited for, for ever."""
    emitter = emitter_with()
    if running:
        emitter.hurry()
    lines: set[tuple[str, int]] = set()

    def interrupt(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_name, frame.f_lineno))
            emitter.hurry()
        return interrupt

    def hurry() -> None:
        sys.settrace(interrupt)
        emitter.hurry()

    caller = threading.Thread(target=hurry, daemon=True)
    caller.start()
    caller.join(60)
    assert not caller.is_alive()
    assert {"hurry", "_rouse", "set"} <= {name for name, _ in lines}


def test_importing_the_room_loads_neither_kafka_nor_numpy() -> None:
    heavy = "{'kafka', 'numpy', 'asyncio', 'redis', 'faust'}"
    done = run_python(f"import mlmm.producers, sys; print({heavy} & sys.modules.keys())")
    assert done.stdout.strip() == "set()", done.stderr
