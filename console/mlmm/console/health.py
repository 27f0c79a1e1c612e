"""What ``mlmm doctor`` looks at: each service as the workers would reach it, and what they would stumble over."""

import smtplib
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from mlmm.events.errors import MlmmError
from mlmm.runtime.errors import MissingExtra, ServiceUnavailable

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["Finding", "examine"]

EXTRAS = {
    "detectors": "numba",
    "processors": "faust-streaming",
    "alerting": "pillow",
    "console": "typer",
    "embedded": "river",
}


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: str
    """``"fine"``, ``"wrong"``, ``"unreachable"``, ``"unknown"``."""
    details: str
    remedy: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dict(self._asdict())


def examine(settings: "Settings") -> Iterator[Finding]:
    """Look at everything, one after the other; a service that is away stops only what needs it."""
    yield _installed()
    for what, look in (("Kafka", _kafka), ("Redis", _redis), ("SMTP", _smtp), ("rules", _rules)):
        yield from _guarded(what, look, settings)


def _guarded(what: str, look: "Callable[[Settings], Iterator[Finding]]", settings: "Settings") -> Iterator[Finding]:
    try:
        yield from look(settings)
    except ServiceUnavailable as error:
        yield Finding(what, "unreachable", f"{error.address}: {error.cause}", error.remedy)
    except MissingExtra as error:
        yield Finding(what, "unknown", str(error), f"pip install 'mlmm[{error.extra}]'")
    except MlmmError as error:
        yield Finding(what, "wrong", str(error), "see `mlmm config show`")


def _installed() -> Finding:
    there = []
    for extra, package in EXTRAS.items():
        try:
            version(package)
        except PackageNotFoundError:
            continue
        there.append(extra)
    return Finding("installation", "fine", f"mlmm {version('mlmm')}, extras: {', '.join(there) or 'none'}")


def _kafka(settings: "Settings") -> Iterator[Finding]:
    from mlmm.runtime import topics
    from mlmm.runtime.connections import kafka_admin

    began = time.perf_counter()
    admin = kafka_admin(settings)
    took = time.perf_counter() - began
    admin.close()
    yield Finding("Kafka", "fine", f"{settings.kafka.bootstrap_servers}, answered in {took * 1000:.0f} ms")
    if settings.kafka.api_version:
        return  # the embedded broker answers no admin calls
    bad = [result for result in topics.check(settings) if result.state not in ("fine", "ok", "exists")]
    if bad:
        details = "; ".join(f"{r.topic}: {r.state}" for r in bad)
        refused = any(result.state == "refused" for result in bad)
        remedy = "mlmm topics create; what differs must be changed by hand (mlmm topics check)"
        yield Finding("topics", "wrong", details, bad[0].details if refused else remedy)
    else:
        yield Finding("topics", "fine", f"all there, with {settings.kafka.partitions} partitions")


def _redis(settings: "Settings") -> Iterator[Finding]:
    from mlmm.runtime.connections import redis_address, redis_client, redis_errors

    client = redis_client(settings)
    with redis_errors(settings.redis):
        began = time.perf_counter()
        client.ping()
        took = time.perf_counter() - began
        facts: dict[str, Any] = client.info()
    yield Finding(
        "Redis", "fine", f"{redis_address(settings.redis)}, {facts['redis_version']}, answered in {took * 1000:.1f} ms"
    )
    policy = facts.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        yield Finding("Redis memory", "wrong", f"maxmemory-policy is {policy}: it may evict state",
                      "redis-cli config set maxmemory-policy noeviction, and set it in redis.conf")  # fmt: skip
    if not int(facts.get("aof_enabled", 0)) and not int(facts.get("rdb_last_save_time", 0)):
        yield Finding("Redis persistence", "wrong", "neither AOF nor snapshots", "redis-cli config set appendonly yes")
    elif not int(facts.get("aof_enabled", 0)):
        details = (
            "no append-only file: after a crash the workers read again since the last snapshot, exactly but slowly"
        )
        yield Finding("Redis persistence", "fine", details, "redis-cli config set appendonly yes")


def _smtp(settings: "Settings") -> Iterator[Finding]:
    if not any(notifier.kind == "email" for notifier in settings.notifiers.values()):
        yield Finding("SMTP", "fine", "no notifier sends mail")
        return
    from mlmm.runtime.connections import smtp_context

    smtp, context = settings.smtp, smtp_context(settings.smtp)
    address = f"{smtp.host}:{smtp.port}"
    remedy = "start the mail server, or set host and port in [smtp] (MLMM_SMTP__HOST, MLMM_SMTP__PORT)"
    try:
        if smtp.ssl:
            client: smtplib.SMTP = smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=smtp.timeout, context=context)
        else:
            client = smtplib.SMTP(smtp.host, smtp.port, timeout=smtp.timeout)
        with client:
            if smtp.starttls:
                client.starttls(context=context)
            if smtp.username:
                client.login(smtp.username, smtp.password.reveal())
            client.noop()
    except smtplib.SMTPAuthenticationError:
        yield Finding("SMTP", "wrong", f"{address} refused the login", "check username and password in [smtp]")
    except (OSError, smtplib.SMTPException) as error:
        raise ServiceUnavailable("SMTP", address, str(error) or type(error).__name__, remedy=remedy) from error
    else:
        yield Finding("SMTP", "fine", address)


def _rules(settings: "Settings") -> Iterator[Finding]:
    from mlmm.alerting import check_rules

    wrong = [problem for problem in check_rules(settings) if problem.level == "problem"]
    if wrong:
        yield Finding("rules", "wrong", "; ".join(f"{p.rule}: {p.text}" for p in wrong), "mlmm rules check")
    else:
        yield Finding("rules", "fine", f"{len(settings.rules)} rules, {len(settings.notifiers)} notifiers")
    if settings.rules and settings.alerting.signing_key is None:
        yield Finding("signing", "fine", settings.alerting.unsigned, "docs/commands.md")
