"""Tells the demo's story from beginning to end."""

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console
from rich.text import Text

from mlmm.console.demo.board import Board, compiling, introduce
from mlmm.console.demo.links import Link, chain
from mlmm.console.demo.plan import Plan
from mlmm.console.demo.services import NAME, open_services, workers_ready
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.stage import DemoError, Stage, free_port
from mlmm.console.demo.summary import Summary, show, sum_up
from mlmm.console.demo.traffic import Traffic
from mlmm.console.demo.watch import Watch
from mlmm.console.screen import err, plain, print_json
from mlmm.runtime.errors import SettingsError
from mlmm.runtime.settings import mask_url

__all__ = ["tell"]

MARK = ".mlmm-demo"
"""A file that says that a folder was made by the demo, and may be made anew."""
FRAME = 0.25
"""Seconds between two looks, and two pictures of the screen."""
COMPILING_SECONDS = 14.0
"""A worker that is not past its kernels after so long is compiling them."""
STARTUP_SECONDS = 180.0
"""Kernels may have to be compiled, on a machine that is busy with other things."""


def tell(
    folder: Path,
    *,
    kafka: str = "",
    redis: str = "",
    keep: bool = False,
    plan: Plan | None = None,
    as_json: bool = False,
) -> int:
    """Run the demo; return 0, or 1 where a link of the chain did not happen.

    Parameters
    ----------
    folder : Path
        Where settings, mails, logs and checkpoints go.
    kafka, redis : str
        Address and URL of real services; those that come along where empty.
    keep : bool
        Leave the demo's own topics and keys in the real services.
    plan : Plan, optional
        Another timetable.
    as_json : bool
        Print the summary as one JSON object.

    Raises
    ------
    DemoError
        When it can't go on; with the reason and the end of the log that tells more.
    """
    plan = plan or Plan()
    _fresh(folder)
    began = time.monotonic()
    console = Console(highlight=False, stderr=as_json)
    introduce(console, plan, _services_in_words(kafka, redis))
    with _ended_by_signals(), contextlib.ExitStack() as stack:
        sink = stack.enter_context(MailSink(folder / "mail"))
        settings = stack.enter_context(open_services(folder, sink.port, kafka=kafka, redis=redis, keep=keep))
        stage = stack.enter_context(Stage(folder))
        port = free_port()
        stage.start("worker", "mlmm.console", "worker", "--name", NAME)
        stage.start("api", "mlmm.console.demo.serving", str(port))
        stage.start("alerting", "mlmm.console", "alerting", "--name", NAME)
        traffic, watch = Traffic(plan, port, settings), Watch(settings)
        links = chain(plan, traffic, watch, sink)
        with Board(console, links, traffic, watch, sink, began=began) as board:
            _wait_until_ready(stage, traffic, lambda: workers_ready(settings), board)
            watch.start()
            traffic.start()
            _play(plan, stage, traffic, watch, board)
            board.say("ending what was started")
            traffic.end()
            traffic.join(15)
            stage.__exit__(None, None, None)
            watch.end()
            watch.join(5)
        summary = sum_up(folder, traffic, watch, sink, links, board.times, board.seconds)
    return _tell_the_end(summary, stage, links, board, as_json=as_json)


def _services_in_words(kafka: str, redis: str) -> str:
    ours = " and ".join([*(["a broker"] if not kafka else []), *(["a Redis"] if not redis else [])])
    theirs = [f"Kafka at {kafka}" if kafka else "", f"Redis at {mask_url(redis)}" if redis else ""]
    return ", ".join(filter(None, [*theirs, f"{ours} that come along" if ours else ""]))


def _fresh(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file: give a folder with --out")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise SettingsError(f"{folder} is not empty and was not made by the demo: give another folder with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: whatever was started is ended."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        err.print("Ended early; nothing of it keeps running.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(stage: Stage, traffic: Traffic, ready: Callable[[], bool], board: Board) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    loading: float | None = None
    while True:
        stage.check()
        api, workers = traffic.api_answers(), ready()
        at_kernels = compiling(stage.logs / "worker.log")
        if api and not at_kernels and "trainer" not in stage.processes:  # its libraries load while the workers join
            stage.start("trainer", "mlmm.console.demo.trainer", str(stage.folder / "checkpoints"))
        if api and workers:
            return
        waiting = [name for name, there in (("the API", api), ("the workers", workers)) if not there]
        status = f"starting {' and '.join(waiting)}"
        loading = (loading or time.monotonic()) if at_kernels else None
        if loading and time.monotonic() - loading > COMPILING_SECONDS:
            status += "; kernels are compiled once on each machine, which takes half a minute"
        board.say(status)
        if time.monotonic() > deadline:
            behind = "worker" if api else "api"
            raise DemoError(
                f"{' and '.join(waiting)} did not start within {STARTUP_SECONDS:g} s:\n{stage.tail(behind)}"
            )
        time.sleep(FRAME)


def _play(plan: Plan, stage: Stage, traffic: Traffic, watch: Watch, board: Board) -> None:
    """Let it happen until every link has, or time is up."""
    deadline = time.monotonic() + plan.patience
    while time.monotonic() < deadline:
        stage.check(may_end=("trainer",))
        for part, log in ((traffic, "api"), (watch, "worker")):
            if part.error:
                raise DemoError(f"{part.name}: {part.error}\n{stage.tail(log)}") from part.error
        if traffic.injected_at is None:
            board.say("all is well; the detectors learn what is normal")
        elif not traffic.had_its_time or not board.complete:
            board.say("faults are injected; what does MLMM make of them")
        else:
            return
        time.sleep(FRAME)


def _tell_the_end(summary: Summary, stage: Stage, links: list[Link], board: Board, *, as_json: bool) -> int:
    if as_json:
        print_json([msgspec.to_builtins(summary)])
    else:
        show(board.console, summary)
    if summary.held:
        board.console.print(Text(f"\nEvery link of the chain held, in {summary.seconds:.0f} s.", style="bold green"))
        return 0
    if summary.false_alarms:
        err.print(Text(f"\n{len(summary.false_alarms)} false alarms before anything was injected.", style="bold red"))
    if summary.missing:
        first = next(link for link in links if link.what in summary.missing)
        err.print(Text(f"\nDid not happen: {', '.join(summary.missing)}.", style="bold red"))
        err.print(Text(f"The {first.where} said last:\n" + "\n".join(map(plain, stage.tail(first.where).splitlines()))))
    return 1
