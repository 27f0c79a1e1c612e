"""The e-mail notifier: hands mails to an SMTP server, with TLS and login, and says who got them."""

import base64
import contextlib
import smtplib
import ssl
from collections.abc import Callable, Iterator

from mlmm.alerting._words import clean
from mlmm.alerting.notifier._kinds import Delivery, Message
from mlmm.alerting.notifier._mail import compose
from mlmm.alerting.notifier._session import Session, connect
from mlmm.events.types import Notification
from mlmm.runtime.settings import SmtpSettings

__all__ = ["EmailNotifier"]

_STEPS = 12
"""Answers of a session besides one for each recipient: greeting, two hellos, TLS, logons, sender, data."""
_OURS_TO_MEND = frozenset({530, 534, 535, 538})
"""Refusals that speak of the logon or of TLS (RFC 4954), not of the mail."""


class EmailNotifier:
    """Sends each notification as one mail to all addresses.

    Parameters
    ----------
    smtp : SmtpSettings
        The server.
    to : tuple of str
        Addresses.
    context : callable
        Makes the TLS context; by default the system's certificates and host names are checked.
    """

    def __init__(
        self,
        smtp: SmtpSettings,
        to: tuple[str, ...],
        *,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.recipients = to
        self._smtp = smtp
        self._whole = smtp.timeout * (_STEPS + len(to))
        self.longest = smtp.timeout + self._whole + smtp.answer_timeout + smtp.timeout
        self._context = context

    def render(self, notification: Notification) -> Message:
        """Write the mail; the same notification gives the same bytes."""
        return compose(notification, self._smtp.sender, self.recipients).as_bytes()

    def deliver(self, message: Message, recipients: tuple[str, ...]) -> Delivery:
        """Hand the mail over for some of its addresses.

        What is refused for now (4xx, no connection, a logon or TLS that does not work) is recoverable, what is refused
        for good (5xx) is not. Nothing is raised.
        """
        try:
            with self._session() as server:
                return self._handed_over(server, message, recipients)
        except (smtplib.SMTPException, OSError) as error:
            return Delivery((), recipients, self._what(error))

    def _handed_over(self, server: Session, message: Message, recipients: tuple[str, ...]) -> Delivery:
        try:
            refused = server.sendmail(self._smtp.sender, recipients, message)
        except smtplib.SMTPRecipientsRefused as error:  # nobody has it, not even those who were accepted
            again = tuple(each for each in recipients if error.recipients.get(each, (450, b""))[0] < 500)
            return Delivery((), again, self._refusals(error.recipients))
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            wanted = error.smtp_code < 500 or error.smtp_code in _OURS_TO_MEND
            return Delivery((), recipients if wanted else (), self._what(error, unsure=server.unsure), server.unsure)
        except (smtplib.SMTPException, OSError) as error:
            return Delivery((), recipients, self._what(error, unsure=server.unsure), server.unsure)
        except ValueError as error:  # an address that this server's protocol can't say
            return Delivery((), (), self._what(error))
        return Delivery(
            delivered=tuple(each for each in recipients if each not in refused),
            again=tuple(each for each, (code, _) in refused.items() if code < 500),
            error=self._refusals(refused),
        )

    def _refusals(self, refused: dict[str, tuple[int, bytes]]) -> str:
        return "; ".join(f"{each}: {self._said(*said)}" for each, said in refused.items())

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        """A connection, closed afterwards: how a server says goodbye changes nothing of what it took or refused."""
        server = self._connected()
        try:
            yield server
        finally:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.quit()
            server.close()

    def _connected(self) -> Session:
        smtp = self._smtp
        server = connect(
            smtp.host,
            smtp.port,
            step=smtp.timeout,
            whole=self._whole,
            answer=smtp.answer_timeout,
            context=self._context() if smtp.ssl else None,
        )
        try:
            if smtp.starttls:
                server.starttls(context=self._context())
            if smtp.username:
                server.login(smtp.username, smtp.password.reveal())
        except BaseException:
            server.close()
            raise
        return server

    def _what(self, error: Exception, *, unsure: bool = False) -> str:
        if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code > 0:
            reason = self._said(error.smtp_code, error.smtp_error)
        else:
            reason = self._masked(f"{type(error).__name__}: {error}")
        return f"the server did not say whether it took the message ({reason})" if unsure else reason

    def _said(self, code: int, answer: bytes | str) -> str:
        text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
        return self._masked(f"{code} {text}")

    def _masked(self, text: str) -> str:
        """Take the password out of what a server or library says: plain, and as it travels in AUTH."""
        smtp = self._smtp
        password = smtp.password.reveal()
        if password:
            plain = f"\0{smtp.username}\0{password}".encode()
            for secret in (password, *(base64.b64encode(part).decode() for part in (password.encode(), plain))):
                text = text.replace(secret, str(smtp.password))
        return clean(text, 300)
