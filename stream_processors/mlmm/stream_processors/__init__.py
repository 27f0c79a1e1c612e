"""Stream processors: pure functions that fold events into reports, drift and the states of runs.

``ServingProcessor`` watches served models, ``TrainingProcessor`` training runs; the harness of `mlmm.runtime` or
``mlmm replay`` runs them.
"""

from mlmm.stream_processors.serving import ServingProcessor
from mlmm.stream_processors.training import TrainingProcessor

__all__ = ["ServingProcessor", "TrainingProcessor"]
