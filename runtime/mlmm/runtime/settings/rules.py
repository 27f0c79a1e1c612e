"""Rules, notifiers and the keys that commands are signed with."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from mlmm.runtime.settings.secret import Secret
from mlmm.runtime.settings.section import Number, Positive, Section

__all__ = ["AlertingSettings", "Notifier", "Order", "Rule", "SigningKey"]

_NAME = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_HOLD = re.compile(r"\s*(\d{1,4})\s*of\s*(\d{1,4})\s*")
_CONDITIONS = ("metric", "drift", "trigger", "no_data")
_BOUNDS = ("below", "above", "drops_by", "rises_by", "outside")


class SigningKey(Section, frozen=True, kw_only=True):
    """A key that commands are signed with; whoever obeys needs it too."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """Name of the key, sent with each signature."""
    secret: Secret
    """The key itself."""
    active: bool = False
    """Whether new commands are signed with it; the others are still accepted, so that keys can be changed."""
    accepted_until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """When trainers cease to accept it, such as ``2026-12-01T00:00:00Z``; empty: never. The active key has no end."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Refuse a key that can be guessed, or that signs what is refused."""
        if len(self.secret.reveal()) < 16:
            yield "secret", "expected at least 16 characters"
        if self.active and self.accepted_until is not None:
            yield "accepted_until", "the active key has no end: let another one be active first"


class AlertingSettings(Section, frozen=True, kw_only=True):
    """Incidents and commands."""

    ack_timeout: Positive = 60.0
    """A command that nobody answered for so long is an incident of its own."""
    command_lifetime: Positive = 3600.0
    """How long a command may be obeyed; at most 24 h, since trainers read no further back."""
    resolve_after: Positive = 3600.0
    """An incident that has no all-clear of its own (a drift) is resolved when nothing was heard for so long."""
    keys: tuple[SigningKey, ...] = ()

    def check(self) -> Iterator[tuple[str, str]]:
        """Hold keys and lifetimes."""
        if self.command_lifetime > 86400:
            yield "command_lifetime", "expected at most 24h: trainers read no further back"
        if len({key.id for key in self.keys}) < len(self.keys):
            yield "keys", "each id stands once"
        if sum(key.active for key in self.keys) > 1:
            yield "keys", "at most one key is active"

    @property
    def signing_key(self) -> SigningKey | None:
        """The key that new commands are signed with."""
        return next((key for key in self.keys if key.active), None)

    @property
    def verification_keys(self) -> dict[str, bytes]:
        """Key id → key, for all that are known."""
        return {key.id: key.secret.reveal().encode() for key in self.keys}

    @property
    def accepted_until(self) -> dict[str, int]:
        """Key id → microseconds since the epoch from which on it is refused, where that was said."""
        ends = ((key.id, key.accepted_until) for key in self.keys)
        return {name: round(end.timestamp()) * 1_000_000 for name, end in ends if end is not None}

    @property
    def unsigned(self) -> str:
        """What is to be said where orders go unsigned; empty where they are signed."""
        if self.signing_key is not None:
            return ""
        if self.keys:
            return (
                "commands go unsigned, and trainers with these keys refuse them: set active = true "
                "for one of [[alerting.keys]] (docs/commands.md)"
            )
        return (
            "commands go unsigned: whoever may write to the commands topic can stop any run; "
            "set [[alerting.keys]] here and at the trainers (docs/commands.md)"
        )


class Order(Section, frozen=True, kw_only=True):
    """The command that a rule gives when it fires."""

    kind: Literal["stop", "retrain", "promote", "rollback"]
    """``stop`` ends the run, or every run that declared the model."""


class Rule(Section, frozen=True, kw_only=True):
    """A condition on findings, whom it concerns, and what follows."""

    name: _NAME
    """Unique; part of an incident's identity."""
    model: _NAME | None = None
    """Models that it watches: a name or a pattern with ``*``."""
    run: _NAME | None = None
    """Runs that it watches (run id or experiment): a name or a pattern with ``*``. Either ``model`` or ``run``."""
    version: _NAME | None = None
    """Only this version of the model."""
    segment: _NAME | None = None
    """Only this segment of the model."""
    metric: _NAME | None = None
    """A figure of the model's reports, such as ``accuracy`` or ``latency_p95``; needs one bound."""
    drift: _NAME | None = None
    """A series that drifts: ``error``, ``feature:amount`` or a pattern with ``*``."""
    trigger: Literal["falling", "falling_strict", "not_finite", "plateau", "*"] | None = None
    """A trigger of a run that fires."""
    no_data: Positive | None = None
    """Nothing heard for so long."""
    below: float | None = None
    """The figure is below this."""
    above: float | None = None
    """The figure is above this."""
    drops_by: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The figure is lower than the mean of the last windows that kept the bound by at least this."""
    rises_by: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The figure is higher than the mean of the last windows that kept the bound by at least this."""
    outside: tuple[float, float] | None = None
    """The figure is outside ``[low, high]``."""
    window: Annotated[float, msgspec.Meta(ge=1, extra={"kind": "duration"})] = 60.0
    """Length of the windows whose reports are judged."""
    min_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Reports of fewer events are not judged."""
    hold: str = "1 of 1"
    """``"k of n"``: fires when k of the last n windows break the bound."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How bad it is."""
    notify: tuple[str, ...] = ()
    """Notifiers that are told."""
    command: Order | None = None
    """What is ordered when it fires."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Hold subject, condition and bounds together."""
        if (self.model is None) == (self.run is None):
            yield "model", "expected exactly one of model and run"
        conditions = [name for name in _CONDITIONS if getattr(self, name) is not None]
        if len(conditions) != 1:
            yield "metric", f"expected exactly one of {', '.join(_CONDITIONS)}; found {_listed(conditions)}"
        bounds = [name for name in _BOUNDS if getattr(self, name) is not None]
        if self.metric is not None and len(bounds) != 1:
            yield "metric", f"expected exactly one bound of {', '.join(_BOUNDS)}; found {_listed(bounds)}"
        if self.metric is None and bounds:
            yield bounds[0], "a bound is for rules with a metric"
        if self.outside is not None and not self.outside[0] < self.outside[1]:
            yield "outside", f"{list(self.outside)}: expected [low, high] with low < high"
        yield from self._check_subject()
        matched = _HOLD.fullmatch(self.hold)
        if matched is None or not 1 <= int(matched[1]) <= int(matched[2]):
            yield "hold", f'{self.hold!r}: expected "k of n" with 1 <= k <= n, such as "3 of 5"'
        elif self.metric is None and int(matched[2]) > 1:
            yield "hold", "is for rules with a metric"

    def _check_subject(self) -> Iterator[tuple[str, str]]:
        if self.run is not None:
            for name in ("metric", "drift", "version", "segment"):
                if getattr(self, name) is not None:
                    reason = "is for rules with a model" + (
                        "; a run's figures are judged by triggers" * (name == "metric")
                    )
                    yield name, reason
        elif self.trigger is not None:
            yield "trigger", "is for rules with a run"
        if self.run is not None and self.command is not None and self.command.kind != "stop":
            yield "command.kind", f'"{self.command.kind}": a run can only be told to stop'

    @property
    def held(self) -> tuple[int, int]:
        """``hold`` as numbers: (k, n)."""
        needed, _, among = self.hold.partition("of")
        return int(needed), int(among)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


class Notifier(Section, frozen=True, kw_only=True):
    """A way to tell people."""

    kind: Literal["email"]
    """``email`` goes through ``[smtp]``."""
    to: Annotated[tuple[Annotated[str, msgspec.Meta(pattern="^[^@\\s,]+@[^@\\s,]+$")], ...], msgspec.Meta(min_length=1)]
    """Addresses that are written to."""
    queue_limit: Number = 1000
    """Notifications that may wait for a slow server; the oldest stay in Kafka."""
