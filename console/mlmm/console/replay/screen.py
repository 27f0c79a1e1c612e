"""What a person sees of a replay."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlmm.console.replay.run import ReplayResult, columns_of, replay_file
from mlmm.console.screen import err, print_json, print_table, say
from mlmm.events.types import Incident, Subject

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["run_command", "show"]

SHOWN = 20
"""Incidents that the screen lists; all of them are in the file."""


def run_command(
    settings: "Settings",
    file: Path,
    out: Path,
    columns: Mapping[str, Any],
    *,
    force: bool = False,
    as_json: bool = False,
) -> ReplayResult:
    """Replay ``file`` and show what came of it: what ``mlmm replay`` calls.

    Parameters
    ----------
    settings : Settings
        As loaded.
    file, out : Path
        As in `replay_file`.
    columns : Mapping
        Fields of `TableColumns`, None where not given.
    force : bool
        Whether ``out`` may hold something.
    as_json : bool
        One JSON object on standard output instead of tables.
    """
    with err.status("reading …") as status:
        result = replay_file(
            file,
            settings,
            out,
            columns=columns_of(columns),
            force=force,
            progress=lambda done: status.update(f"replayed {done:,} records …"),
        )
    if as_json:
        print_json([{**msgspec.to_builtins(result), "rows_per_second": result.rows_per_second, "out": str(out)}])
    else:
        show(result, out)
    return result


def show(result: ReplayResult, out: Path) -> None:
    """Print the summary of a replay."""
    found = result.findings
    rows: list[tuple[str, object]] = [
        ("rows" if result.source.endswith(("parquet", "csv", "csv.gz")) else "records", f"{result.rows:,}"),
        ("seconds", f"{result.seconds:.2f} ({result.rows_per_second:,.0f} a second)"),
        ("reports", f"{found.get('mlmm.report.v1', 0):,}"),
        ("drifts", f"{found.get('mlmm.drift.v1', 0):,}"),
        ("run states", f"{found.get('mlmm.run.state.v1', 0):,}"),
        ("incidents", f"{len(result.incidents):,}"),
        ("commands", f"{result.commands:,}"),
        ("dead letters", f"{result.dead_letter_count:,}"),
    ]
    drift = result.first_drift
    if drift is not None:
        place = f"{_subject(drift.subject)} {drift.series}, {drift.before:.4g} → {drift.after:.4g} ({drift.detector})"
        rows.append(("first drift", f"{_when(drift.event_time)}: {place}"))
    print_table(f"Replay of {result.source}", ("what", ""), rows)
    if result.incidents:
        print_table(
            "Incidents that fired",
            ("began", "ended", "rule", "severity", "of", "reason"),
            [_incident(each) for each in result.incidents[:SHOWN]],
        )
        if len(result.incidents) > SHOWN:
            say(f"… and {len(result.incidents) - SHOWN} more")
    for reason in result.dead_letters:
        say(f"dead letter: {reason}")
    for note in result.notes:
        say(note)
    say(f"findings.jsonl, incidents.jsonl and commands.jsonl are in {out}")


def _incident(incident: Incident) -> tuple[str, ...]:
    ended = "" if incident.ended is None else _when(incident.ended)
    reason = str(incident.evidence.get("was", incident.reason))
    return _when(incident.started), ended, incident.rule, incident.severity, _subject(incident.subject), reason


def _subject(subject: Subject) -> str:
    return " ".join(str(value) for value in msgspec.to_builtins(subject).values() if value)


def _when(time: int) -> str:
    return datetime.fromtimestamp(time / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
