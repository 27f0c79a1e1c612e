"""``mlmm state show | upgrade``."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import err, print_json, print_table, say

if TYPE_CHECKING:
    from mlmm.console.upgrading import Standing

app = typer.Typer(no_args_is_help=True, help="The states that workers keep in Redis, and the layout they are kept in.")

_COLUMNS = ("processor", "partition", "next offset", "epoch", "layout", "newest")


@app.command()
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Say how the stored states stand: offset, epoch, layout, and the newest layout that this version knows."""
    from mlmm.console.upgrading import processors_of, show_states

    settings = load_settings(config)
    _print(show_states(settings, processors_of(settings)), as_json=as_json)


@app.command()
def upgrade(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for workers to do it.")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Rewrite all states in the newest layout, once every worker runs the new version.

    Until then workers of the new version write what those of the version before can read, so that both may run side by
    side and the new one may be taken back. Afterwards there is no way back: a worker that is too old is refused.
    Running workers start again once; nothing is lost. Exit code 1 where some states still wait for a worker.

        mlmm state upgrade
    """
    from mlmm.console.upgrading import processors_of, show_states, upgrade_states

    settings = load_settings(config)
    processors = processors_of(settings)
    old = [each for each in show_states(settings, processors) if each.layout != each.newest]
    if not old:
        say("all states are of the newest layout that this version knows: nothing to upgrade")
        raise typer.Exit
    if not yes:
        typer.confirm(
            f"Upgrade {len(old)} states of deployment {settings.deployment}? Older workers are refused from then on",
            abort=True,
        )
    with err.status("waiting for workers …"):
        states = upgrade_states(settings, processors, wait)
    _print(states, as_json=as_json)
    waiting = sum(each.layout != each.newest for each in states)
    if waiting:
        say(f"{waiting} wait for a worker of this version: they are rewritten when it claims them")
        raise typer.Exit(1)


def _print(states: "list[Standing]", *, as_json: bool) -> None:
    if as_json:
        print_json(each._asdict() for each in states)
    elif states:
        print_table("States", _COLUMNS, states)
    else:
        say("no state was ever made")
