"""An SMTP connection whose every step ends in time, and that knows whether a message may have been taken.

smtplib gives each *piece* of an answer its time, so a server that sends a byte now and then holds it for ever. Here a
time belongs to a whole answer, and another to the whole session.
"""

import io
import smtplib
import socket
import ssl
import time
from typing import Any

__all__ = ["Session", "connect"]

_LIMIT = 1 << 16
"""Bytes of one answer."""
_LEAST = 0.001
"""Seconds: a socket takes none for "do not wait"."""


class _Answers(io.RawIOBase):
    """What a server sends, until the answer's time is over."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._until = 0.0
        self._left = 0

    def expect(self, until: float) -> None:
        """Begin with an answer that must be there by ``until`` (monotonic seconds)."""
        self._until, self._left = until, _LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left <= 0:
            raise OSError("an answer without end")
        try:
            self._sock.settimeout(max(self._until - time.monotonic(), _LEAST))
            count = self._sock.recv_into(buffer)
        except TimeoutError:
            raise TimeoutError("no answer in time") from None
        self._left -= count
        return count


class Session(smtplib.SMTP):
    """A connection whose steps are bounded.

    Attributes
    ----------
    unsure : bool
        Whether the whole message was handed over and no answer to it came: the server may have it.
    """

    unsure = False

    def __init__(self, host: str, port: int, *, step: float, whole: float, answer: float, **options: Any) -> None:
        self._step = step
        self._answer = answer
        self._until = time.monotonic() + whole
        self._answers: _Answers | None = None
        self._data_replies = -1
        super().__init__(host, port, timeout=step, **options)

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer within its time: that of a step, or the long one of a whole message."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection was closed")
        if self.file is None or self._answers is None:
            self._answers = _Answers(self.sock)
            self.file = io.BufferedReader(self._answers)
        handed_over = self._data_replies == 1
        now = time.monotonic()
        self._answers.expect(now + self._answer if handed_over else min(now + self._step, self._until))
        self.unsure = self.unsure or handed_over
        code, text = super().getreply()
        if self.sock is not None:
            self.sock.settimeout(self._step)
        if handed_over:
            self.unsure = not 200 <= code <= 599
        if self._data_replies >= 0:
            self._data_replies += 1
        return code, text

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Hand the message over: the first answer says go on, the second whether it was taken."""
        self._data_replies = 0
        try:
            code, text = super().data(msg)
        finally:
            self._data_replies = -1
        # smtplib takes any yes but 250 for a no, and the message would be sent again.
        return (250 if 200 <= code <= 299 else code), text

    def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        """Log on; what can't be said is told without the characters in question."""
        try:
            return super().login(user, password, initial_response_ok=initial_response_ok)
        except UnicodeError:
            raise smtplib.SMTPException("username and password must be ASCII for a logon by SMTP") from None


class _TlsSession(Session, smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""


def connect(
    host: str, port: int, *, step: float, whole: float, answer: float, context: ssl.SSLContext | None
) -> Session:
    """Connect to a server and read its greeting.

    Parameters
    ----------
    host, port
        Where it is.
    step : float
        Seconds for each answer.
    whole : float
        Seconds for all of them, until the message is handed over.
    answer : float
        Seconds for the answer to a whole message.
    context : SSLContext, optional
        For TLS from the first byte.
    """
    kind: type[Session] = Session if context is None else _TlsSession
    options = {} if context is None else {"context": context}
    return kind(host, port, step=step, whole=whole, answer=answer, **options)
