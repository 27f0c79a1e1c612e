"""Pure processors that fold events into findings: `serving` and `training`. They import neither Kafka nor Redis.

``ServingProcessor`` watches served models, ``TrainingProcessor`` training runs; the harness of `mlmm.runtime` or
``mlmm replay`` runs them. ``warm_up`` loads their compiled kernels before the first record comes.
"""

from mlmm.stream_processors.serving import ServingProcessor
from mlmm.stream_processors.training import TrainingProcessor
from mlmm.stream_processors.warming import warm_up

__all__ = ["ServingProcessor", "TrainingProcessor", "warm_up"]
