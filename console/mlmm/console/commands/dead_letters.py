"""``mlmm dead-letters list | show | retry``: what workers refused, why, and sending it again."""

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import err, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from mlmm.console.letters import Chosen, Letter, Letters
    from mlmm.runtime.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Records that workers refused: look at them, send them again.")

OfTopic = Annotated[str, typer.Option("--topic", help="Only of this topic: serving, training, findings.")]
OfReason = Annotated[str, typer.Option("--reason", help="Only where the reason holds this text.")]
OfType = Annotated[str, typer.Option("--type", help="Only of this event type, such as mlmm.labels.v1.")]
Since = Annotated[str, typer.Option(help="Only those refused within so long: 10m, 2h, 7d; 'beginning' for all.")]
Before = Annotated[str, typer.Option(help="Only those refused longer ago than this: 10m, 2h.")]
Name = Annotated[str, typer.Argument(help="Id (or its beginning), or PARTITION:OFFSET.", metavar="LETTER")]
Names = Annotated[
    list[str] | None, typer.Argument(help="Ids, or PARTITION:OFFSET.", metavar="[LETTER]...", show_default=False)
]
SHOWN = 50


@app.command("list")
def list_(
    topic: OfTopic = "",
    reason: OfReason = "",
    type_: OfType = "",
    since: Since = "beginning",
    before: Before = "0s",
    summary: Annotated[bool, typer.Option("--summary", help="Count by topic, type and kind of reason.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Those that were sent again, too.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many, the latest.", show_default="50")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List what workers refused, the latest last: when, where it came from, of which type, and why.

    mlmm dead-letters list --since 1d --summary
    """
    from mlmm.console.letters import as_json as row_of
    from mlmm.console.letters import as_row, moment
    from mlmm.console.letters import summary as grouped

    settings = load_settings(config)
    chosen = _chosen(topic, reason, type_, since, before, retried=everything)
    settings.require_kafka()
    found = chosen.of(_read(settings).letters, _now())
    if summary:
        groups = grouped(found)
        if as_json:
            print_json(groups)
        elif groups:
            rows = ((g["count"], g["topic"], g["type"], g["reason"], moment(g["last"]), g["example"]) for g in groups)
            print_table("Dead letters", ("count", "topic", "type", "reason", "last", "such as"), rows)
    elif as_json:
        print_json(row_of(letter) for letter in found[-(limit or len(found) or 1) :])
    elif found:
        columns = ("id", "at", "when (UTC)", "read from", "type", "key", "attempt", "reason")
        print_table("Dead letters", columns, (as_row(letter) for letter in found[-(limit or SHOWN) :]))
        if len(found) > (limit or SHOWN):
            say(f"the latest {limit or SHOWN} of {len(found):,}: --limit shows more, --summary counts them")
    if not found:
        say("no dead letters" + (" of this kind" if chosen != _chosen("", "", "", "beginning", "0s") else ""))


@app.command()
def show(letter: Name, config: Config = None, as_json: AsJson = False) -> None:
    """Show one of them: reason, key, headers, and the value as far as it can be decoded.

    mlmm dead-letters show 1:4711
    """
    from mlmm.console.letters import as_json as row_of
    from mlmm.console.letters import as_json_record, describe, full_record

    settings = load_settings(config)
    settings.require_kafka()
    (found,) = _named(_read(settings), [letter])
    record = full_record(settings, found)
    if as_json:
        print_json([{**row_of(found), **as_json_record(record)}])
        return
    for line in describe(found, record):
        print_line(line)


@app.command()
def retry(
    letters: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were not sent again yet.")] = False,
    topic: OfTopic = "",
    reason: OfReason = "",
    type_: OfType = "",
    since: Since = "beginning",
    before: Before = "0s",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send records to the topic that they came from, once what was wrong with them or with the workers is mended.

    Name letters, or choose them by options, or take `--all`. No letter is sent twice, whoever asks for it; a record
    that fails again is a new dead letter, with the number of its attempt. Exit code 1 where some could not be sent.

        mlmm dead-letters retry --topic serving --reason "labels.v2" --since 2d
    """
    from mlmm.console.letters import as_json as row_of
    from mlmm.console.letters import retry as send_again

    settings = load_settings(config)
    chosen = _chosen(topic, reason, type_, since, before)
    filtered = chosen != _chosen("", "", "", "beginning", "0s")
    if bool(letters) + filtered + everything != 1:
        raise typer.BadParameter("name letters, or choose them by options, or take --all: one of the three")
    settings.require_kafka()
    read = _read(settings)
    found = _named(read, letters) if letters else chosen.of(read.letters, _now())
    if not found:
        say("no dead letters to send again")
        return
    counts = Counter(letter.topic or "?" for letter in found)
    where = ", ".join(f"{count:,} to {name}" for name, count in sorted(counts.items()))
    if not yes:
        typer.confirm(f"Send {len(found):,} records again ({where})?", abort=True, err=True)
    states: Counter[str] = Counter()
    with err.status("sending …"):
        for outcome in send_again(settings, read, found):
            states[outcome.state] += 1
            if as_json:
                print_json([{**row_of(outcome.letter), "state": outcome.state, "details": outcome.details}])
            elif not outcome.ok:
                say(f"{outcome.letter.place} {outcome.state}: {outcome.details}")
    say(", ".join(f"{count:,} {state}" for state, count in sorted(states.items())))
    raise typer.Exit(0 if states["sent"] + states["sent before"] == len(found) else 1)


def _chosen(topic: str, reason: str, type_: str, since: str, before: str, *, retried: bool = False) -> "Chosen":
    from mlmm.console.letters import Chosen
    from mlmm.console.reading import Since as HowFar
    from mlmm.runtime.durations import parse_duration

    try:
        oldest = HowFar.parse(since).seconds
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    try:
        youngest = parse_duration(before)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--before") from error
    return Chosen(topic=topic, reason=reason, type=type_, since=oldest, before=youngest, retried=retried)


def _read(settings: "Settings") -> "Letters":
    from mlmm.console.letters import read_letters

    with err.status("reading dead letters …") as status:
        return read_letters(settings, progress=lambda count: status.update(f"read {count:,} dead letters …"))


def _named(read: "Letters", given: list[str]) -> "list[Letter]":
    from mlmm.runtime.errors import MlmmError

    found = {}
    for name in given:
        matches = read.find(name)
        if not matches:
            raise MlmmError(f"no dead letter {name!r}: `mlmm dead-letters list` shows their ids and places")
        if len(matches) > 1:
            raise MlmmError(f"{name!r} is the beginning of {len(matches)} ids: give more of it")
        found[matches[0].id] = matches[0]
    return list(found.values())


def _now() -> int:
    return time.time_ns() // 1_000
