"""A real SMTP server for the tests, with TLS and a logon, that keeps what it gets and can be told to refuse."""

import contextlib
import datetime as dt
import email
import ssl
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.services import free_port

USER, PASSWORD = "mlmm", "correct horse battery staple"


class Mailbox:
    """What arrived, and what is refused: ``refusals`` maps an address to the answers that its next tries get."""

    def __init__(self) -> None:
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
        return "250 OK"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        return self.quit_answer


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
def smtp_server(files: tuple[Path, Path] | None = None, *, implicit: bool = False) -> Iterator[tuple[Mailbox, int]]:
    """Run a server; with certificate files it wants STARTTLS (or TLS from the first byte) and a logon."""
    box = Mailbox()
    options: dict[str, Any] = {}
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        options = {"authenticator": _authenticate, "auth_required": True}
        options |= {"ssl_context": context} if implicit else {"tls_context": context, "require_starttls": True}
        if implicit:
            # The whole connection is TLS, which this server does not count; `logons` says who logged on.
            options |= {"auth_require_tls": False, "auth_required": False}
    controller = Controller(box, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield box, controller.port
    finally:
        controller.stop()
