"""Training runs: what they do, whether they still live, and whether they are going nowhere.

`TrainingProcessor` folds the training topic into findings. Its triggers can be tried on a curve with `first_firing`.
"""

from mlmm.stream_processors.training.bounds import Bounds
from mlmm.stream_processors.training.processor import TrainingProcessor
from mlmm.stream_processors.training.state import TrainingState
from mlmm.stream_processors.training.triggers import first_firing

__all__ = ["Bounds", "TrainingProcessor", "TrainingState", "first_firing"]
