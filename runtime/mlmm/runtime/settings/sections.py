"""The sections of ``mlmm.toml`` that services, workers and emitters read."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from mlmm.runtime.settings.secret import Secret, mask_url
from mlmm.runtime.settings.section import Number, Positive, Seconds, Section, Share, Size

__all__ = [
    "DetectorSettings",
    "EmitterSettings",
    "KafkaSettings",
    "RedisSettings",
    "ServingSettings",
    "SmtpSettings",
    "TrainingSettings",
    "WorkerSettings",
]

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")


class KafkaSettings(Section, frozen=True, kw_only=True):
    """Where Kafka is, how to log on to it, and what our topics are made of."""

    bootstrap_servers: str = ""
    """Brokers to start from, ``host:port`` separated by commas. Empty: not configured, and monitors are off."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to speak to the brokers."""
    ssl_cafile: str = ""
    """Certificates to trust (PEM); empty: those of the system."""
    ssl_certfile: str = ""
    """Our own certificate (PEM), where brokers ask for one."""
    ssl_keyfile: str = ""
    """The key of our own certificate (PEM)."""
    ssl_password: Secret = Secret()
    """What ``ssl_keyfile`` is encrypted with."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must carry its name."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """How to log on, with a ``SASL_`` protocol."""
    sasl_username: str = ""
    """The name to log on with."""
    sasl_password: Secret = Secret()
    """The password to log on with."""
    api_version: Annotated[str, msgspec.Meta(pattern=r"^(\d+(\.\d+){1,2})?$")] = ""
    """Version to speak, such as ``"2.0"`` for the embedded broker; empty: ask the broker."""
    partitions: Number = 3
    """Partitions of the topics that `topics create` makes. Fixed for their life."""
    replication_factor: Number = 1
    """Copies of each partition; 3 in production."""
    retention: Seconds = 604800.0
    """How long records are kept."""
    session_timeout: Seconds = 10.0
    """A worker silent for so long loses its partitions. Never below the broker's ``group.min.session.timeout.ms``."""
    heartbeat_interval: Seconds = 3.0
    """How often a worker says that it lives; at most a third of ``session_timeout``."""
    connect_timeout: Seconds = 10.0
    """How long to look for a broker before giving up with a message."""
    request_timeout: Seconds = 30.0
    """How long to wait for an answer."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Hold addresses, logon and heartbeat together."""
        for address in filter(None, (part.strip() for part in self.bootstrap_servers.split(","))):
            if not _ADDRESS.fullmatch(address):
                yield "bootstrap_servers", f"{mask_url(address)!r}: expected host:port, several separated by commas"
        sasl, tls = self.security_protocol.startswith("SASL_"), self.security_protocol.endswith("SSL")
        for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if sasl and not getattr(self, name):
                yield name, f'is needed with security_protocol = "{self.security_protocol}"'
            if not sasl and getattr(self, name):
                yield name, f'is not used with security_protocol = "{self.security_protocol}": set "SASL_SSL"'
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password"):
            if not tls and getattr(self, name):
                yield name, f'is not used with security_protocol = "{self.security_protocol}": set "SSL" or "SASL_SSL"'
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            yield "ssl_keyfile" if self.ssl_certfile else "ssl_certfile", "a certificate and its key are given together"
        if self.heartbeat_interval * 3 > self.session_timeout + 1e-9:
            yield "heartbeat_interval", "expected at most a third of session_timeout"

    @property
    def servers(self) -> list[str]:
        """The addresses of ``bootstrap_servers``."""
        return [part.strip() for part in self.bootstrap_servers.split(",") if part.strip()]

    def client_options(self, client: Literal["kafka-python", "aiokafka", "confluent"]) -> dict[str, Any]:
        """Return what connects a client of that library: addresses, TLS, SASL, version (secrets revealed)."""
        from mlmm.runtime.connections import client_options  # noqa: PLC0415 - settings stay light

        return client_options(self, client)


class RedisSettings(Section, frozen=True, kw_only=True):
    """Where state, offsets and outboxes are kept."""

    url: str = "redis://localhost:6379/0"
    """``redis://host:port/db``, ``rediss://`` with TLS, or ``unix:///path``. Credentials move to their own keys."""
    username: str = ""
    """The name to log on with."""
    password: Secret = Secret()
    """The password to log on with."""
    ssl_cafile: str = ""
    """Certificates to trust with ``rediss://`` (PEM); empty: those of the system."""
    timeout: Seconds = 5.0
    """How long one try to connect or one answer may take."""
    give_up_after: Seconds = 60.0
    """A worker whose commits fail for so long ends, and its supervisor starts it anew."""

    def normalise(self) -> None:
        """Move what is secret out of the URL."""
        scheme, slashes, rest = self.url.partition("//")
        credentials, at, address = rest.rpartition("@")
        if not at:
            return
        username, _, password = credentials.partition(":")
        msgspec.structs.force_setattr(self, "url", f"{scheme}{slashes}{address}")
        if not self.username:
            msgspec.structs.force_setattr(self, "username", unquote(username))
        if not self.password:
            msgspec.structs.force_setattr(self, "password", Secret(unquote(password)))

    def check(self) -> Iterator[tuple[str, str]]:
        """Hold the URL's shape."""
        expected = 'expected "redis://host:port/db", "rediss://host:port/db" or "unix:///path/to/socket"'
        try:
            parts = urlsplit(self.url)
            valid = parts.port != 0 and (parts.path if parts.scheme == "unix" else parts.hostname)
        except ValueError:
            valid = ""
        if not valid or parts.scheme not in ("redis", "rediss", "unix"):
            yield "url", f"{mask_url(self.url)!r}: {expected}"
        elif parts.query or parts.fragment:
            yield (
                "url",
                f"{mask_url(self.url.partition('#')[0])!r}: options have their own keys in [redis]",
            )
        elif parts.scheme != "unix" and not re.fullmatch(r"(/\d{0,4})?", parts.path):
            yield "url", f"{mask_url(self.url)!r}: the database is a number; {expected}"
        if self.ssl_cafile and not self.url.startswith("rediss://"):
            yield "ssl_cafile", "is used with a rediss:// URL only"


class EmitterSettings(Section, frozen=True, kw_only=True):
    """The queue between your process and Kafka."""

    max_events: Number = 100_000
    """Events that may wait to be sent."""
    max_bytes: Size = 64 * 1024**2
    """Bytes that may wait to be sent, those in flight included."""
    batch_events: Number = 200
    """Events of one kind that make one record."""
    batch_bytes: Size = 512 * 1024
    """Bytes at which a record is closed before it has ``batch_events``."""
    linger: Seconds = 0.1
    """How long an event may wait for others to share its record."""
    when_full: Literal["drop", "block"] = "drop"
    """What happens to a new event when the queue is full: dropped and counted, or the caller waits."""
    exit_timeout: Seconds = 5.0
    """How long the end of the process waits for what is queued."""
    compression: Literal["none", "gzip", "lz4"] = "none"
    """How records are packed; ``lz4`` needs the package of that name."""
    spool_dir: str = ""
    """Folder on a local disk for what can't be sent, shared by all processes that emit to this Kafka; empty: none."""
    spool_bytes: Annotated[int, msgspec.Meta(ge=8 * 1024**2, extra={"kind": "size"})] = 1024**3
    """Bytes that all processes together may keep in ``spool_dir``; at least 8 MiB."""
    spool_when: Literal["away", "always"] = "away"
    """What goes to the disk: what the broker does not take at once, or everything before it is sent."""
    spool_sync: Seconds = 1.0
    """How long what was written may stay in the system's cache; it survives the process at once, the machine then."""


class DetectorSettings(Section, frozen=True, kw_only=True):
    """Online drift detection on standardised series."""

    adwin: bool = True
    """Whether ADWIN watches each series."""
    adwin_delta: Share = 0.0001
    """ADWIN's confidence: smaller means fewer false alarms and later true ones."""
    page_hinkley: bool = True
    """Whether Page-Hinkley watches each series."""
    page_hinkley_delta: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """Change that is tolerated, in standard deviations of the baseline."""
    page_hinkley_threshold: Annotated[float, msgspec.Meta(gt=0)] = 50.0
    """Accumulated change at which it alarms."""
    baseline: Annotated[int, msgspec.Meta(ge=2)] = 500
    """Values from which mean and spread are learnt before detection begins."""
    clip: Annotated[float, msgspec.Meta(gt=0)] = 4.0
    """Standardised values are cut here, in standard deviations, so that one outlier is no drift."""
    series: tuple[Literal["error", "features"], ...] = ("error", "features")
    """What is watched: the error of labelled predictions, each numeric feature, or both."""


class ServingSettings(Section, frozen=True, kw_only=True):
    """Rolling figures of models that serve."""

    windows: tuple[Seconds, ...] = (60.0,)
    """Lengths of the windows that reports are made of; those that rules name are added."""
    allowed_lateness: Seconds = 10.0
    """How long a window waits for events that come out of order."""
    idle_after: Seconds = 60.0
    """A key that is silent for so long has its open windows closed as time passes."""
    label_horizon: Seconds = 604800.0
    """How long a prediction waits for its label."""
    max_pending: Number = 1_000_000
    """Predictions a model (and partition) that may wait for labels; beyond it the oldest leave early."""
    last: Annotated[int, msgspec.Meta(ge=10)] = 1000
    """Labelled predictions in the window over the last pairs."""
    max_models: Number = 10_000
    """Models a partition; records of more go to dead letters."""
    max_features: Number = 200
    """Features a model that are watched for drift; more are counted and left out."""
    max_event_ahead: Seconds = 300.0
    """An event whose time is further ahead of the log's goes to dead letters."""
    detectors: DetectorSettings = DetectorSettings()

    def normalise(self) -> None:
        """Sort windows and drop doubles."""
        msgspec.structs.force_setattr(self, "windows", tuple(sorted(set(self.windows))))

    def check(self) -> Iterator[tuple[str, str]]:
        """Hold windows to whole seconds' worth of sense."""
        if not self.windows or self.windows[0] < 1:
            yield "windows", "expected at least one window, each of 1s or longer"


class TrainingSettings(Section, frozen=True, kw_only=True):
    """Runs that train."""

    lost_after: Number = 3
    """Heartbeats that may be missing before a run counts as lost."""


class WorkerSettings(Section, frozen=True, kw_only=True):
    """The processes that fold events."""

    workers: Number = 1
    """Processes that `worker` starts."""
    tick_interval: Positive = 1.0
    """How often time is written into the log while a deadline is pending."""
    poll_records: Number = 20_000
    """Records that one poll may take: one poll is one commit."""
    outbox_limit: Number = 10_000
    """Outputs of a partition that may wait for Kafka before its input pauses."""
    stall_after: Seconds = 120.0
    """A worker whose position stands still for so long while its log grows ends itself."""
    stop_timeout: Seconds = 20.0
    """How long a worker that was asked to end may take before it is killed."""


class SmtpSettings(Section, frozen=True, kw_only=True):
    """The mail server that e-mail notifiers hand their messages to."""

    host: str = "localhost"
    """Name of the server."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 25
    """Its port: 25, 587 with ``starttls``, 465 with ``ssl``."""
    username: str = ""
    """The name to log on with; empty: no logon."""
    password: Secret = Secret()
    """The password to log on with."""
    starttls: bool = False
    """Whether to change to TLS after greeting."""
    ssl: bool = False
    """Whether to speak TLS from the first byte."""
    ssl_cafile: str = ""
    """Certificates to trust with ``starttls`` or ``ssl`` (PEM); empty: those of the system."""
    sender: Annotated[str, msgspec.Meta(pattern="@")] = "mlmm@localhost"
    """Address that messages come from."""
    timeout: Positive = 10.0
    """How long one step of the delivery may take."""
    answer_timeout: Positive = 600.0
    """How long to wait for the answer to a whole message: who gives up early sends it twice (RFC 5321: 10 minutes)."""
    attempts: Number = 8
    """Tries before a notification counts as failed."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Send no password in clear."""
        if self.starttls and self.ssl:
            yield "starttls", "expected only one of starttls and ssl"
        if self.ssl_cafile and not (self.starttls or self.ssl):
            yield "ssl_cafile", "is used with starttls or ssl only"
        if bool(self.username) != bool(self.password):
            yield "password" if self.username else "username", "a username and its password are given together"
        if self.password and not (self.starttls or self.ssl) and self.host not in ("localhost", "127.0.0.1", "::1"):
            yield "starttls", "a password would travel in clear: set starttls = true or ssl = true"
