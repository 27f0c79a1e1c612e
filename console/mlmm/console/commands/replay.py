"""``mlmm replay``: the same processors and rules over a file, without Kafka."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings

TABLE = "A table's columns"

Source = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="Events (.jsonl) or a table (.csv, .parquet).")
]
Found = Annotated[Path, typer.Option("--out", "-o", help="Folder for findings.jsonl, incidents.jsonl, commands.jsonl.")]
Name = Annotated[str | None, typer.Option(help="The model's name.", show_default=False, rich_help_panel=TABLE)]
Task = Annotated[
    Literal["binary", "multiclass", "regression"], typer.Option(help="Kind of model.", rich_help_panel=TABLE)
]
Time = Annotated[
    str | None, typer.Option(help="When each prediction was made.", show_default=False, rich_help_panel=TABLE)
]
Answer = Annotated[str | None, typer.Option(help="The model's answer.", show_default=False, rich_help_panel=TABLE)]
Truth = Annotated[str | None, typer.Option(help="The truth.", show_default=False, rich_help_panel=TABLE)]
Score = Annotated[
    str | None, typer.Option(help="Probability of the positive class.", show_default=False, rich_help_panel=TABLE)
]
Known = Annotated[
    str | None, typer.Option(help="When each label became known.", show_default=False, rich_help_panel=TABLE)
]
Ids = Annotated[str | None, typer.Option(help="Prediction ids.", show_default=False, rich_help_panel=TABLE)]
Positive = Annotated[
    str | None, typer.Option(help="The positive class; 1 by default.", show_default=False, rich_help_panel=TABLE)
]
FailOn = Annotated[Literal["incident", "nothing"], typer.Option(help="For CI: exit code 1 where an incident fires.")]


def replay(
    file: Source,
    out: Found,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    fail_on: FailOn = "nothing",
    model: Name = None,
    task: Task = "binary",
    positive: Positive = None,
    time_column: Time = None,
    output_column: Answer = None,
    label_column: Truth = None,
    score_column: Score = None,
    label_time_column: Known = None,
    id_column: Ids = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    r"""Run the processors and the rules over the past: what would MLMM have said. Needs no Kafka and no Redis.

    A file of events:

        mlmm tail serving --since 7d --no-follow --json > events.jsonl
        mlmm replay events.jsonl --out found

    A table, whose numeric columns are features unless an option names them:

        mlmm replay data.parquet --model fraud --time-column ts \
            --output-column pred --label-column y --out found

    In CI, on last week's events, with the rules of this branch:

        mlmm replay events.jsonl --out found --config mlmm.toml --fail-on incident
    """
    from mlmm.console.replay import run_command

    columns = {
        "model": model, "task": task, "positive": positive, "time_column": time_column, "output_column": output_column,
        "label_column": label_column, "score_column": score_column, "label_time_column": label_time_column,
        "id_column": id_column,
    }  # fmt: skip
    result = run_command(load_settings(config), file, out, columns, force=force, as_json=as_json)
    raise typer.Exit(1 if fail_on == "incident" and result.incidents else 0)
