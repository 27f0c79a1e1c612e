"""``mlmm worker``: the stream processors, kept running."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlmm.console.commands.options import Config, load_settings

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=1, max=256, help="Processes. Default: `workers` in `[worker]`.", show_default=False
    ),
]
Name = Annotated[
    str,
    typer.Option(
        help="Name of this machine among the workers; fixed across restarts. Default: the host name.",
        show_default=False,
    ),
]
Slot = Annotated[int | None, typer.Option(hidden=True, help="Run this one slot here, without a supervisor.")]
JsonLogs = Annotated[bool, typer.Option("--json", help="Log JSON, one object a line.")]

SLOW_WARM_UP = 5.0
"""Seconds from which on the kernels were compiled rather than read."""


def worker(
    workers: Workers = None, name: Name = "", config: Config = None, as_json: JsonLogs = False, slot: Slot = None
) -> None:
    """Run the stream processors: label join, rolling performance, drift, training runs.

    Start up to as many as there are partitions, on as many machines as you like; each reads its share. A worker that
    dies is started again at once and goes on exactly where its last commit was. SIGTERM ends in good order.

        mlmm worker --workers 3
    """
    from mlmm.runtime import logs

    settings = load_settings(config)
    settings.require_kafka()
    logs.configure(json=as_json)
    if slot is None:
        warn_unsigned(settings, "worker")
        count = workers or settings.worker.workers
        raise typer.Exit(supervise_slots("worker", count, name=name, config=config, as_json=as_json))
    from mlmm.runtime.harness import run_worker
    from mlmm.stream_processors import ServingProcessor, TrainingProcessor

    _warm_up()
    processors = (ServingProcessor(settings.serving), TrainingProcessor(settings.training))
    raise typer.Exit(run_worker(settings, processors, group="processors", slot=f"{slot_name(name)}-{slot}"))


def _warm_up() -> None:
    """Load the compiled kernels before any partition waits for them, and say so."""
    from mlmm.runtime import logs
    from mlmm.stream_processors import warm_up

    log = logs.get("worker")
    log.info("kernels load; the first time on a machine they are compiled, which takes half a minute")
    seconds = warm_up()
    log.info("kernels compiled" if seconds > SLOW_WARM_UP else "kernels loaded", extra={"seconds": round(seconds, 1)})


def warn_unsigned(settings: "Settings", who: str) -> None:
    """Say at the start, once for all its processes, that commands are open to forgers."""
    from mlmm.runtime import logs

    if settings.alerting.unsigned:
        logs.get(who).warning(settings.alerting.unsigned)


def slot_name(name: str) -> str:
    """Return the name given, or the host's."""
    if name:
        return name
    import socket

    return socket.gethostname()


def supervise_slots(command: str, count: int, *, name: str, config: Path | None, as_json: bool, first: int = 0) -> int:
    """Keep ``count`` processes of ``mlmm <command> --slot N`` running until told to stop; return the exit code.

    Slots are numbered from ``first`` on.
    """
    from mlmm.runtime.supervisor import supervise

    def make(slot: int) -> list[str]:
        line = [sys.executable, "-m", "mlmm.console", command, "--slot", str(first + slot), "--name", slot_name(name)]
        if config:
            line += ["--config", str(config)]
        return [*line, "--json"] if as_json else line

    return supervise(make, count)
