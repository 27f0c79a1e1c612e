"""``mlmm doctor``: reach each service, say what is wrong and what to do."""

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import STYLES, err, print_json, print_line, say


def doctor(config: Config = None, as_json: AsJson = False) -> None:
    """Reach Kafka, Redis and SMTP as the workers would; say what is wrong and what to do.

    Exit code 0 when all is well, 1 when something is set up wrongly, 3 when a service can't be reached.
    """
    from mlmm.console.health import examine

    settings = load_settings(config)
    findings = []
    with err.status("looking …") as status:
        for finding in examine(settings):
            findings.append(finding)
            status.update(f"looking past {finding.what} …")
    if as_json:
        print_json(f.row() for f in findings)
    else:
        for f in findings:
            print_line(f"{f.state:<12} {f.what:<18} {f.details}", style=STYLES.get(f.state, ""))
            if f.remedy:
                print_line(f"{'':<12} {'what to do':<18} {f.remedy}")
    unreachable = any(f.state == "unreachable" for f in findings)
    wrong = any(f.state == "wrong" for f in findings)
    say("all is well" if not (unreachable or wrong) else "not all is well: see what to do")
    raise typer.Exit(3 if unreachable else 1 if wrong else 0)
