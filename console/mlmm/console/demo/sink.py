"""A real SMTP server on loopback that keeps what it receives as ``.eml`` files."""

import email
import email.policy
import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NamedTuple, Self

from mlmm.console.demo.stage import free_port
from mlmm.runtime.extras import require

__all__ = ["Mail", "MailSink"]


class Mail(NamedTuple):
    """One mail that came."""

    subject: str
    file: Path


class MailSink:
    """Receive mail and write each to ``folder``; a context manager.

    Parameters
    ----------
    folder : Path
        Where the ``.eml`` files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: list[Mail] = []
        """In order."""
        self.port = free_port()
        """Port that it listens on; aiosmtpd can't choose one."""
        controller = require("aiosmtpd.controller", extra="embedded", purpose="mlmm demo")
        self._controller = controller.Controller(self, hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep one mail."""
        message = email.message_from_bytes(envelope.content, EmailMessage, policy=email.policy.default)
        subject = str(message["Subject"])
        words = re.sub(r"[^a-z0-9]+", "-", subject.partition("—")[0].lower()).strip("-")[:60]
        file = self.folder / f"{len(self.received) + 1:02d}-{words}.eml"
        file.write_bytes(envelope.content)
        self.received.append(Mail(subject, file))
        return "250 kept"
