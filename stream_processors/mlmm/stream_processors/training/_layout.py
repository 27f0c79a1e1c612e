"""The words of a run's figures: where everything lies in the state cell ``s`` (layout 1).

A run owns one segment of 64-bit little-endian words. It begins with the segment's head; the series (one a metric)
follow in the order in which their metrics were first seen. A series is its head, its history and a watch for each
trigger that minds it. A word is an ``i64`` (marked i) or an ``f64`` (marked f). Microseconds since the epoch for times.
"""

from typing import Final

__all__ = [
    "ACC",
    "ACC_N",
    "ALPHA",
    "BEAT_STEP",
    "BEST",
    "COUNT",
    "DROP",
    "EVENTS",
    "FALLING",
    "FALLING_STRICT",
    "FIRED",
    "HEARD",
    "HISTORY",
    "HISTORY_AT",
    "HIST_N",
    "HIST_SIZE",
    "KIND",
    "LAST",
    "LAYOUT",
    "LEVEL",
    "NOT_FINITE",
    "NO_STEP",
    "PATIENCE",
    "PLATEAU",
    "SEEN",
    "SEGMENT",
    "SERIES",
    "SERIES_HEAD",
    "SIGN",
    "STEP",
    "STREAK",
    "TRIGGER",
    "UNUSUAL",
    "WATCH",
    "WATCHES",
]

LAYOUT: Final = 1
NO_STEP: Final = -(2**63)
"""A step that was never told."""

# The segment's head.
HEARD: Final = 0  # i  log time of the attempt's last word
STEP: Final = 1  # i  step of its last metrics
BEAT_STEP: Final = 2  # i  step of its last heartbeat that told one
EVENTS: Final = 3  # i  metrics events folded
SERIES: Final = 4  # i  series that follow
SEGMENT: Final = 5  # words of the head

# A series, relative to its first word.
COUNT: Final = 0  # i  values seen
LAST: Final = 1  # f  the last one
UNUSUAL: Final = 2  # i  values that were NaN or infinite
WATCHES: Final = 3  # i  watches that follow the history
HIST_N: Final = 4  # i  whole blocks in the history
HIST_SIZE: Final = 5  # i  finite values a block
ACC_N: Final = 6  # i  finite values in the block that is being filled
ACC: Final = 7  # f  their mean
HISTORY_AT: Final = 8  # f  means of the whole blocks, oldest first
HISTORY: Final = 64  # blocks; when they are full, pairs are merged and a block holds twice as many values
SERIES_HEAD: Final = HISTORY_AT + HISTORY

# A watch: one trigger on one series, relative to its first word.
KIND: Final = 0  # i  one of the kinds below
TRIGGER: Final = 1  # i  place among the run's triggers
SIGN: Final = 2  # f  1 where higher is better, -1 where lower is: everything below is in "higher is better"
ALPHA: Final = 3  # f  weight of a new value in the smoothed level
DROP: Final = 4  # f  `drop` or `min_delta`
PATIENCE: Final = 5  # i  `count`, `patience` or `evaluations`
BEST: Final = 6  # f  best level or value
LEVEL: Final = 7  # f  smoothed level, or the value before
STREAK: Final = 8  # i  values in a row that speak for firing
SEEN: Final = 9  # i  0 before the first value, then 1
FIRED: Final = 10  # i  1 once it fired: a trigger fires once an attempt and metric
WATCH: Final = 11  # words of a watch

FALLING_STRICT: Final = 1
FALLING: Final = 2
NOT_FINITE: Final = 3
PLATEAU: Final = 4
