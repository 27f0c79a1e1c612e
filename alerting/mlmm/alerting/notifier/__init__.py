"""Delivers notifications: `run_notifier`, which ``mlmm alerting`` runs beside the processor.

A new kind of notifier is one file (`email.py` shows it) and a line in `_kinds.make`.
"""

from mlmm.alerting.notifier._kinds import Delivery, Message, Notifier
from mlmm.alerting.notifier._worker import run_notifier

__all__ = ["Delivery", "Message", "Notifier", "run_notifier"]
