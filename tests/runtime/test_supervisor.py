"""The supervisor: decisions on a clock of their own, then a few real processes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.runtime.harness import Exit
from mlmm.runtime.supervisor import Action, Policy, Slots, supervise
from tests.waiting import wait_until

POLICY = Policy(first_delay=1, longest_delay=8, well_after=60, failures=6, grace=10)


def starts(slots: Slots, now: float) -> list[int]:
    return [slot for action, slot in slots.due(now) if action is Action.START]


def test_every_slot_is_started_at_once_and_only_once():
    slots = Slots(3, POLICY)
    assert starts(slots, 0) == [0, 1, 2]
    for slot in range(3):
        slots.started(slot, 0)
    assert slots.due(100) == []


def test_restarts_wait_twice_as_long_each_time_up_to_a_bound():
    slots, now, waits = Slots(1, POLICY), 0.0, []
    for _ in range(5):
        slots.started(0, now)
        slots.ended(0, 1, now)
        wait = next(w / 10 for w in range(1000) if starts(slots, now + w / 10))
        waits.append(wait)
        now += wait
    assert waits == [1, 2, 4, 8, 8]


def test_a_process_that_ran_well_is_started_at_once_and_its_count_begins_anew():
    slots = Slots(1, POLICY)
    for _ in range(20):
        slots.started(0, 0)
        slots.ended(0, -9, 60)
        assert starts(slots, 60) == [0]
    assert not slots.stopping


def test_one_whose_services_are_away_is_started_again_for_as_long_as_that_lasts():
    slots, now = Slots(1, POLICY), 0.0
    for _ in range(2000):
        slots.started(0, now)
        slots.ended(0, Exit.UNAVAILABLE, now)
        assert not slots.stopping
        now += POLICY.longest_delay
        assert starts(slots, now) == [0]


@pytest.mark.parametrize(("code", "ends_with"), [(1, 1), (-9, 1), (0, 1)])
def test_one_that_keeps_failing_ends_all_with_its_code(code, ends_with):
    slots = Slots(2, POLICY)
    slots.started(1, 0)
    for _ in range(POLICY.failures):
        assert not slots.stopping
        slots.started(0, 0)
        slots.ended(0, code, 0)
    assert slots.stopping
    assert not slots.finished
    slots.ended(1, 0, 1)
    assert slots.finished
    assert slots.exit_code == ends_with


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (Exit.SETTINGS, "settings are wrong"),
        (Exit.SUPERSEDED, "another process"),
        (Exit.LOG_CHANGED, "a person must decide"),
    ],
)
def test_what_starting_again_does_not_mend_is_not_tried_again(code, says):
    slots = Slots(2, POLICY)
    slots.started(0, 0)
    assert says in slots.ended(0, code, 0)
    assert slots.finished
    assert slots.exit_code == code


def test_who_does_not_end_in_the_grace_period_is_killed_once():
    slots = Slots(2, POLICY)
    slots.started(0, 0)
    slots.started(1, 0)
    slots.stop(100)
    assert slots.due(109.9) == []
    slots.ended(0, 0, 109)
    assert slots.due(110) == [(Action.KILL, 1)]
    assert slots.due(111) == []
    slots.ended(1, -9, 111)
    assert slots.finished
    assert slots.exit_code == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2, -9]), st.floats(0, 100)), max_size=60))
def test_it_always_comes_to_an_end_and_starts_nothing_once_it_stops(ends):
    slots, now = Slots(3, POLICY), 0.0
    running: set[int] = set()
    for slot, code, passed in ends:
        now += passed
        for index in starts(slots, now):
            assert not slots.stopping
            assert index not in running
            slots.started(index, now)
            running.add(index)
        if slot in running:
            slots.ended(slot, code, now)
            running.discard(slot)
    slots.stop(now)
    assert starts(slots, now + 1000) == []
    assert {slot for action, slot in slots.due(now + 1000)} == running or slots.due(now + 1000) == []
    for slot in running:
        slots.ended(slot, -9, now)
    assert slots.finished


# --- with processes ------------------------------------------------------------------------------------------------

FAST = Policy(first_delay=0.01, longest_delay=0.05, well_after=60, failures=4, grace=1)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", code]


def test_wrong_settings_end_everything_with_2():
    commands = [python("import time; time.sleep(60)"), python("raise SystemExit(2)")]
    assert supervise(lambda slot: commands[slot], 2, policy=FAST) == 2


def test_a_process_that_keeps_failing_is_given_up(tmp_path: Path):
    mark = tmp_path / "starts"
    code = f"open({str(mark)!r}, 'a').write('x'); raise SystemExit(7)"
    assert supervise(lambda slot: python(code), 1, policy=FAST) == 7
    assert mark.read_text() == "x" * FAST.failures


def test_a_killed_process_is_started_again_under_its_slot_and_a_deaf_one_is_killed_in_the_end(tmp_path: Path):
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1] + '/' + sys.argv[2] + '.' + str(os.getpid()), 'w').close()\n"
        "time.sleep(600)\n"
    )
    stop, codes = threading.Event(), []
    run = threading.Thread(
        target=lambda: codes.append(
            supervise(lambda slot: [*python(code), str(tmp_path), str(slot)], 2, policy=FAST, stop=stop)
        )
    )
    run.start()
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, timeout=20, what="two processes")
        victim = next(tmp_path.glob("1.*"))
        os.kill(int(victim.suffix[1:]), signal.SIGKILL)
        wait_until(lambda: len(list(tmp_path.glob("1.*"))) == 2, timeout=20, what="slot 1 to run again")
        assert len(list(tmp_path.glob("0.*"))) == 1
    finally:
        stop.set()
        run.join(20)
    assert codes == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_processes_and_end_in_good_order(tmp_path: Path, number):
    child = (
        "import signal, sys, time\n"
        "def end(*_): open(sys.argv[1] + '/ended', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open(sys.argv[1] + '/ready', 'w').close()\n"
        "time.sleep(600)\n"
    )
    parent = (
        "import sys\n"
        "from mlmm.runtime.supervisor import supervise\n"
        "sys.exit(supervise(lambda slot: [sys.executable, '-S', '-c', sys.argv[1], sys.argv[2]], 1))\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent, child, str(tmp_path)]) as supervisor:
        wait_until((tmp_path / "ready").exists, timeout=20, what="the process")
        supervisor.send_signal(number)
        assert supervisor.wait(20) == 0
    assert (tmp_path / "ended").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's; elsewhere slot epochs fence")
def test_where_the_supervisor_is_killed_its_processes_end_in_good_order(tmp_path: Path):
    child = (
        "import os, signal, sys, time\n"
        "def end(*_): open(sys.argv[1] + '/ended', 'w').close(); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open(sys.argv[1] + '/ready', 'w').close()\n"
        "time.sleep(600)\n"
    )
    parent = (
        "import sys\n"
        "from mlmm.runtime.supervisor import supervise\n"
        "sys.exit(supervise(lambda slot: [sys.executable, '-S', '-c', sys.argv[1], sys.argv[2]], 1))\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent, child, str(tmp_path)]) as supervisor:
        wait_until((tmp_path / "ready").exists, timeout=60, what="the process")
        supervisor.kill()
        wait_until((tmp_path / "ended").exists, timeout=60, what="the process to be told")
