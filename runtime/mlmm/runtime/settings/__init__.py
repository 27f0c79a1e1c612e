"""Typed settings from arguments, environment, ``mlmm.toml`` and defaults.

>>> from mlmm.runtime.settings import load
>>> load(env={"MLMM_SERVING__ALLOWED_LATENESS": "30s"}).serving.allowed_lateness
30.0
"""

from mlmm.runtime.durations import format_duration, format_size, parse_duration, parse_size
from mlmm.runtime.errors import Problem, SettingsError
from mlmm.runtime.settings.loading import load, override
from mlmm.runtime.settings.model import Settings
from mlmm.runtime.settings.rules import AlertingSettings, Notifier, Order, Rule, SigningKey
from mlmm.runtime.settings.secret import MASK, Secret, mask_url
from mlmm.runtime.settings.sections import (
    DetectorSettings,
    EmitterSettings,
    KafkaSettings,
    RedisSettings,
    ServingSettings,
    SmtpSettings,
    TrainingSettings,
    WorkerSettings,
)

__all__ = [
    "MASK",
    "AlertingSettings",
    "DetectorSettings",
    "EmitterSettings",
    "KafkaSettings",
    "Notifier",
    "Order",
    "Problem",
    "RedisSettings",
    "Rule",
    "Secret",
    "ServingSettings",
    "Settings",
    "SettingsError",
    "SigningKey",
    "SmtpSettings",
    "TrainingSettings",
    "WorkerSettings",
    "format_duration",
    "format_size",
    "load",
    "mask_url",
    "override",
    "parse_duration",
    "parse_size",
]
