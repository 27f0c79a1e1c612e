"""``mlmm doctor``: reach each service, say what is wrong and what to do."""

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_json, print_table, say


def doctor(config: Config = None, as_json: AsJson = False) -> None:
    """Reach Kafka, Redis and SMTP as the workers would; say what is wrong and what to do.

    Exit code 0 when all is well, 1 when something is set up wrongly, 3 when a service can't be reached.
    """
    from mlmm.console.health import examine

    findings = examine(load_settings(config))
    if as_json:
        print_json(f.row() for f in findings)
    else:
        print_table(
            "mlmm doctor",
            ("what", "is", "details", "what to do"),
            ((f.what, f.state, f.details, f.remedy) for f in findings),
        )
    unreachable = any(f.state == "unreachable" for f in findings)
    wrong = any(f.state == "wrong" for f in findings)
    say("all is well" if not (unreachable or wrong) else "see 'what to do' above")
    raise typer.Exit(3 if unreachable else 1 if wrong else 0)
