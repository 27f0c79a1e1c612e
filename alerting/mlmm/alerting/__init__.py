"""Rules over findings: incidents, notifications, commands. The page for users is ``docs/alerting.md``.

`AlertingProcessor` is pure and runs on the harness; `run_notifier` delivers what it puts out; `check_rules` reads the
rules of the settings before anything runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmm.alerting.check import RuleNote, check_rules
    from mlmm.alerting.notifier import run_notifier
    from mlmm.alerting.processor import AlertingProcessor

__all__ = ["AlertingProcessor", "RuleNote", "check_rules", "run_notifier"]

_PLACES = {"AlertingProcessor": "processor", "RuleNote": "check", "check_rules": "check", "run_notifier": "notifier"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
