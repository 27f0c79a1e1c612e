"""What each role may do in Kafka and Redis: the least that it needs, as ready commands.

A role is a kind of process with a logon of its own. `docs/security.md` says what whoever steals one can do; a test runs
every role with exactly these rights, on a Kafka and a Redis that deny all else.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from mlmm.events.topics import Topics

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["ROLES", "Right", "Role", "kafka_commands", "kafka_rights", "page", "redis_commands", "redis_rules"]

Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]


class Role(NamedTuple):
    """A kind of process."""

    name: str
    does: str
    topics: tuple[tuple[str, tuple[Operation, ...]], ...] = ()
    """Logical topic, or ``"*"`` for all of ours → what it does there. Read and Write bring Describe with them."""
    group: str = ""
    """Consumer group behind the deployment's name, where it is a member of one."""
    processors: tuple[str, ...] = ()
    """Processors whose state it keeps in Redis."""
    redis: tuple[str, ...] = ()
    """Commands that it gives to Redis."""


_CONNECT = ("+ping", "+hello", "+info")
_KEEP = (
    *_CONNECT, "+script|load", "+evalsha", "+exists", "+type", "+unlink", "+rename", "+hmget", "+hget", "+hset",
    "+hsetnx", "+hdel", "+hincrby", "+hscan", "+lrange", "+lindex", "+llen", "+ltrim", "+rpush",
)  # fmt: skip
"""A state kept, and rewritten in another layout."""
_MOVE = ("+get", "+set", "+del")
"""The plan of a repartitioning."""
_READ_WRITE: tuple[Operation, ...] = ("Read", "Write")

ROLES: tuple[Role, ...] = (
    Role("serving", "logs predictions and labels, `mlmm labels send`", (("serving", ("Write",)),)),
    Role(
        "trainer",
        "logs a run, obeys commands",
        (("training", ("Write",)), ("commands", ("Read",))),
    ),
    Role(
        "worker",
        "`mlmm worker`; writes ticks into its inputs",
        (
            ("serving", _READ_WRITE),
            ("training", _READ_WRITE),
            ("findings", ("Write",)),
            ("dead-letters", ("Write",)),
        ),
        ".processors",
        ("serving", "training"),
        _KEEP,
    ),
    Role(
        "alerting",
        "the rules of `mlmm alerting`; writes ticks into its input",
        (
            ("findings", _READ_WRITE),
            ("incidents", ("Write",)),
            ("notifications", ("Write",)),
            ("commands", ("Write",)),
            ("dead-letters", ("Write",)),
        ),
        ".alerting",
        ("alerting",),
        _KEEP,
    ),
    Role(
        "notifier",
        "the mail of `mlmm alerting`",
        (("notifications", ("Read",)), ("notification-outcomes", _READ_WRITE)),
        "-notifier",
    ),
    Role(
        "console",
        "`mlmm tail`, `mlmm doctor`, `mlmm topics check`",
        (("*", ("Read", "DescribeConfigs")),),
        redis=_CONNECT,
    ),
    Role(
        "operator",
        "a person: `mlmm topics create`, `mlmm topics adopt`, `mlmm state upgrade`, `mlmm stop`, and what console does",
        (("*", ("Read", "Create", "DescribeConfigs")), ("commands", ("Write",))),
        processors=("serving", "training", "alerting"),
        redis=(*_KEEP, *_MOVE),
    ),
)
"""Every role there is."""


class Right(NamedTuple):
    """Operations on one resource of Kafka."""

    resource: Literal["topic", "group"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False
    """Whether ``name`` is what names begin with."""


def kafka_rights(role: Role, settings: "Settings") -> Iterator[Right]:
    """Yield what a role is to be granted; all else is denied by default."""
    topics = Topics(settings.topic_prefix)
    for logical, operations in role.topics:
        if logical == "*":
            yield Right("topic", f"{settings.topic_prefix}.", operations, prefixed=True)
        else:
            yield Right("topic", topics.full(logical), operations)
    if role.group:
        yield Right("group", f"{settings.deployment}{role.group}", ("Read",))


def kafka_commands(role: Role, settings: "Settings", user: str = "") -> Iterator[str]:
    """Yield a command a right; ``user`` is the role's name where none is given.

    ``$ADMIN`` is how you reach the brokers: ``--bootstrap-server host:9092 --command-config admin.properties``.
    """
    for right in kafka_rights(role, settings):
        operations = " ".join(f"--operation {operation}" for operation in right.operations)
        pattern = " --resource-pattern-type prefixed" if right.prefixed else ""
        principal = f"--allow-principal User:{user or role.name}"
        yield f"kafka-acls.sh $ADMIN --add {principal} {operations} --{right.resource} {right.name}{pattern}"


def redis_rules(role: Role, settings: "Settings") -> tuple[str, ...]:
    """Return the rules of a role's user, who begins without any (``reset``); none where it needs no Redis."""
    if not role.redis:
        return ()
    name = settings.deployment
    keys = [f"~{{{name}:{processor}:*" for processor in role.processors]
    if not role.group and role.processors:
        keys += [f"~{name}:repartition:{processor}" for processor in role.processors]
    if role.group:
        keys.append(f"~{name}:slot:{name}{role.group}:*")
    return (*keys, *role.redis)


def redis_commands(role: Role, settings: "Settings", user: str = "") -> Iterator[str]:
    """Yield the ``ACL SETUSER`` command, with ``PASSWORD`` where the password belongs."""
    rules = redis_rules(role, settings)
    if rules:
        yield f"ACL SETUSER {user or role.name} reset on >PASSWORD {' '.join(rules)}"


def page() -> str:
    """Return the commands of all roles with the default names, as they stand in ``docs/security.md``."""
    from mlmm.runtime.settings import Settings  # noqa: PLC0415 - settings need not be loaded to name a role

    settings = Settings()
    parts = []
    for role in ROLES:
        kafka = "\n".join(kafka_commands(role, settings))
        parts.append(f"**{role.name}**: {role.does}.\n\n```sh\n{kafka}\n```\n")
        redis = "\n".join(redis_commands(role, settings))
        parts.append(f"```\n{redis}\n```\n" if redis else "No Redis.\n")
    return "\n".join(parts)
