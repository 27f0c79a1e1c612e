"""Kinds of notifiers. To add one: a class with these two methods in a file of its own, and a line in `make`."""

from typing import NamedTuple, Protocol

from mlmm.events.types import Notification
from mlmm.runtime.connections import smtp_context
from mlmm.runtime.settings import Settings

__all__ = ["Delivery", "Message", "Notifier", "make"]

Message = bytes
"""A message as it is sent, whatever its form."""


class Delivery(NamedTuple):
    """What became of one try."""

    delivered: tuple[str, ...]
    """Recipients that have it."""
    again: tuple[str, ...]
    """Recipients for whom another try may help."""
    error: str
    """What went wrong, for people and without secrets; empty when nothing did."""
    unsure: bool = False
    """Whether those of ``again`` may have it all the same: the whole message was handed over, and no answer came."""


class Notifier(Protocol):
    """A way to tell people."""

    recipients: tuple[str, ...]
    """Whom it tells; each is told once."""
    longest: float
    """Seconds that one try takes at most, whatever the server does."""

    def render(self, notification: Notification) -> Message:
        """Give the notification its form."""

    def deliver(self, message: Message, recipients: tuple[str, ...]) -> Delivery:
        """Try once to deliver to ``recipients``; raises nothing for what a server says or does."""


def make(settings: Settings) -> dict[str, Notifier]:
    """Make every notifier of the settings."""
    from mlmm.alerting.notifier.email import EmailNotifier  # noqa: PLC0415 - each kind imports what it alone needs

    context = smtp_context(settings.smtp)  # a file that can't be used ends the worker before it takes anything in hand
    return {
        name: EmailNotifier(settings.smtp, notifier.to, context=lambda: context)
        for name, notifier in settings.notifiers.items()
    }
