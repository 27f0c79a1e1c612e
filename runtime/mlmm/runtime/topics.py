"""Makes the topics of the contract, and says what is missing or differs from the settings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlmm.events.topics import Topics, TopicSpec
from mlmm.runtime.connections import kafka_admin, kafka_errors
from mlmm.runtime.errors import ServiceUnavailable

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["Difference", "TopicResult", "check", "create", "wanted_configuration"]

_TOPIC_EXISTS = 36
_NOT_ALLOWED = 29
"""Kafka's codes for a topic."""
_COMPACTED_RETENTION = 30 * 86400.0
"""Seconds that incidents and outcomes of notifications are kept at least, longer than what they speak of."""
_MILLISECONDS = 1000
_COMMAND_RETENTION = 2 * 86400.0
"""Trainers read commands of the last 24 h: they are kept for no less than twice that."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not as the settings want it."""

    what: str
    """``"partitions"``, ``"replication_factor"`` or the name of a topic configuration."""
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} is {self.found}, wanted {self.wanted}"


class TopicResult(msgspec.Struct, frozen=True):
    """How one topic stands."""

    topic: str
    """Full name."""
    state: Literal["created", "exists", "differs", "missing", "failed", "refused"]
    """``"refused"``: this logon may not see it, or not its configuration."""
    differences: tuple[Difference, ...] = ()
    error: str = ""
    """What the broker said, when it could not be made."""

    @property
    def ok(self) -> bool:
        """Whether it is there and as wanted."""
        return self.state in ("created", "exists")

    @property
    def details(self) -> str:
        """Differences, or what the broker said, in a line; empty when there is nothing to say."""
        return self.error or "; ".join(str(difference) for difference in self.differences)


def wanted_configuration(topic: TopicSpec, settings: "Settings") -> dict[str, str]:
    """Return the topic configuration that the settings want, by Kafka's names.

    ``LogAppendTime`` is no matter of taste: log time is the clock of every processor.
    """
    retention = settings.kafka.retention
    if topic.logical == "commands":
        retention = max(retention, _COMMAND_RETENTION)
    if topic.compacted:  # each incident and notification has a key of its own: compaction alone would keep all for ever
        retention = max(2 * retention, _COMPACTED_RETENTION)
    return {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "compact,delete" if topic.compacted else "delete",
        "retention.ms": str(round(retention * _MILLISECONDS)),
    }


def create(settings: "Settings") -> list[TopicResult]:
    """Make the topics that are missing; those that exist stay as they are, and differences are told.

    Raises
    ------
    SettingsError
        When no broker is configured.
    ServiceUnavailable
        When no broker answers.
    """
    return _with_admin(settings, make=True)


def check(settings: "Settings") -> list[TopicResult]:
    """Say which topics exist, differ or are missing; changes nothing. Errors as in `create`."""
    return _with_admin(settings, make=False)


def _with_admin(settings: "Settings", *, make: bool) -> list[TopicResult]:
    if settings.kafka.api_version:
        remedy = "It makes its topics itself; set api_version in [kafka] for the embedded broker only"
        raise ServiceUnavailable("Kafka", settings.kafka.bootstrap_servers, "it knows no admin calls", remedy=remedy)
    admin = kafka_admin(settings)
    try:
        with kafka_errors(settings.kafka):
            return _Desk(admin, settings).results(make=make)
    finally:
        admin.close()


class _Desk:
    """Asks and orders through one admin client."""

    def __init__(self, admin: Any, settings: "Settings") -> None:
        self._admin = admin
        self._settings = settings
        names = Topics(settings.topic_prefix)
        self._specs = {names.full(spec.logical): spec for spec in names.ALL}
        self._hidden: set[str] = set()
        """Topics that this logon may not see."""

    def results(self, *, make: bool) -> list[TopicResult]:
        """Return a result a topic, in the order of the contract."""
        found = self._found()
        absent = [name for name in self._specs if name not in found]
        made = self._make(absent) if make else {}
        raced = [name for name, result in made.items() if result.state == "exists"]
        if raced:  # another process made it between our look and our order
            found = self._found()
        configurations = self._configurations([name for name in self._specs if name in found])
        results = []
        for name, spec in self._specs.items():
            if name in found:
                results.append(self._compare(name, spec, found[name], configurations.get(name, {})))
            elif name in made:
                results.append(made[name])
            else:
                results.append(_refused(name, "Describe") if name in self._hidden else TopicResult(name, "missing"))
        return results

    def _found(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return name → partitions of our topics that exist."""
        described = self._admin.describe_topics(list(self._specs))
        self._hidden = {topic["name"] for topic in described if topic["error_code"] == _NOT_ALLOWED}
        return {topic["name"]: topic["partitions"] for topic in described if topic["error_code"] == 0}

    def _make(self, names: list[str]) -> dict[str, TopicResult]:
        if not names:
            return {}
        kafka = self._settings.kafka
        orders = {
            name: {
                "num_partitions": kafka.partitions,
                "replication_factor": kafka.replication_factor,
                "configs": wanted_configuration(self._specs[name], self._settings),
            }
            for name in names
        }
        answers = self._admin.create_topics(orders, raise_errors=False)["topics"]
        made = {answer["name"]: _made(answer) for answer in answers}
        created = [name for name, result in made.items() if result.state == "created"]
        self._admin.wait_for_topics(created)  # an answer comes before the leaders are elected
        return made

    def _configurations(self, names: list[str]) -> dict[str, Mapping[str, Mapping[str, Any]]]:
        from kafka.admin import ConfigFilterType, ConfigResource, ConfigResourceType  # noqa: PLC0415 - when used

        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        described = self._admin.describe_configs(resources, config_filter=ConfigFilterType.ALL)
        found: dict[str, Mapping[str, Mapping[str, Any]]] = described.get("topic", {})
        return found

    def _compare(
        self,
        name: str,
        spec: TopicSpec,
        partitions: list[Mapping[str, Any]],
        configuration: Mapping[str, Mapping[str, Any]],
    ) -> TopicResult:
        if not configuration:
            return _refused(name, "DescribeConfigs")
        kafka = self._settings.kafka
        copies = len(partitions[0]["replica_nodes"]) if partitions else 0
        pairs = [
            ("partitions", str(kafka.partitions), str(len(partitions))),
            ("replication_factor", str(kafka.replication_factor), str(copies)),
        ]
        for key, wanted in wanted_configuration(spec, self._settings).items():
            pairs.append((key, wanted, str(configuration.get(key, {}).get("value"))))
        differences = tuple(Difference(*pair) for pair in pairs if pair[1] != pair[2])
        return TopicResult(name, "differs" if differences else "exists", differences)


def _refused(name: str, operation: str) -> TopicResult:
    return TopicResult(name, "refused", error=f"this logon may not look at it: it needs {operation} (docs/security.md)")


def _made(answer: Mapping[str, Any]) -> TopicResult:
    name, code = answer["name"], answer["error_code"]
    if code == 0:
        return TopicResult(name, "created")
    if code == _TOPIC_EXISTS:
        return TopicResult(name, "exists")
    return TopicResult(name, "failed", error=answer["error_message"] or f"Kafka's error {code}")
