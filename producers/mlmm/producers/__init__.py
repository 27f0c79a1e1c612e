"""What users attach to their serving and training processes.

Importing this room loads neither Kafka's client nor numpy: a serving process starts as fast as before.
"""

from mlmm.producers.emitter import Emitter
from mlmm.producers.intake import Stats
from mlmm.producers.monitor import Monitor

__all__ = ["Emitter", "Monitor", "Stats"]
