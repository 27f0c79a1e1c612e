"""The settings as one object."""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from mlmm.runtime.errors import Problem, SettingsError
from mlmm.runtime.settings.rules import AlertingSettings, Notifier, Rule
from mlmm.runtime.settings.section import Section, closest
from mlmm.runtime.settings.sections import (
    EmitterSettings,
    KafkaSettings,
    RedisSettings,
    ServingSettings,
    SmtpSettings,
    TrainingSettings,
    WorkerSettings,
)

__all__ = ["Settings"]

_PREFIX = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,60}$")]


class Settings(Section, frozen=True, kw_only=True, dict=True):
    """All settings. ``Settings()`` has the defaults; `load` reads files and environment.

    Windows that rules name are added to ``serving.windows``.
    """

    deployment: _PREFIX = "mlmm"
    """Name of this deployment: prefix of keys in Redis, of consumer groups and of ``ce_source``."""
    topic_prefix: _PREFIX = "mlmm"
    """What topics' names begin with: ``mlmm.serving``."""
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    emitter: EmitterSettings = EmitterSettings()
    serving: ServingSettings = ServingSettings()
    training: TrainingSettings = TrainingSettings()
    worker: WorkerSettings = WorkerSettings()
    alerting: AlertingSettings = AlertingSettings()
    smtp: SmtpSettings = SmtpSettings()
    rules: tuple[Rule, ...] = ()
    notifiers: dict[str, Notifier] = msgspec.field(default_factory=dict)

    def normalise(self) -> None:
        """Unite the windows of rules with those of reports."""
        msgspec.structs.force_setattr(self, "rules", tuple(self.rules))
        wanted = {rule.window for rule in self.rules if rule.metric is not None}
        if not wanted <= set(self.serving.windows):
            windows = tuple(wanted.union(self.serving.windows))
            msgspec.structs.force_setattr(self, "serving", msgspec.structs.replace(self.serving, windows=windows))

    def check(self) -> Iterator[tuple[str, str]]:
        """Hold rules and notifiers together."""
        first: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if first.setdefault(rule.name, index) != index:
                yield (
                    f"rules[{index}].name",
                    f"{rule.name!r} is the name of rules[{first[rule.name]}] too: names are unique",
                )
            for name in rule.notify:
                if name not in self.notifiers:
                    known = ", ".join(sorted(self.notifiers)) or "none"
                    hint = closest(name, list(self.notifiers))
                    yield (
                        f"rules[{index}].notify",
                        f"{name!r}: there is no [notifiers.{name}]; there are: {known}{hint}",
                    )

    def origin(self, path: str) -> str:
        """Return where the value at a dotted path came from: a file, a variable, ``"argument"`` or ``"default"``.

        A section's origin is that of what was set in it last; ``path`` may be of a value inside a list.
        """
        origins: dict[str, str] = self.__dict__.get("origins", {})
        while path:
            if path in origins:
                return origins[path]
            path = path.rpartition("[" if path.endswith("]") else ".")[0]
        return "default"

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (key, value, origin) of every setting, for people: as in the file, secrets masked."""
        from mlmm.runtime.settings.rendering import rows  # noqa: PLC0415 - only people need it

        return rows(self)

    def require_kafka(self) -> None:
        """Raise `SettingsError` that says what to set when no broker is configured."""
        if not self.kafka.servers:
            reason = (
                "no broker is configured; set it in mlmm.toml or MLMM_KAFKA__BOOTSTRAP_SERVERS, such as localhost:9092"
            )
            raise SettingsError([Problem("kafka.bootstrap_servers", reason)])
