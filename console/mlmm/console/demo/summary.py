"""What had happened when the demo ended: as a file, as JSON, as a table."""

import email
import email.policy
import json
import textwrap
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlmm.console.demo.links import Link
from mlmm.console.demo.sink import MailSink
from mlmm.console.demo.traffic import Traffic
from mlmm.console.demo.watch import Watch
from mlmm.console.screen import plain

__all__ = ["Found", "Summary", "show", "sum_up"]


class Found(msgspec.Struct, frozen=True):
    """A drift that was found."""

    series: str
    detector: str
    predictions_after: int
    """Predictions between the injection and the alarm; negative before the injection."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; ``summary.json`` holds it."""

    predictions: int
    labels: int
    seconds: float
    predictions_per_second: float
    accuracy: float | None
    """Of the last window."""
    drifts: tuple[Found, ...]
    false_alarms: tuple[Found, ...]
    """Drifts found before anything was injected."""
    incidents: tuple[str, ...]
    mails: tuple[str, ...]
    """Files, in the order in which they came."""
    command: str | None
    acknowledgements: tuple[str, ...]
    stop_seconds: float | None
    """From the cause of the stop command to its last acknowledgement."""
    checkpoint: str | None
    links: dict[str, float]
    """Link → second in which it had happened."""
    missing: tuple[str, ...]
    """Links that did not happen."""
    files: str

    @property
    def held(self) -> bool:
        """Whether the whole chain did, and nothing was found where there was nothing."""
        return not self.missing and not self.false_alarms


def sum_up(
    folder: Path,
    traffic: Traffic,
    watch: Watch,
    sink: MailSink,
    links: list[Link],
    times: dict[str, float],
    seconds: float,
) -> Summary:
    """Look back, and write ``summary.json``."""
    found = [Found(d.series, d.detector, traffic.since_injection(d.event_time)) for d in watch.drifts]
    early = [d.event_time < (traffic.injected_at or d.event_time + 1) for d in watch.drifts]
    completed = next((answer for answer in watch.answers if answer.state == "completed"), None)
    command = watch.commands[0] if watch.commands else None
    summary = Summary(
        predictions=len(traffic.times),
        labels=traffic.labels,
        seconds=round(seconds, 1),
        predictions_per_second=round(len(traffic.times) / traffic.seconds, 1) if traffic.seconds else 0.0,
        accuracy=watch.performance.figures.get("accuracy") if watch.performance else None,
        drifts=tuple(each for each, is_early in zip(found, early, strict=True) if not is_early),
        false_alarms=tuple(each for each, is_early in zip(found, early, strict=True) if is_early),
        incidents=tuple(sorted({incident.rule for incident in watch.fired.values()})),
        mails=tuple(str(mail.file.absolute()) for mail in sink.received),
        command=command.command_id if command else None,
        acknowledgements=tuple(answer.state for answer in watch.answers),
        stop_seconds=round((completed.time - command.issued_at) / 1e6, 3) if completed and command else None,
        checkpoint=completed.checkpoint if completed else None,
        links={what: round(when, 1) for what, when in times.items()},
        missing=tuple(link.what for link in links if link.what not in times),
        files=str(folder.absolute()),
    )
    (folder / "summary.json").write_text(json.dumps(msgspec.to_builtins(summary), indent=1) + "\n")
    return summary


def show(console: Console, summary: Summary) -> None:
    """Print it for people."""
    table = Table(
        title="What happened", title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rate = f"{summary.predictions_per_second:,.0f} a second"
    table.add_row("events", f"{summary.predictions:,} predictions over HTTP ({rate}), {summary.labels:,} late labels")
    for drift in summary.drifts:
        table.add_row(
            "drift", f"{drift.series}, {drift.predictions_after} predictions after it began ({drift.detector})"
        )
    for drift in summary.false_alarms:
        table.add_row("false alarm", Text(f"{drift.series} ({drift.detector})", style="bold red"))
    if not summary.false_alarms:
        table.add_row("false alarms", "none before that")
    if summary.command:
        took = "" if summary.stop_seconds is None else f", {summary.stop_seconds:.2f} s after the cause"
        table.add_row("command", f"stop: {', '.join(summary.acknowledgements) or 'no answer'}{took}")
    if summary.checkpoint:
        table.add_row("checkpoint", _inside(summary.checkpoint.removeprefix("file://"), summary.files))
    for mail in summary.mails:
        table.add_row("mail", _inside(mail, summary.files))
    table.add_row("files", f"in {summary.files}: summary.json, mlmm.toml, mail/, checkpoints/, logs/")
    console.print()
    console.print(table)
    accuracy = next((mail for mail in summary.mails if "accuracy" in mail), None)
    if accuracy:
        console.print(Text("\nOne of the mails as it came, without its picture:", style="dim"))
        console.print(Text(textwrap.indent(_body(Path(accuracy)), "  │ ", lambda _: True)))


def _inside(path: str, folder: str) -> str:
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def _body(file: Path) -> str:
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    body = message.get_body(("plain",))
    text = body.get_content() if body else ""
    return "\n".join(plain(line) for line in [f"Subject: {message['Subject']}", "", *text.strip().splitlines()])
