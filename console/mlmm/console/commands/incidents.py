"""``mlmm incidents``: what is the matter, and who was told."""

from typing import Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_json, print_table, say

Start = Annotated[str, typer.Option(help="'beginning', or how far back: 2h, 7d.")]
All = Annotated[bool, typer.Option("--all", help="Also those that are resolved.")]


def incidents(since: Start = "7d", everything: All = False, config: Config = None, as_json: AsJson = False) -> None:
    """List incidents as they stand, latest change first, each with what became of its notifications.

    A mail that could not be delivered stands here with the reason in the mail server's words.
    """
    from datetime import UTC, datetime

    import msgspec

    from mlmm.console.incidents import incidents as found
    from mlmm.console.reading import MICROSECONDS, Since
    from mlmm.runtime.masking import mask

    settings = load_settings(config)
    settings.require_kafka()
    try:
        start = Since.parse(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    shown = [(i, told) for i, told in found(settings, start) if everything or i.state != "resolved"]
    if as_json:
        print_json({**msgspec.to_builtins(i), "told": [each._asdict() for each in told]} for i, told in shown)
        return
    if not shown:
        say("no incidents" if everything else "no open incidents (--all shows those that are resolved)")
        return
    rows = []
    for i, told in shown:
        began = datetime.fromtimestamp(i.started / MICROSECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S")
        subject = i.subject
        of = subject.model or subject.run or subject.host or f"{subject.topic}[{subject.partition}]"
        words = "; ".join(map(str, told)) or "nobody was to be told"
        rows.append((began, i.severity, i.state, i.rule, of, mask(i.reason), mask(words)))
    print_table("Incidents", ("began", "severity", "state", "rule", "of", "why", "told"), rows)
