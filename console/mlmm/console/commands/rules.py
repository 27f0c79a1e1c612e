"""``mlmm rules check``: read the rules as alerting would."""

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="The rules that raise incidents.")


@app.command()
def check(config: Config = None, as_json: AsJson = False) -> None:
    """Read `[[rules]]` and `[notifiers.NAME]` as alerting would; exit code 1 where something can't work.

    To try rules on the past: `mlmm replay`.
    """
    from mlmm.alerting import check_rules

    settings = load_settings(config)
    found = check_rules(settings)
    if as_json:
        print_json({"rule": p.rule, "level": p.level, "text": p.text} for p in found)
    elif found:
        print_table("Rules", ("rule", "", "what"), ((p.rule, p.level, p.text) for p in found))
    problems = sum(p.level == "problem" for p in found)
    say(f"{len(settings.rules)} rules, {problems or 'no'} problem{'s' * (problems != 1)}")
    raise typer.Exit(1 if problems else 0)
