"""What users attach to their serving and training processes.

Importing this room loads neither Kafka's client nor numpy: a serving process starts as fast as before.
"""

from mlmm.producers.checkpoints import DamagedCheckpoint
from mlmm.producers.emitter import Emitter
from mlmm.producers.intake import Stats
from mlmm.producers.monitor import Monitor
from mlmm.producers.outcome import Outcome, RunStopped
from mlmm.producers.training_run import TrainingRun
from mlmm.producers.triggers import falling, falling_strict, not_finite, plateau

__all__ = [
    "DamagedCheckpoint",
    "Emitter",
    "Monitor",
    "Outcome",
    "RunStopped",
    "Stats",
    "TrainingRun",
    "falling",
    "falling_strict",
    "not_finite",
    "plateau",
]
