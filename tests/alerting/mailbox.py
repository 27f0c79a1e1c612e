"""A real SMTP server for the tests, with TLS and a logon, that keeps what it gets and misbehaves as it is told."""

import asyncio
import contextlib
import datetime as dt
import email
import ssl
import time
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.services import free_port

TAKEN = "250 OK, taken"
USER, PASSWORD = "mlmm", "correct horse battery staple"


class Mailbox:
    """What arrived, what is refused, and how the server misbehaves.

    ``refusals`` maps an address to the answers that its next tries get, ``data_answers`` are the next answers to whole
    messages. ``manners`` maps the beginning of an answer to how its next ones are given, one of

    - ``"silence"``: not at all; the connection stays open
    - ``"drip"``: a byte now and then, never the end of the line
    - ``"flood"``: a continued line after the other, for ever
    - ``"drop"``: the connection is reset instead
    - a number: so many seconds late
    - any other text: this instead

    ``"221"`` and ``"250"`` are many answers; the one to a whole message begins with `TAKEN`.
    """

    def __init__(self) -> None:
        self.manners: dict[str, list[str | float]] = {}
        self.sessions = 0
        self.transports: set[Any] = set()
        self.mails: list[Any] = []
        self.envelopes: list[tuple[str, ...]] = []
        self.raw: list[bytes] = []
        self.logons: list[bool] = []
        self.refusals: dict[str, list[str]] = {}
        self.data_answers: list[str] = []
        self.quit_answer = "221 Bye"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        answers = self.refusals.get(address)
        if answers:
            return answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.data_answers:
            return self.data_answers.pop(0)
        self.raw.append(envelope.content)
        self.logons.append(session.authenticated)
        self.mails.append(email.message_from_bytes(envelope.content, policy=policy.default))
        self.envelopes.append(tuple(envelope.rcpt_tos))
        return TAKEN

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        return self.quit_answer


class _Server(SMTP):
    """Answers as the mailbox says."""

    def connection_made(self, transport: Any) -> None:
        self.event_handler.transports.add(transport)
        self.began = time.monotonic()
        super().connection_made(transport)

    async def push(self, status: Any) -> None:
        box: Mailbox = self.event_handler
        text = status.decode() if isinstance(status, bytes) else status
        box.sessions += text.startswith("220 ")
        manner = next((ways.pop(0) for start, ways in box.manners.items() if ways and text.startswith(start)), None)
        if manner is None:
            await super().push(status)
        elif isinstance(manner, float):
            await asyncio.sleep(manner)
            await super().push(status)
        elif manner in _MANNERS:
            await _MANNERS[manner](self)
        else:
            await super().push(manner)

    async def _silence(self) -> None:
        await self._reader.read()  # until the other side gives up

    async def _drip(self) -> None:
        await self._send(b"2", every=0.02)

    async def _flood(self) -> None:
        await self._send(b"250-more\r\n" * 1000, every=0.0)

    async def _send(self, piece: bytes, *, every: float) -> None:
        with contextlib.suppress(ConnectionError):
            while not self.transport.is_closing():
                self._writer.write(piece)
                await self._writer.drain()
                await asyncio.sleep(every)

    async def _drop(self) -> None:
        self.transport.abort()
        raise ConnectionResetError


_MANNERS = {"silence": _Server._silence, "drip": _Server._drip, "flood": _Server._flood, "drop": _Server._drop}


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Server(self.handler, **self.SMTP_kwargs)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1; return the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=False)


@contextlib.contextmanager
def smtp_server(
    files: tuple[Path, Path] | None = None,
    *,
    implicit: bool = False,
    box: Mailbox | None = None,
    port: int | None = None,
) -> Iterator[tuple[Mailbox, int]]:
    """Run a server; with certificate files it wants STARTTLS (or TLS from the first byte) and a logon."""
    box = box or Mailbox()
    options: dict[str, Any] = {}
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        options = {"authenticator": _authenticate, "auth_required": True}
        options |= {"ssl_context": context} if implicit else {"tls_context": context, "require_starttls": True}
        if implicit:
            # The whole connection is TLS, which this server does not count; `logons` says who logged on.
            options |= {"auth_require_tls": False, "auth_required": False}
    controller = _Controller(box, hostname="127.0.0.1", port=port or free_port(), **options)
    controller.start()
    try:
        yield box, controller.port
    finally:
        for transport in tuple(box.transports):  # a client that was kept waiting may have left it open
            controller.loop.call_soon_threadsafe(transport.abort)
        box.transports.clear()
        controller.stop()
