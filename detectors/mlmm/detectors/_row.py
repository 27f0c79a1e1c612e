"""What all detectors whose state is one row of float64 share: the first columns and the flags of a value."""

__all__ = [
    "DOWN",
    "DRIFT",
    "FLAGS",
    "FOREVER",
    "LOCATION",
    "MEAN",
    "MODES",
    "OWN",
    "SCALE",
    "SQUARES",
    "UP",
    "WARNING",
    "N",
]  # fmt: skip

FLAGS, N, MEAN = 0, 1, 2
"""What the last value raised; values since the last alarm, that one included; their mean."""
SQUARES, LOCATION, SCALE = 3, 4, 5
"""Charts alone: the baseline's sum of squares, its mean, its standard deviation."""
OWN = 6
"""First column of a detector's own."""

DRIFT, WARNING, UP, DOWN = 1, 2, 4, 8
"""Flags."""
FOREVER = 1e300
"""In place of infinity, since all of a stored row is finite."""

MODES = {"up": 1, "down": 2, "both": 3}
"""Which changes raise an alarm, as bits."""
