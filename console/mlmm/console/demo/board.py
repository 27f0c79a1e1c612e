"""What a person sees while the demo runs: a live table on a terminal; elsewhere a line when something happens."""

import time
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mlmm.console.demo.links import Link
from mlmm.console.demo.plan import Plan
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.traffic import Traffic
from mlmm.console.demo.watch import Watch
from mlmm.console.screen import plain

__all__ = ["Board", "compiling", "introduce"]


class Board:
    """The screen; a context manager.

    Parameters
    ----------
    console : Console
        Where to.
    links : list of Link
        What is to happen.
    traffic, watch, sink
        Whose figures are shown.
    began : float
        When the demo began, by ``time.monotonic``.
    """

    def __init__(
        self, console: Console, links: list[Link], traffic: Traffic, watch: Watch, sink: MailSink, *, began: float
    ) -> None:
        self.links, self.traffic, self.watch, self.sink = links, traffic, watch, sink
        self.console = console
        self.status = ""
        """What is waited for."""
        self.times: dict[str, float] = {}
        """When each link had happened, in seconds."""
        self._began = began
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self.say("")
            self._live.stop()

    @property
    def complete(self) -> bool:
        """Whether every link has happened."""
        return len(self.times) == len(self.links)

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    def say(self, status: str) -> None:
        """Say what is waited for, once."""
        if status and status != self.status and not self._live:
            self.console.print(Text(f"{self.seconds:6.1f} s  {plain(status)} …", style="dim"))
        self.status = status
        self.draw()

    def draw(self) -> None:
        """Show how things stand."""
        for link in self.links:
            how = "" if link.what in self.times else link.happened()
            if how:
                self.times[link.what] = self.seconds
                if not self._live:
                    self.console.print(Text(f"{self.seconds:6.1f} s  {link.what}: {plain(how)}"), soft_wrap=True)
        if self._live:
            self._live.update(Group(*self._parts()), refresh=True)

    def _parts(self) -> list[RenderableType]:
        parts: list[RenderableType] = [self._figures(), Text(), self._chain()]
        if self.status:
            self._spinner.update(text=Text(f" {plain(self.status)} …", style="cyan"))
            parts += [Text(), self._spinner]
        return parts

    def _figures(self) -> Table:
        service, pairs, run = self.watch.service, self.watch.performance, self.watch.metrics
        accuracy = pairs.figures.get("accuracy") if pairs else None
        p99 = service.figures.get("latency_p99") if service else None
        cells = [
            ("seconds", f"{self.seconds:.0f}"),
            ("predictions", f"{len(self.traffic.times):,}"),
            ("late labels", f"{self.traffic.labels:,}"),
            ("accuracy", "-" if accuracy is None else f"{accuracy:.3f}"),
            ("p99", "-" if p99 is None else f"{p99 * 1000:.1f} ms"),
            ("training step", "-" if run is None else f"{run.step}"),
            ("mails", f"{len(self.sink.received)}"),
        ]
        table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
        for title, value in cells:
            table.add_column(title, justify="right", min_width=len(title) if len(title) > len(value) else None)
        table.add_row(*(Text(value, style="bold") for _, value in cells))
        return table

    def _chain(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
        table.add_column(width=1)
        table.add_column(justify="right", width=6)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for link in self.links:
            when = self.times.get(link.what)
            if when is None:
                table.add_row(Text("·", style="dim"), "", Text(link.what, style="dim"), "")
                continue
            mark, style = ("!", "yellow") if link.injected else ("✓", "green")
            how = Text(plain(link.happened()), style="dim")
            table.add_row(Text(mark, style=style), f"{when:.1f} s", Text(link.what, style=style), how)
        return table


def introduce(console: Console, plan: Plan, services: str) -> None:
    """Say what is real and what is not."""
    console.print(Text("MLMM demo", style="bold"))
    rows = Table.grid(padding=(0, 2))
    rows.add_row(
        Text("real", style="green"),
        Text(
            "a scikit-learn model behind FastAPI on 49,097 rows of shuttle sensors, labels that come "
            f"{plan.label_delay:g} s late, a trainer, {services}, mail over SMTP"
        ),
    )
    rows.add_row(
        Text("injected", style="yellow"),
        Text(
            f"after {plan.seconds_before:g} s sensor {plan.sensor} reads {plan.shift:g} standard deviations high; "
            f"from step {plan.collapse_at} on the labels that the trainer sees turn to noise"
        ),
    )
    console.print(rows)
    console.print()


def compiling(log: Path) -> bool:
    """Whether a worker's log says that it is not past its kernels yet."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return not any(done in text for done in ("kernels loaded", "kernels compiled"))
