"""Gives users what a page says: the commands of ``docs/security.md``, carried out on the tests' own services."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

from tests.security.secured import SecuredKafka, SecuredRedis

__all__ = ["PAGE", "grant"]

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def grant(page: str, kafka: SecuredKafka, redis: SecuredRedis, passwords: dict[str, str]) -> None:
    """Carry out every ``kafka-acls.sh`` and ``ACL SETUSER`` line of a page.

    Parameters
    ----------
    page : str
        Markdown.
    kafka, redis
        Where.
    passwords : dict
        User → password in Redis, in place of ``PASSWORD``.
    """
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    try:
        bindings = [each for line in re.findall(r"^kafka-acls\.sh .*", page, re.MULTILINE) for each in _bindings(line)]
        assert bindings
        assert not admin.create_acls(bindings)["failed"]
    finally:
        admin.close()
    import redis as library

    client = library.Redis.from_url(redis.url)
    lines = re.findall(r"^ACL SETUSER .*", page, re.MULTILINE)
    assert lines
    for line in lines:
        words = line.split()
        client.execute_command(*(word.replace("PASSWORD", passwords[words[2]]) for word in words))
    client.close()


def _bindings(line: str) -> list[Any]:
    """Read a line of ``kafka-acls.sh`` as that tool does; what it does not know is an error."""
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--topic")
    parser.add_argument("--group")
    parser.add_argument("--resource-pattern-type", default="literal", choices=["literal", "prefixed"])
    given = parser.parse_args(shlex.split(line.replace("$ADMIN", ""))[1:])
    kind, name = (ResourceType.TOPIC, given.topic) if given.topic else (ResourceType.GROUP, given.group)
    pattern = ResourcePattern(kind, name, ACLResourcePatternType[given.resource_pattern_type.upper()])
    names = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper() for operation in given.operation]
    return [ACL(given.allow_principal, "*", ACLOperation[each], ACLPermissionType.ALLOW, pattern) for each in names]
