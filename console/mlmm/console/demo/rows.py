"""Real rows that come inside an installed wheel: the UCI Statlog (Shuttle) data set, from river."""

import gzip
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mlmm.console.demo.plan import TRAINING_ROWS
from mlmm.runtime.errors import MissingExtra
from mlmm.runtime.extras import require

__all__ = ["names", "serving_rows", "train_model", "training_rows"]


@cache
def _shuttle() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    package = importlib.util.find_spec("river")  # its import takes seconds, and the rows are all that is wanted
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("river", extra="embedded", purpose="mlmm demo")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "shuttle.csv.gz"
    with gzip.open(file, "rt") as lines:
        header = lines.readline().strip().split(",")
        table = np.loadtxt(lines, delimiter=",")
    return tuple(header[:-1]), table[:, :-1], table[:, -1].astype(int)


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
    """Train the model that is served: right in 99.9 % of the rows, until a sensor reads high."""
    tree = require("sklearn.tree", extra="embedded", purpose="mlmm demo")
    return tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(*training_rows())
