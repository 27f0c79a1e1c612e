"""Notification → e-mail: text, HTML and a picture. The same notification gives the same bytes."""

from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from hashlib import blake2b

import jinja2

from mlmm.alerting._turn import notification_id
from mlmm.alerting._words import MICROSECONDS, clean
from mlmm.alerting.notifier._plot import draw, history_of
from mlmm.alerting.notifier._view import view_of
from mlmm.events.types import Notification

__all__ = ["compose"]

_SUBJECT = 200
_LATEST = 7_000_000_000
"""Seconds: a notification of a later time than the year 2191 is dated so."""


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mlmm.alerting.notifier"),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",), default_for_string=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )


def compose(notification: Notification, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Write the mail of one notification.

    Everything that names come from strangers is made harmless: control characters and line breaks leave headers and
    text, HTML is escaped, lengths are bounded.

    Parameters
    ----------
    notification : Notification
        Of an incident that fires or is resolved.
    sender : str
        Address that it comes from.
    to : tuple of str
        Addresses that it is for.
    """
    incident = notification.incident
    view = view_of(notification)
    history = history_of(incident.evidence)
    host = clean(sender.rpartition("@")[2], 100)
    own = _word(notification.notification_id)
    picture = f"history.{own}@{host}" if history else ""
    context = {"view": view, "picture": picture, "notifier": clean(notification.notifier, 80)}
    mail = EmailMessage(policy=policy.SMTP.clone(max_line_length=200))
    mail["Subject"] = _plain(clean(view.title, _SUBJECT))
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    created = min(max(notification.created // MICROSECONDS, 0), _LATEST)
    mail["Date"] = format_datetime(datetime.fromtimestamp(created, UTC))
    mail["Message-ID"] = f"<{own}@{host}>"
    if incident.state == "resolved":
        first = f"<{notification_id(incident.incident_id, 'firing', notification.notifier)}@{host}>"
        mail["In-Reply-To"] = first
        mail["References"] = first
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["X-MLMM-Incident"] = _word(incident.incident_id)
    mail["X-MLMM-State"] = incident.state
    mail["X-MLMM-Severity"] = incident.severity
    mail.set_content(_templates().get_template("mail.txt.j2").render(context), cte="quoted-printable")
    mail.add_alternative(
        _templates().get_template("mail.html.j2").render(context), subtype="html", cte="quoted-printable"
    )
    if history:
        page = mail.get_payload()[1]  # type: ignore[index] # the alternative that was just added
        page.add_related(  # type: ignore[union-attr]
            draw(history), "image", "png", cid=f"<{picture}>", filename="history.png", disposition="inline"
        )
    _fix_boundaries(mail, own)
    return mail


def _plain(text: str) -> str:
    """Take apart what looks like an encoded word (RFC 2047): ``email`` decodes it, line breaks and all."""
    return text.replace("=?", "= ?")


def _word(text: str) -> str:
    """An id as a header may hold it: ids of ours are, one that someone else wrote is hashed."""
    fits = text.isascii() and text.isalnum() and 0 < len(text) <= 64
    return text if fits else blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()


def _fix_boundaries(mail: EmailMessage, seed: str) -> None:
    """Boundaries that are drawn at random would make each try another mail."""
    for nth, part in enumerate(mail.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{seed}_{nth}")
