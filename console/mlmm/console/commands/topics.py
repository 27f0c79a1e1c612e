"""``mlmm topics create | check | adopt | repartition``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import err, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlmm.runtime.settings import Settings
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


Inputs = Annotated[
    list[str] | None,
    typer.Argument(help="serving, training or findings, or their full names. Default: all three.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def adopt(topics: Inputs = None, yes: Yes = False, config: Config = None, as_json: AsJson = False) -> None:
    """Let stored states go on with a topic that was made anew or lost its end.

    Workers end with an error that names this command when a topic is not the log that their state was made from. The
    states are kept. A topic that was made anew is read from its first record, one that lost its end from the first
    record that is newer than the state; one that is what it was is left alone. Stop the workers first.

        mlmm topics adopt serving
    """
    from mlmm.console.adopting import adopt_topic

    settings, names = _inputs(topics, config)
    if not yes:
        typer.confirm(
            f"Let the states of deployment {settings.deployment} go on with {', '.join(names)} as now?", abort=True
        )
    adopted = [each for name in names for each in adopt_topic(settings, name)]
    if as_json:
        print_json(each._asdict() for each in adopted)
    elif adopted:
        print_table("Adopted", ("topic", "partition", "stood at", "goes on at", "epoch", "the topic"), adopted)
    else:
        say(f"{', '.join(names)}: still the logs that the states were made from, nothing to adopt")


@app.command()
def repartition(
    topics: Inputs = None,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", "-n", min=1, help="Give the topics so many first.", show_default=False),
    ] = None,
    yes: Yes = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let stored states follow their keys when topics were given more partitions.

    Workers end with an error that names this command, since murmur2 now places keys elsewhere. Each key's state is
    moved to the partition where its records go now; what was not read yet is folded on the way, in the order of the
    log's time, so that nothing is lost and nothing counted twice. Stop the workers first; producers may go on. Then set
    `partitions` in `[kafka]` to the new number.

        mlmm topics repartition serving training --partitions 12
    """
    from mlmm.console.commands.worker import warn_unsigned
    from mlmm.console.repartitioning import repartition_topic
    from mlmm.console.topic_log import TopicLog
    from mlmm.events import Topics

    settings, names = _inputs(topics, config)
    if not yes:
        typer.confirm(
            f"Move the states of deployment {settings.deployment} made from {', '.join(names)}? (workers are stopped)",
            abort=True,
        )
    if "findings" in names:
        warn_unsigned(settings, "mlmm.repartition")
    moved = []
    with err.status("moving states …"):
        for name in names:
            if partitions:
                TopicLog(settings, Topics(settings.topic_prefix).full(name)).grow(partitions)
            moved += repartition_topic(settings, name)
    if as_json:
        print_json(each._asdict() for each in moved)
    elif moved:
        print_table("Moved", ("topic", "partition", "goes on at", "cells", "read on the way", "epoch"), moved)
        say(f"Now set partitions = {max(each.partition for each in moved) + 1} in [kafka] and start the workers.")
    else:
        say(f"{', '.join(names)}: states and topics have the same number of partitions, nothing to move")


def _inputs(topics: list[str] | None, config: Path | None) -> "tuple[Settings, list[str]]":
    from mlmm.console.adopting import READERS, logical_name

    settings = load_settings(config)
    settings.require_kafka()
    return settings, [logical_name(settings, topic) for topic in topics or READERS]


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
