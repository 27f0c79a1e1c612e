"""Tells the demo's story as it happens, and sums it up."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mlmm.console.demo.links import Link, chain
from mlmm.console.demo.plan import MODEL, Plan, settings_file
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.stage import DemoError, Stage, free_port
from mlmm.console.demo.traffic import Traffic
from mlmm.console.demo.watch import Watch
from mlmm.console.screen import err, out, print_json
from mlmm.runtime.settings import Settings, load

__all__ = ["tell"]

MARK = ".mlmm-demo"
"""A file that says that a folder was made by the demo, and may be made anew."""
STARTUP_SECONDS = 60.0


def tell(folder: Path, *, kafka: str = "", redis: str = "", plan: Plan | None = None, as_json: bool = False) -> int:
    """Run the demo; return 0, or 1 where a link of the chain did not happen.

    Parameters
    ----------
    folder : Path
        Where settings, mails, logs and checkpoints go.
    kafka, redis : str
        Address and URL of real services; those that come along where empty.
    plan : Plan, optional
        Another timetable.
    as_json : bool
        Print the summary as one JSON object a line.
    """
    plan = plan or Plan()
    _fresh(folder)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(MailSink(folder / "mail"))
        settings = stack.enter_context(_services(folder, sink.port, kafka=kafka, redis=redis))
        stage = stack.enter_context(Stage(folder))
        port = free_port()
        stage.start("worker", "mlmm.console", "worker")
        stage.start("alerting", "mlmm.console", "alerting")
        stage.start("api", "mlmm.console.demo.serving", str(port))
        traffic, watch = Traffic(plan, f"http://127.0.0.1:{port}", settings), Watch(settings)
        links = chain(plan, traffic, watch, sink)
        screen = _Screen(plan, traffic, watch, sink, links, kafka=kafka, quiet=as_json)
        with screen:
            stage.wait_for_http("api", f"http://127.0.0.1:{port}/health", STARTUP_SECONDS)
            watch.start()
            traffic.start()
            stage.start("trainer", "mlmm.console.demo.trainer", str(folder / "checkpoints"))
            _play(plan, stage, traffic, watch, links, screen)
        traffic.end()
        watch.end()
        return _sum_up(folder, traffic, watch, sink, links, seconds=time.perf_counter() - began, as_json=as_json)


def _fresh(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DemoError(f"{folder} is not empty and was not made by the demo: give another folder with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


@contextlib.contextmanager
def _services(folder: Path, smtp_port: int, *, kafka: str, redis: str) -> Iterator[Settings]:
    """Give settings that reach Kafka and Redis: those named, else those that come along."""
    from mlmm.runtime import embedded, topics

    with contextlib.ExitStack() as stack:
        api_version, real = "", bool(kafka)
        # On real services a name of its own: the demo touches nothing that was there before.
        name = f"mlmm-demo-{os.getpid()}-{int(time.time())}" if real or redis else "mlmm"
        if not kafka:
            broker = stack.enter_context(embedded.EmbeddedKafka())
            kafka, api_version = broker.address, broker.api_version
        if not redis:
            redis = stack.enter_context(embedded.EmbeddedRedis()).url
        file = folder / "mlmm.toml"
        settings_file(file, kafka=kafka, redis=redis, smtp_port=smtp_port, name=name, api_version=api_version)
        settings = load(file, env={})
        if real:
            topics.create(settings)
        yield settings


def _play(plan: Plan, stage: Stage, traffic: Traffic, watch: Watch, links: list[Link], screen: "_Screen") -> None:
    """Let it happen until every link has, or time is up."""
    deadline = time.monotonic() + plan.patience
    while time.monotonic() < deadline:
        stage.check(may_end=("trainer",))
        for part in (traffic, watch):
            if part.error:
                raise DemoError(f"{part.name}: {part.error!r}") from part.error
        screen.draw()
        if all(link.happened() for link in links) and not traffic.is_alive():
            return
        time.sleep(0.1)


class _Screen:
    """A live table on a terminal; elsewhere a line when something happens."""

    def __init__(
        self, plan: Plan, traffic: Traffic, watch: Watch, sink: MailSink, links: list[Link], *, kafka: str, quiet: bool
    ) -> None:
        self.plan, self.traffic, self.watch, self.sink, self.links = plan, traffic, watch, sink, links
        self.began = time.monotonic()
        self.told: set[str] = set()
        self.console = err if quiet else out
        where = f"Kafka at {kafka}" if kafka else "the broker and Redis that come along"
        self.intro = (
            f"Real: 49,097 rows of shuttle sensors, a scikit-learn model behind FastAPI, labels "
            f"{plan.label_delay:g} s late, a trainer, {where}, SMTP.\n"
            f"Injected: from prediction {plan.predictions_before:,} on sensor {plan.sensor} reads "
            f"{plan.shift:g} standard deviations high; from step {plan.collapse_at} on the trainer's labels turn to "
            "noise."
        )
        self.live = (
            Live(console=self.console, refresh_per_second=4, transient=False) if self.console.is_terminal else None
        )

    def __enter__(self) -> Self:
        self.console.print(Text("MLMM demo", style="bold"))
        self.console.print(Text(self.intro))
        self.console.print()
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.draw()
        if self.live:
            self.live.stop()

    def draw(self) -> None:
        """Show how things stand."""
        if self.live:
            self.live.update(Group(self._figures(), self._chain()))
            return
        for link in self.links:
            how = link.happened()
            if how and link.what not in self.told:
                self.told.add(link.what)
                self.console.print(Text(f"{time.monotonic() - self.began:6.1f} s  {link.what}: {how}"))

    def _figures(self) -> Table:
        table = Table.grid(padding=(0, 3))
        report, service, run = self.watch.performance, self.watch.service, self.watch.run_state
        figures = service.figures if service else {}
        accuracy = report.figures.get("accuracy") if report else None
        phase = "sensor reads high" if self.traffic.injected_at else "undisturbed"
        table.add_row(f"{time.monotonic() - self.began:5.1f} s", f"{len(self.traffic.times):,} predictions ({phase})",
                      f"{self.traffic.labels:,} labels", f"{len(self.sink.received)} mails")  # fmt: skip
        table.add_row(
            "",
            f"accuracy {accuracy:.3f}" if accuracy is not None else "accuracy …",
            f"p99 {figures['latency_p99'] * 1000:.1f} ms" if "latency_p99" in figures else "p99 …",
            f"run {run.status}, step {run.step}" if run else "run …",
        )
        return table

    def _chain(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for link in self.links:
            how = link.happened()
            table.add_row(
                Text("✓" if how else "·", style="green" if how else "dim"), Text(link.what), Text(how, style="dim")
            )
        return table


def _sum_up(
    folder: Path, traffic: Traffic, watch: Watch, sink: MailSink, links: list[Link], *, seconds: float,
    as_json: bool,
) -> int:  # fmt: skip
    missing = [link.what for link in links if not link.happened()]
    injected = traffic.injected_at or 0
    before = [d for d in watch.drifts if not injected or d.event_time < injected]
    after = [d for d in watch.drifts if d not in before]
    row = {
        "predictions": len(traffic.times),
        "labels": traffic.labels,
        "seconds": round(seconds, 1),
        "drifts": [
            {
                "series": d.series,
                "detector": d.detector,
                "predictions_after": traffic.predictions_since_injection(d.event_time),
            }
            for d in after
        ],
        "false_alarms_before": len(before),
        "incidents": sorted({i.rule for i in watch.incidents.values()}),
        "mails": [{"subject": subject, "file": str(file)} for subject, file in sink.received],
        "command": watch.commands[0].command_id if watch.commands else None,
        "acknowledgements": [a.state for a in watch.answers],
        "checkpoint": next((a.checkpoint for a in watch.answers if a.checkpoint), None),
        "missing": missing,
        "files": str(folder),
    }
    (folder / "summary.json").write_text(json.dumps(row, indent=1))
    if as_json:
        print_json([row])
    else:
        _print_summary(folder, row, before=len(before))
    return 1 if missing else 0


def _print_summary(folder: Path, row: dict[str, object], *, before: int) -> None:
    table = Table(
        title="\nWhat happened", title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    drifts = row["drifts"]
    assert isinstance(drifts, list)  # noqa: S101 - made above
    events = f"{row['predictions']:,} predictions over HTTP, {row['labels']:,} late labels in {row['seconds']} s"
    table.add_row("events", events)
    for drift in drifts:
        table.add_row(
            "drift",
            f"{drift['series']} by {drift['detector']}, {drift['predictions_after']} predictions after it began",
        )
    table.add_row("false alarms", f"{before} before it began")
    mails = row["mails"]
    assert isinstance(mails, list)  # noqa: S101 - made above
    for mail in mails:
        table.add_row("mail", Text(mail["subject"]))
    answers = row["acknowledgements"]
    assert isinstance(answers, list)  # noqa: S101 - made above
    table.add_row("command", f"stop {row['command']}: {', '.join(answers)}")
    table.add_row("checkpoint", str(row["checkpoint"]))
    table.add_row("files", f"{folder}: mlmm.toml, mail/*.eml, checkpoints/, logs/, summary.json")
    out.print(table)
    missing = row["missing"]
    if missing:
        err.print(
            Text(f"\nDid not happen: {', '.join(map(str, missing))}. Look into {folder / 'logs'}", style="bold red")
        )
    else:
        out.print(Text(f"\nEvery link of the chain held. Model {MODEL} would be looked after.", style="green"))
