"""Real rows that come inside an installed wheel: the UCI Statlog (Shuttle) data set, from river."""

from functools import cache
from typing import Any

import numpy as np

from mlmm.console.demo.plan import TRAINING_ROWS
from mlmm.runtime.extras import require

__all__ = ["names", "serving_rows", "train_model", "training_rows"]


@cache
def _shuttle() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    data = require("river.datasets", extra="embedded", purpose="mlmm demo").Shuttle()
    pairs = list(data)
    features = np.array([list(x.values()) for x, _ in pairs], dtype=np.float64)
    return tuple(pairs[0][0]), features, np.array([int(y) for _, y in pairs])


def names() -> tuple[str, ...]:
    """Return the names of the nine sensors."""
    return _shuttle()[0]


def training_rows() -> tuple[np.ndarray, np.ndarray]:
    """Return features (float64[n, 9]) and classes (int[n], 1 is an anomaly) to train on."""
    _, features, classes = _shuttle()
    return features[:TRAINING_ROWS], classes[:TRAINING_ROWS]


def serving_rows() -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that the model has not seen."""
    _, features, classes = _shuttle()
    return features[TRAINING_ROWS:], classes[TRAINING_ROWS:]


def train_model() -> Any:
    """Train the model that is served."""
    ensemble = require("sklearn.ensemble", extra="embedded", purpose="mlmm demo")
    return ensemble.HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(*training_rows())
