"""``mlmm topics create | check | adopt``."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import err, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlmm.runtime.topics import TopicResult

app = typer.Typer(no_args_is_help=True, help="Make the topics of the contract, or say what is missing or differs.")


@app.command()
def create(config: Config = None, as_json: AsJson = False) -> None:
    """Make all topics, with partitions, retention and replication from `[kafka]`.

    Run it as often as you like: what exists stays as it is. Exit code 1 where a topic differs from the settings, or
    could not be made.

    Other figures than those of mlmm.toml:

        MLMM_KAFKA__PARTITIONS=12 MLMM_KAFKA__REPLICATION_FACTOR=3 mlmm topics create
    """
    from mlmm.runtime import topics

    settings = load_settings(config)
    settings.require_kafka()
    with err.status("making topics …"):
        results = topics.create(settings)
    _show(results, as_json=as_json)


@app.command()
def check(config: Config = None, as_json: AsJson = False) -> None:
    """Say which topics are missing or differ from the settings (exit code 1), without changing anything."""
    from mlmm.runtime import topics

    settings = load_settings(config)
    settings.require_kafka()
    with err.status("looking at topics …"):
        results = topics.check(settings)
    _show(results, as_json=as_json)


@app.command()
def adopt(
    topic: Annotated[str, typer.Argument(help="serving, training or findings; or its full name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let stored states go on with a topic that was made anew or lost its end.

    Workers stop with an error that names this command when a topic is not the log that their state was made from. The
    states are kept; reading goes on at the first record that the topic has now. Stop the workers first.

        mlmm topics adopt serving
    """
    from mlmm.console.adopting import adopt_topic

    settings = load_settings(config)
    settings.require_kafka()
    logical = topic.removeprefix(f"{settings.topic_prefix}.")
    if not yes:
        typer.confirm(
            f"Let the states of deployment {settings.deployment} go on with {logical} as it is now?", abort=True
        )
    adopted = adopt_topic(settings, logical)
    if as_json:
        print_json(each._asdict() for each in adopted)
    elif adopted:
        print_table("Adopted", ("topic", "partition", "stood at", "goes on at", "epoch"), adopted)
    else:
        say(f"no state was ever made from {logical}: nothing to adopt")


def _show(results: "Sequence[TopicResult]", *, as_json: bool) -> None:
    if as_json:
        print_json({"topic": r.topic, "state": r.state, "details": r.details} for r in results)
    else:
        print_table("Topics", ("topic", "is", "details"), ((r.topic, r.state, r.details) for r in results))
    missing = sum(r.state == "missing" for r in results)
    other = sum(not r.ok for r in results) - missing
    if missing:
        say(f"{missing} missing: mlmm topics create")
    if other:
        say("What differs is for you to change (kafka-configs.sh, kafka-topics.sh), or change [kafka] in the settings.")
    raise typer.Exit(1 if missing or other else 0)
