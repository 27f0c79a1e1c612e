"""``mlmm labels send``: labels from a file, when a table is what a team has."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import err, print_json, say

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(no_args_is_help=True, help="Labels for predictions that were made.")

FLUSH_SECONDS = 60.0
ROWS = 50_000


@app.command()
def send(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or Parquet.")],
    model: Annotated[str, typer.Option(help="The model whose predictions these label.")],
    id_column: Annotated[str, typer.Option(help="Column with the prediction ids that were logged.")],
    label_column: Annotated[
        str, typer.Option(help="Column with the true class or number; empty cells are passed over.")
    ],
    time_column: Annotated[
        str | None, typer.Option(help="Column that says when each became known. Default: now.", show_default=False)
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send the labels in a file.

    Sending it twice does no harm: a label that says the same again changes nothing, another one corrects.

        mlmm labels send chargebacks.csv --model fraud --id-column order --label-column fraud
    """
    import numpy as np

    from mlmm.console.replay.columns import check_columns, identities, read_frame, times_of
    from mlmm.producers import Monitor

    settings = load_settings(config)
    settings.require_kafka()
    with err.status("reading …"):
        frame = read_frame(file)
        named = {"id_column": id_column, "label_column": label_column, "time_column": time_column}
        check_columns(file, frame, {option: name for option, name in named.items() if name})
        if file.suffix != ".parquet":
            frame[id_column] = _as_written(file, id_column)
        known = frame[frame[label_column].notna()]
        ids = [each.decode() for each in identities(file, known, id_column, np.arange(len(known)))]
        times = times_of(file, known, time_column, "--time-column").astype("datetime64[us]") if time_column else None
    monitor = Monitor(model, settings=settings, mode="kafka", when_full="block", on_error="raise")
    with err.status("sending …") as status:
        for start in range(0, len(known), ROWS):
            rows = slice(start, start + ROWS)
            labels = known[label_column].iloc[rows]
            monitor.log_labels(ids[rows], labels.to_numpy(), times=None if times is None else times[rows])
            status.update(f"sent {min(start + ROWS, len(known)):,} of {len(known):,} …")
        done = monitor.close(FLUSH_SECONDS)
    passed = len(frame) - len(known)
    if as_json:
        print_json([{"labels": len(known), "without_label": passed, "delivered": done, "model": model}])
    else:
        more = f"; {passed:,} rows without one passed over" if passed else ""
        say(f"{len(known):,} labels of {model} " + (f"delivered{more}" if done else "NOT all delivered: send it again"))
        if not done and monitor.stats().last_error:
            say(str(monitor.stats().last_error))
    raise typer.Exit(0 if done else 3)


def _as_written(file: Path, column: str) -> "pd.Series":
    """Read a column of a CSV file once more, as text: ``007`` is no number where it is an id."""
    import pandas as pd

    return pd.read_csv(file, usecols=[column], dtype=str)[column]
