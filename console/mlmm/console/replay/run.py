"""``mlmm replay``: a file in, three files and a summary out."""

import gzip
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec

from mlmm.console.replay.engine import Made, Replay, Replayer, tick
from mlmm.console.replay.errors import WrongInput
from mlmm.console.replay.lines import from_lines
from mlmm.console.replay.table import Table, TableColumns, read_table, records
from mlmm.console.replay.writing import check_folder, write
from mlmm.events import partition_of
from mlmm.events.types import Drift, Incident
from mlmm.runtime.settings import Settings

if TYPE_CHECKING:
    from mlmm.runtime.processor import Record

__all__ = ["ReplayResult", "replay_file", "replay_lines", "replay_table"]

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
TABLES = (".parquet", ".csv", ".csv.gz")
_BATCH = 2_000

Progress = Callable[[int], None]
"""Called now and then with the rows (or records) that are done."""


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay, for a screen or a script."""

    source: str
    rows: int
    """Rows of the table, or records of the log."""
    seconds: float
    """From the start to the last finding and command."""
    findings: dict[str, int]
    """Type → how many."""
    incidents: tuple[Incident, ...]
    """Each incident that fired, as it stood at the end."""
    commands: int
    dead_letters: tuple[str, ...]
    """Why, of the first ten records that could not be read."""
    dead_letter_count: int
    first_drift: Drift | None
    notes: tuple[str, ...] = ()
    """What a person should know about how the file was read."""

    @property
    def rows_per_second(self) -> float:
        """Rows (or records) a second."""
        return self.rows / self.seconds if self.seconds else 0.0


def replay_file(
    path: Path,
    settings: Settings,
    out: Path,
    *,
    columns: TableColumns | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ReplayResult:
    """Replay a file and write what came of it.

    Parameters
    ----------
    path : Path
        Events (``.jsonl``) or a table (``.parquet``, ``.csv``).
    settings : Settings
        Rules, windows, detectors.
    out : Path
        Folder for ``findings.jsonl``, ``incidents.jsonl``, ``commands.jsonl``: new or empty.
    columns : TableColumns, optional
        What the columns of a table are.
    force : bool
        Whether ``out`` may hold something.
    progress : callable, optional
        Told how much is done.

    Raises
    ------
    WrongInput
        What can't be read, or may not be written.
    """
    check_folder(out, force=force)
    begun = time.perf_counter()
    name = path.name.lower()
    if name.endswith(LINES):
        if columns is not None:
            raise WrongInput(f"{path}: holds events; --model and columns are for tables")
        replay, notes = replay_lines(path, settings, progress=progress)
        rows = replay.records
    elif name.endswith(TABLES):
        if columns is None:
            raise WrongInput(f"{path}: a table needs --model and --output-column")
        table = read_table(path, columns)
        replay, rows, notes = replay_table(table, settings, progress=progress), len(table.time), _notes(table)
    else:
        raise WrongInput(f"{path}: expected events ({', '.join(LINES)}) or a table ({', '.join(TABLES)})")
    seconds = time.perf_counter() - begun
    write(replay, out, force=force)
    return _result(str(path), rows, seconds, replay, notes)


def replay_table(table: Table, settings: Settings, *, progress: Progress | None = None) -> Replay:
    """Replay a table.

    After the last row comes one tick, late enough to close the windows that are open then; labels are not waited for.
    """
    replayer = Replayer(settings)
    partition = partition_of(table.head.model.encode(), settings.kafka.partitions)
    done = 0
    waiting = []
    for record in records(table, settings.serving):
        waiting.append(record)
        if len(waiting) == _BATCH:
            replayer.feed("serving", partition, waiting)
            done += len(waiting)
            waiting = []
            if progress:
                progress(done)
    serving = settings.serving
    last = max(replayer.end, waiting[-1].log_time if waiting else 0)
    after = last + round((max(serving.windows) + serving.allowed_lateness + serving.idle_after) * 1e6)
    replayer.feed("serving", partition, waiting)
    replayer.feed("serving", partition, [tick(done + len(waiting), after)])
    replayer.end = last  # that nothing comes after a table is not silence that a rule should speak of
    return replayer.finish()


def replay_lines(path: Path, settings: Settings, *, progress: Progress | None = None) -> tuple[Replay, tuple[str, ...]]:
    """Replay a log's records: no ticks are added to those that stand in it."""
    checked, others = _placed_by_murmur2(path, settings)
    replayer = Replayer(settings, checked=checked)
    waiting: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    done = 0
    with _open(path) as file:
        for topic, partition, record in from_lines(file, name=str(path)):
            if topic not in replayer.topics:
                continue
            batch = waiting[topic, partition]
            batch.append(record)
            if len(batch) == _BATCH:
                replayer.feed(topic, partition, batch)
                done += len(batch)
                batch.clear()
                if progress:
                    progress(done)
    for (topic, partition), batch in sorted(waiting.items()):
        replayer.feed(topic, partition, batch)
    if not replayer.records:
        found = f"only of {', '.join(sorted(others))}" if others else "no line"
        raise WrongInput(f"{path}: no records of {' or '.join(replayer.topics)}, {found}")
    notes = []
    if others:
        notes.append(f"passed over, since no processor reads them: {', '.join(sorted(others))}")
    if not checked:
        notes.append(
            f"keys do not lie as in topics of {settings.kafka.partitions} partitions (kafka.partitions): "
            "where they lie was not checked"
        )
    return replayer.finish(), tuple(notes)


def _placed_by_murmur2(path: Path, settings: Settings) -> tuple[bool, set[str]]:
    """Whether most keys lie where they would in topics of ``kafka.partitions``; and the topics that are not replayed.

    A worker knows how many partitions the topic has; a file does not tell. A few keys elsewhere are dead letters to
    both.
    """
    right: dict[tuple[int, bytes], bool] = {}
    others: set[str] = set()
    with _open(path) as file:
        for topic, partition, record in from_lines(file, name=str(path)):
            if topic not in ("serving", "training"):
                others.add(topic)
            elif record.key and (partition, record.key) not in right:
                right[partition, record.key] = partition_of(record.key, settings.kafka.partitions) == partition
    return sum(right.values()) * 2 > len(right) or not right, others


def _open(path: Path) -> IO[bytes]:
    try:
        file = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise WrongInput(f"{path}: {error.strerror or error}") from error
    return cast("IO[bytes]", file)


def _notes(table: Table) -> tuple[str, ...]:
    notes = []
    if table.left_out:
        notes.append(f"{table.left_out} rows without an output were left out")
    if table.unused:
        notes.append(f"no numbers, so not watched: {', '.join(table.unused)}")
    if not len(table.label):
        notes.append("no labels: there is nothing to compare the outputs with")
    return tuple(notes)


def _result(source: str, rows: int, seconds: float, replay: Replay, notes: tuple[str, ...]) -> ReplayResult:
    kinds: dict[str, int] = {}
    for made in replay.findings:
        kinds[made.output.type] = kinds.get(made.output.type, 0) + 1
    drift = next((made for made in replay.findings if made.output.type == "mlmm.drift.v1"), None)
    letters = [
        dict(made.output.headers).get("mlmm_error", b"").decode("utf-8", "replace") for made in replay.dead_letters[:10]
    ]
    return ReplayResult(
        source=source,
        rows=rows,
        seconds=seconds,
        findings=kinds,
        incidents=tuple(_fired(replay.incidents)),
        commands=len(replay.commands),
        dead_letters=tuple(letters),
        dead_letter_count=len(replay.dead_letters),
        first_drift=None if drift is None else msgspec.json.decode(drift.output.value, type=Drift),
        notes=notes,
    )


def _reason(letter: Made) -> str:
    return dict(letter.output.headers).get("mlmm_error", b"").decode("utf-8", "replace")


def _fired(entries: list[Made]) -> Iterator[Incident]:
    """Incidents that fired, each as it stood last."""
    last: dict[str, Incident] = {}
    fired: set[str] = set()
    for made in entries:
        incident = msgspec.json.decode(made.output.value, type=Incident)
        last[incident.incident_id] = incident
        if incident.state == "firing":
            fired.add(incident.incident_id)
    return (incident for name, incident in last.items() if name in fired)


def columns_of(options: Mapping[str, Any]) -> TableColumns | None:
    """Make the columns of what was typed; None where nothing of it was (but the task, which has a default)."""
    given = {name: value for name, value in options.items() if value is not None}
    if not given.keys() - {"task"}:
        return None
    for needed in ("model", "output_column"):
        if needed not in given:
            raise WrongInput(f"a table needs --{needed.replace('_', '-')}")
    return TableColumns(**given)
