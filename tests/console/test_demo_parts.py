"""The demo's parts, each by itself."""

import io
import json
import logging
import signal
import smtplib
import subprocess
import sys
import time
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from rich.console import Console

from mlmm.alerting import check_rules
from mlmm.console.demo import stage as stage_module
from mlmm.console.demo.board import Board, compiling, introduce
from mlmm.console.demo.links import Link, chain
from mlmm.console.demo.plan import MODEL, Plan, settings_file
from mlmm.console.demo.rows import names, serving_rows, train_model, training_rows
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.stage import DemoError, Stage
from mlmm.console.demo.summary import show, sum_up
from mlmm.events import Acked, Command, Drift, Report, RunEnded, Subject
from mlmm.runtime import logs
from mlmm.runtime.settings import load
from tests.waiting import wait_until

SENSOR = f"feature:{Plan.sensor}"


def demo_settings(folder: Path) -> Any:
    file = folder / "mlmm.toml"
    settings_file(file, kafka="localhost:9092", redis="redis://localhost:6379/0", smtp_port=25, name="d", more_kafka="")
    return load(file, env={})


def test_the_demos_settings_are_right_and_its_rules_can_fire(tmp_path: Path) -> None:
    settings = demo_settings(tmp_path)
    assert [note.text for note in check_rules(settings) if note.level == "problem"] == []
    assert {rule.name for rule in settings.rules} == {"accuracy fell", "input drift", "hopeless run"}


def test_the_rows_are_those_that_the_screen_speaks_of() -> None:
    assert len(training_rows()[0]) + len(serving_rows()[0]) == 49_097
    assert len(names()) == 9
    assert Plan.sensor in names()


def test_the_model_is_good_until_the_sensor_reads_high() -> None:
    model = train_model()
    features, classes = (part[: Plan.most] for part in serving_rows())
    high = features.copy()
    column = names().index(Plan.sensor)
    high[:, column] += Plan.shift * training_rows()[0][:, column].std()
    assert (model.predict(features) == classes).mean() > 0.995
    assert (model.predict(high) == classes).mean() < 0.9


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that the stage can start."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "ends.py").write_text("import sys\nprint('the reason')\nsys.exit(7)\n")
    (tmp_path / "stays.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    (tmp_path / "stubborn.py").write_text(stubborn + (tmp_path / "stays.py").read_text())
    return tmp_path


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def heard(stage: Stage, name: str, text: str) -> None:
    wait_until(lambda: text in (stage.logs / f"{name}.log").read_text(), timeout=20, what=f"{text!r} of {name}")


def test_a_process_that_ends_early_is_an_error_with_the_end_of_its_log(scripts: Path) -> None:
    with Stage(scripts) as stage:
        stage.start("ends", "ends").wait(20)
        with pytest.raises(DemoError, match=r"(?s)exit code 7:.*the reason.*ends\.log"):
            stage.check()
        stage.check(may_end=("ends",))


def test_a_worker_that_its_supervisor_starts_again_and_again_is_an_error(scripts: Path) -> None:
    with Stage(scripts) as stage:
        stage.start("worker", "stays")
        line = 'WARNING mlmm.supervisor process ended slot=0 exit_code=1 then="starting again in 1 s"\n'
        (stage.logs / "worker.log").write_text(line)
        stage.check()
        (stage.logs / "worker.log").write_text(line * 2)
        with pytest.raises(DemoError, match="ended 2 times"):
            stage.check()


def test_the_stage_counts_restarts_as_the_supervisor_tells_them(tmp_path: Path) -> None:
    """The words are the supervisor's: should they change, the demo must notice."""
    script = (
        "import sys, threading\n"
        "from mlmm.runtime import logs\nfrom mlmm.runtime.supervisor import Policy, supervise\n"
        "logs.configure()\n"
        "supervise(lambda slot: [sys.executable, '-c', 'import sys; sys.exit(1)'], 1,"
        " policy=Policy(first_delay=0.01, longest_delay=0.01, failures=3))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert done.stderr.count(stage_module.RESTARTED) == 2, done.stderr


def test_all_processes_end_with_the_stage_even_stubborn_ones(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "GRACE", 1.0)
    with Stage(scripts) as stage:
        processes = [stage.start("stays", "stays"), stage.start("stubborn", "stubborn")]
        for name in ("stays", "stubborn"):
            heard(stage, name, "here")
    assert [process.returncode for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_no_process_outlives_a_demo_that_was_killed(scripts: Path) -> None:
    (scripts / "parent.py").write_text(
        "import sys, time\nfrom pathlib import Path\nfrom mlmm.console.demo.stage import Stage\n"
        "stage = Stage(Path(sys.argv[1]))\nprint(stage.start('stays', 'stays').pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(scripts / "parent.py"), str(scripts)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    wait_until(lambda: "here" in (scripts / "logs" / "stays.log").read_text(), timeout=20, what="the child")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not alive(child), timeout=10, what="the child to end")


# --- mail -----------------------------------------------------------------------------------------------------------


def test_the_sink_keeps_each_mail_as_it_came(tmp_path: Path) -> None:
    with MailSink(tmp_path / "mail") as sink, smtplib.SMTP("127.0.0.1", sink.port) as client:
        for number in (1, 2):
            message = EmailMessage()
            message["Subject"] = f"[firing] ../shuttle: no {number} — for many reasons"
            message["From"], message["To"] = "a@example.org", "b@example.org"
            message.set_content("körper")
            client.send_message(message)
    assert [mail.file.name for mail in sink.received] == ["01-firing-shuttle-no-1.eml", "02-firing-shuttle-no-2.eml"]
    assert all(mail.file.parent == tmp_path / "mail" for mail in sink.received)
    assert b"Subject:" in sink.received[0].file.read_bytes()


# --- links, board, summary ------------------------------------------------------------------------------------------


def traffic(**changes: Any) -> Any:
    base = {"times": [], "labels": 0, "injected_at": None, "before": 0, "seconds": 10.0}
    made = SimpleNamespace(**{**base, **changes})
    made.since_injection = lambda moment: sum(time <= moment for time in made.times) - made.before
    return made


def watch(**changes: Any) -> Any:
    lists = {"drifts": [], "commands": [], "answers": []}
    single = dict.fromkeys(("service", "performance", "run_ended", "run_state", "trigger", "metrics"))
    return SimpleNamespace(**{**lists, **single, "incidents": {}, "fired": {}, **changes})


def drift(series: str, at: int) -> Drift:
    return Drift(subject=Subject(model=MODEL), series=series, detector="adwin", params={}, before=1.0, after=2.0,
                 observed=100, began=10, event_time=at, log_time=at)  # fmt: skip


def states(links: list[Link]) -> dict[str, str]:
    return {link.what: link.happened() for link in links}


def test_at_first_no_link_has_happened(tmp_path: Path) -> None:
    links = chain(Plan(), traffic(), watch(), SimpleNamespace(received=[]))
    assert not any(states(links).values())


def test_a_drift_counts_only_after_the_injection_and_only_of_the_sensor() -> None:
    calls = traffic(times=list(range(100, 200)), injected_at=150, before=50)
    seen = watch(drifts=[drift(SENSOR, 140), drift("feature:f9", 170)])
    links = chain(Plan(), calls, seen, SimpleNamespace(received=[]))
    what = f"drift of sensor {Plan.sensor} found"
    assert states(links)[what] == ""
    seen.drifts.append(drift(SENSOR, 179))
    assert states(links)[what] == "30 predictions after it began, by adwin"


def test_a_stop_counts_only_with_a_checkpoint_that_is_there(tmp_path: Path) -> None:
    ended = RunEnded(run_id="r", attempt="a", time=1, status="stopped")
    order = Command(command_id="c", kind="stop", issued_at=1_000_000, expires_at=2, issued_by="x", run_id="r")
    folder = tmp_path / "step-1"
    answer = Acked(command_id="c", state="completed", time=1_500_000, target="r", checkpoint=f"file://{folder}")
    links = chain(
        Plan(), traffic(), watch(commands=[order], answers=[answer], run_ended=ended), SimpleNamespace(received=[])
    )
    assert states(links)["trainer saved and stopped"] == ""
    folder.mkdir()
    assert states(links)["trainer saved and stopped"] == "checkpoint step-1, 0.5 s after the cause"


def screen(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=80, height=40, highlight=False), file


def test_without_a_terminal_each_thing_is_said_once_in_a_line() -> None:
    console, file = screen(terminal=False)
    happened: list[str] = []
    links = [Link("something", lambda: " ".join(happened), "worker")]
    with Board(console, links, traffic(), watch(), SimpleNamespace(received=[]), began=time.monotonic()) as board:
        board.say("waiting")
        board.say("waiting")
        assert not board.complete
        happened.append("like [bold]this\x1b[2J")
        board.draw()
        board.draw()
        assert board.complete
    lines = file.getvalue().splitlines()
    assert [line.split(" s  ")[1] for line in lines] == [
        "waiting …",
        "something: like [bold]this\N{REPLACEMENT CHARACTER}[2J",
    ]
    assert "\x1b" not in file.getvalue()


def test_on_a_terminal_a_link_keeps_its_time_and_stays_on_one_line() -> None:
    console, file = screen(terminal=True)
    links = [Link("something", lambda: "a very long reason " * 20, "worker"), Link("other", lambda: "", "worker")]
    report = Report(subject=Subject(model=MODEL), kind="performance", window="5s", start=0, end=5, log_time=5,
                    events=9, figures={"accuracy": 0.5})  # fmt: skip
    with Board(
        console, links, traffic(), watch(performance=report), SimpleNamespace(received=[]), began=time.monotonic()
    ) as board:
        board.draw()
        first = dict(board.times)
        board.draw()
        assert board.times == first
    assert "…" in file.getvalue()
    assert "0.500" in file.getvalue()


def test_the_screen_says_what_is_injected() -> None:
    console, file = screen(terminal=False)
    introduce(console, Plan(), "a broker")
    said = " ".join(file.getvalue().split())
    assert f"sensor {Plan.sensor} reads 1.5 standard deviations high" in said
    assert "turn to noise" in said


def test_the_summary_tells_false_alarms_from_found_drifts(tmp_path: Path) -> None:
    calls = traffic(times=list(range(100, 200)), labels=90, injected_at=150, before=50)
    seen = watch(drifts=[drift("error", 149), drift(SENSOR, 159)])
    links = [Link("one", lambda: "", "worker"), Link("two", lambda: "", "worker")]
    summary = sum_up(tmp_path, calls, seen, SimpleNamespace(received=[]), links, {"one": 1.0}, 12.34)
    assert [each.series for each in summary.false_alarms] == ["error"]
    assert [(each.series, each.predictions_after) for each in summary.drifts] == [(SENSOR, 10)]
    assert summary.missing == ("two",)
    assert not summary.held
    assert json.loads((tmp_path / "summary.json").read_text())["seconds"] == 12.3
    console, file = screen(terminal=False)
    show(console, summary)
    assert "false alarm" in file.getvalue()


def test_without_an_injection_every_drift_is_a_false_alarm(tmp_path: Path) -> None:
    summary = sum_up(tmp_path, traffic(), watch(drifts=[drift(SENSOR, 5)]), SimpleNamespace(received=[]), [], {}, 1.0)
    assert len(summary.false_alarms) == 1
    assert not summary.drifts


def test_the_demo_knows_when_a_worker_is_past_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are the worker's: should they change, the demo must notice."""
    import mlmm.stream_processors
    from mlmm.console.commands import worker

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    log = tmp_path / "worker.log"
    assert compiling(log)
    for seconds in (1.0, 40.0):
        with log.open("w") as file:
            logs.configure(stream=file)
            monkeypatch.setattr(mlmm.stream_processors, "warm_up", lambda: compiling(log) and seconds)  # noqa: B023
            worker._warm_up()
        assert not compiling(log)
