"""``mlmm alerting``: the rules, and the notifier beside them, kept running."""

import signal
import threading
from typing import Annotated, Literal

import typer

from mlmm.console.commands.options import Config, load_settings
from mlmm.console.commands.worker import JsonLogs, Name, Slot, slot_name, supervise_slots, warn_unsigned

RULES, NOTIFIER = 0, 1
"""The two processes: a slow mail server must delay neither incidents nor commands."""


Only = Annotated[
    Literal["rules", "notifier"] | None,
    typer.Option(help="Run only this half, under a logon of its own (docs/security.md).", show_default=False),
]


def alerting(
    only: Only = None, name: Name = "", config: Config = None, as_json: JsonLogs = False, slot: Slot = None
) -> None:
    """Run the rules over what the processors find, publish stop commands, and send the mail.

    Two processes: the rules (incidents and commands, exactly once) and the notifier (mail, at least once). What is
    watched and who is told stands in `[[rules]]` and `[notifiers.NAME]`; `mlmm rules check` reads them.
    """
    from mlmm.runtime import logs

    settings = load_settings(config)
    settings.require_kafka()
    logs.configure(json=as_json)
    if slot is None:
        warn_unsigned(settings, "alerting")
        first = NOTIFIER if only == "notifier" else RULES
        raise typer.Exit(
            supervise_slots("alerting", 1 if only else 2, first=first, name=name, config=config, as_json=as_json)
        )
    if slot == NOTIFIER:
        from mlmm.alerting import run_notifier

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        raise typer.Exit(run_notifier(settings, stop))
    from mlmm.alerting import AlertingProcessor
    from mlmm.runtime.harness import run_worker

    processors = (AlertingProcessor(settings),)
    raise typer.Exit(run_worker(settings, processors, group="alerting", slot=slot_name(name)))
