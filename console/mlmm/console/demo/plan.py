"""What happens when. Everything that is not real is named here, and said on the screen."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODEL", "RUN", "TRAINING_ROWS", "Plan", "settings_file"]

MODEL = "shuttle"
RUN = "shuttle-retrain"
TRAINING_ROWS = 12_000
"""The first rows train the model; the API is called with the others."""


@dataclass(frozen=True)
class Plan:
    """The demo's timetable and what is injected."""

    predictions_before: int = 5_000
    """Predictions on undisturbed rows."""
    predictions_after: int = 5_000
    """Predictions on rows in which one sensor reads high."""
    rate: float = 280.0
    """Predictions a second that the client asks for."""
    sensor: str = "f1"
    shift: float = 1.5
    """Standard deviations by which the sensor reads high."""
    label_delay: float = 2.0
    """Seconds until a prediction's label is known."""
    collapse_at: int = 160
    """Step from which the labels that the trainer sees turn to noise, slowly."""
    patience: float = 150.0
    """Seconds after which the story has failed."""


def settings_file(path: Path, *, kafka: str, redis: str, smtp_port: int, name: str, api_version: str) -> None:
    """Write the ``mlmm.toml`` that every process of the demo reads; it is left for the user to look at."""
    embedded = f'api_version = "{api_version}"   # the in-process broker of the demo\n' if api_version else ""
    path.write_text(f"""\
# What the demo ran with. A real one differs in addresses and in windows of minutes rather than seconds.
deployment = "{name}"
topic_prefix = "{name}"

[kafka]
bootstrap_servers = "{kafka}"
partitions = 3
{embedded}
[redis]
url = "{redis}"

[smtp]
host = "127.0.0.1"
port = {smtp_port}
sender = "mlmm@demo.example"

[serving]
windows = ["5s"]
allowed_lateness = "1s"
idle_after = "3s"
label_horizon = "10m"
last = 1000

[[rules]]
name = "accuracy fell"
model = "{MODEL}"
metric = "accuracy"
below = 0.97
window = "5s"
min_count = 100
hold = "1 of 2"
severity = "critical"
notify = ["on_call"]

[[rules]]
name = "input drift"
model = "{MODEL}"
drift = "feature:*"
severity = "warning"
notify = ["on_call"]

[[rules]]
name = "hopeless run"
run = "{RUN}*"
trigger = "falling"
severity = "warning"
notify = ["on_call"]
command = {{ kind = "stop" }}

[notifiers.on_call]
kind = "email"
to = ["ml-on-call@demo.example"]
""")
