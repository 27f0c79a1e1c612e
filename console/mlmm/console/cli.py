"""The ``mlmm`` command: options that all commands share, exit codes, and the list of commands.

Exit codes: 0 fine · 1 a check or the story failed · 2 usage, settings or a missing extra (named) · 3 a service can't
be reached. Each command is a module in `mlmm.console.commands`; what it needs is imported when it runs, so that
``--help`` and ``--version`` answer at once.
"""

from importlib.metadata import version
from typing import Annotated

import typer
from rich.text import Text

from mlmm.console.commands import (
    acls,
    alerting,
    config,
    dead_letters,
    demo,
    doctor,
    incidents,
    labels,
    replay,
    rules,
    state,
    stop,
    tail,
    topics,
    worker,
)
from mlmm.console.screen import err, out, plain
from mlmm.events.errors import MlmmError
from mlmm.runtime.errors import MissingExtra, ServiceUnavailable, SettingsError

__all__ = ["app", "main"]

app = typer.Typer(
    name="mlmm",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Machine-learning model monitoring: joins late labels, computes rolling performance, detects drift, mails the "
        "person on call and stops training runs that are going nowhere.\n\n"
        "First time? `mlmm demo` shows the whole of it in a minute. On your own services: `mlmm doctor`, then "
        "`mlmm topics create`, `mlmm worker` and `mlmm alerting`. On the past: `mlmm replay`.\n\n"
        "Settings come from mlmm.toml and from variables such as `MLMM_KAFKA__BOOTSTRAP_SERVERS=localhost:9092`; "
        "`mlmm config show` says what they are and where from."
    ),
    epilog=(
        "Exit codes: 0 fine, 1 a check or the story failed, 2 usage, settings or a missing extra, "
        "3 a service can't be reached."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"mlmm {version('mlmm')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del show_version


app.command("demo")(demo.demo)
app.command("worker")(worker.worker)
app.command("alerting")(alerting.alerting)
app.command("replay")(replay.replay)
app.add_typer(topics.app, name="topics")
app.add_typer(state.app, name="state")
app.command("tail")(tail.tail)
app.command("incidents")(incidents.incidents)
app.add_typer(dead_letters.app, name="dead-letters")
app.command("stop")(stop.stop)
app.add_typer(labels.app, name="labels")
app.command("doctor")(doctor.doctor)
app.command("acls")(acls.acls)
app.add_typer(config.app, name="config")
app.add_typer(rules.app, name="rules")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        app(args=arguments, prog_name="mlmm")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    except (SettingsError, MissingExtra) as error:
        return _fail(error, 2)
    except ServiceUnavailable as error:
        return _fail(error, 3)
    except MlmmError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _fail(error: MlmmError, code: int) -> int:
    for number, line in enumerate(str(error).splitlines()):
        err.print(Text("mlmm: " if number == 0 else "      ", style="bold red"), end="")
        err.print(Text(plain(line)))
    return code
