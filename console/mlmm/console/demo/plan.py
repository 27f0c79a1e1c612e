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

    rate: float = 300.0
    """Predictions a second that the client asks for; a slow machine makes fewer."""
    seconds_before: float = 14.0
    """Seconds of undisturbed predictions."""
    least_before: int = 2_000
    """Undisturbed predictions that there are at least: detectors first learn what is normal."""
    seconds_after: float = 12.0
    """Seconds of predictions with the fault, at least."""
    most: int = 20_000
    """Predictions at most."""
    sensor: str = "f1"
    shift: float = 1.5
    """Standard deviations by which the sensor reads high."""
    label_delay: float = 2.0
    """Seconds until a prediction's label is known."""
    collapse_at: int = 160
    """Step from which the labels that the trainer sees turn to noise, slowly."""
    patience: float = 120.0
    """Seconds after which the story has failed."""


def settings_file(path: Path, *, kafka: str, redis: str, smtp_port: int, name: str, more_kafka: str) -> None:
    """Write the ``mlmm.toml`` that every process of the demo reads; it is left for the user to look at."""
    path.write_text(f"""\
# What the demo ran with. A real one differs in addresses, and has windows of minutes rather than seconds.
deployment = "{name}"
topic_prefix = "{name}"

[kafka]
bootstrap_servers = "{kafka}"
partitions = 3
{more_kafka}
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

[[rules]]
name = "accuracy fell"
model = "{MODEL}"
metric = "accuracy"
below = 0.97
window = "5s"
min_count = 100
severity = "critical"
notify = ["on_call"]

[[rules]]
name = "input drift"
model = "{MODEL}"
drift = "feature:*"
notify = ["on_call"]

[[rules]]
name = "hopeless run"
run = "{RUN}*"
trigger = "falling"
notify = ["on_call"]
command = {{ kind = "stop" }}

[notifiers.on_call]
kind = "email"
to = ["ml-on-call@demo.example"]
""")
