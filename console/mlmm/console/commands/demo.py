"""``mlmm demo``: the whole of it in about a minute."""

from pathlib import Path
from typing import Annotated

import typer

from mlmm.console.commands.options import AsJson


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for settings, mails, checkpoints and logs.")] = Path(
        "mlmm-demo"
    ),
    kafka: Annotated[str, typer.Option(help="Use this broker (HOST:PORT) instead of the one that comes along.")] = "",
    redis: Annotated[str, typer.Option(help="Use this Redis (URL) instead of the one that comes along.")] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the demo's own topics and keys in the services given.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the whole of MLMM in about a minute; needs no Kafka, no Redis, no settings.

    A real model is served over HTTP, its labels come late, one sensor begins to read high; a trainer is doomed. You see
    drift found, incidents raised, mail sent and the trainer stopped with a checkpoint. Exit code 1 when any link of
    that chain did not happen. On services given it uses names of its own, and removes what it made.

        mlmm demo --kafka localhost:9092 --redis redis://localhost:6379/0
    """
    from mlmm.console.demo.story import tell

    raise typer.Exit(tell(out, kafka=kafka, redis=redis, keep=keep, as_json=as_json))
