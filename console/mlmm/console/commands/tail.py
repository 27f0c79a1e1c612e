"""``mlmm tail``: see what goes over a topic."""

import sys
from typing import Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_line, write_json

Topic = Annotated[str, typer.Argument(help="serving, training, findings, incidents, commands, dead-letters, …")]
Start = Annotated[str, typer.Option(help="'beginning', 'end' (new records only), or how far back: 10m, 2h, 7d.")]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more, or leave at the end of the log.")]
Key = Annotated[str | None, typer.Option(help="Only records of this key (a model, a run id).", show_default=False)]
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="Leave after so many events.", show_default=False)
]


def tail(
    topic: Topic,
    since: Start = "end",
    follow: Follow = True,
    key: Key = None,
    limit: Limit = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print the events of a topic as they come, one a line. Ctrl-C leaves.

    What MLMM found of one model in the last hour, and then as it finds it:

        mlmm tail findings --since 1h --key fraud

    A file of events that `mlmm replay` reads:

        mlmm tail serving --since 7d --no-follow --json > events.jsonl
    """
    from mlmm.console.reading import Since, describe, read
    from mlmm.console.replay import to_lines
    from mlmm.events import Topics

    settings = load_settings(config)
    topics = Topics(settings.topic_prefix)
    names = [spec.logical for spec in Topics.ALL]
    logical = topic.removeprefix(f"{settings.topic_prefix}.")
    if logical not in names:
        raise typer.BadParameter(f"{topic!r} is no topic: one of {', '.join(names)}", param_hint="TOPIC")
    try:
        start = Since.parse(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    settings.require_kafka()
    printed = 0
    for partition, record in read(settings, topics.full(logical), since=start, follow=follow):
        if key is not None and record.key.decode(errors="replace") != key:
            continue
        for line in to_lines(logical, partition, record) if as_json else describe(partition, record):
            (write_json if as_json else print_line)(line)
            printed += 1
            if printed == limit:
                return
        sys.stdout.flush()
