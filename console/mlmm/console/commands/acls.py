"""``mlmm acls``: the rights that each role needs, as commands for Kafka and Redis."""

from typing import Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_json, print_line

Roles = Annotated[list[str] | None, typer.Argument(help="serving, trainer, worker, …; all where none is named.")]


def acls(roles: Roles = None, config: Config = None, as_json: AsJson = False) -> None:
    """Print the commands that let each role do what it needs, and nothing else.

    Topics, groups and keys are named as in the settings. In Kafka's commands, `$ADMIN` is how you reach the brokers; in
    Redis's (for redis-cli), `PASSWORD` is what you choose. What a stolen logon is good for: docs/security.md.

        ADMIN="--bootstrap-server broker:9092 --command-config admin.properties"
        mlmm acls worker alerting
    """
    from mlmm.runtime.rights import ROLES, kafka_commands, redis_commands

    settings = load_settings(config)
    known = {role.name: role for role in ROLES}
    unknown = [name for name in roles or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no role: one of {', '.join(known)}", param_hint="ROLES")
    chosen = [known[name] for name in roles or known]
    if as_json:
        print_json(
            {
                "role": role.name,
                "does": role.does,
                "kafka": list(kafka_commands(role, settings)),
                "redis": list(redis_commands(role, settings)),
            }
            for role in chosen
        )
        return
    for role in chosen:
        print_line(f"# {role.name}: {role.does}")
        for command in (*kafka_commands(role, settings), *redis_commands(role, settings)):
            print_line(command)
