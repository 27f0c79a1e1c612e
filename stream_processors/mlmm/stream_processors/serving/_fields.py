"""Columns of the integer and float matrices that hold a partition's state: one row a thing, one column a fact."""

from typing import NamedTuple

__all__ = ["Config"]

NEVER = -(1 << 62)
"""A time before all times."""
ALWAYS = (1 << 62) - 1
"""A time after all times."""


class Config(NamedTuple):
    """What kernels need of the settings; times in microseconds."""

    lateness: int
    idle: int
    horizon: int
    max_pending: int
    block: int
    """Pairs in a tenth of the window over the last pairs."""
    baseline: int
    adwin: bool
    page_hinkley: bool
    watch_error: bool
    adwin_delta: float
    page_hinkley_delta: float
    page_hinkley_threshold: float
    clip: float


# --- a pending row: a prediction, its label, or both ---------------------------------------------------------------
ROW_HASH, ROW_HASH2, ROW_LOG, ROW_TIME, ROW_OUTPUT, ROW_LABEL, ROW_LABEL_TIME, ROW_POSITIVE, ROW_FLAGS = range(9)
ROW_COLUMNS = 9

HAS_PREDICTION = 1
HAS_LABEL = 2
IS_PAIR = 4
"""Both are there and were usable: the pair has an ordinal."""
TASK_SHIFT = 4
PAIR_SHIFT = 8
"""``ROW_FLAGS >> PAIR_SHIFT`` is the pair's ordinal, ``>> TASK_SHIFT & 3`` the task."""
BINARY, MULTICLASS, REGRESSION = range(3)
TASKS = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION}

# --- a chunk of pending rows ---------------------------------------------------------------------------------------
CHUNK_SHIFT = 6
CHUNK_ROWS = 1 << CHUNK_SHIFT
CHUNK_MODEL, CHUNK_NUMBER, CHUNK_NEXT = range(3)
CHUNK_COLUMNS = 3

# --- a model: first what its cell keeps, then what is derived from the rest of the state ----------------------------
(
    M_NEXT_ROW,
    M_ROWS,
    M_PREDICTIONS_HELD,
    M_JOINED_HELD,
    M_PAIRS,  # ordinal of the next pair
    M_BLOCK,  # pairs a block of the last pairs
    M_WATERMARK,  # service; performance is the next
    M_WATERMARK_1,
    M_LAST_LOG,  # service; performance is the next
    M_LAST_LOG_1,
    M_LAST_CORRECTIONS,
    C_PREDICTIONS,
    C_LABELS,
    C_FAILURES,
    C_DUPLICATES,
    C_LATE,
    C_CORRECTIONS,
    C_REPEATED,
    C_EXPIRED,
    C_ORPHANS,
    C_EVICTED,
    C_UNUSABLE,
    C_MISSING,
    C_LEFT_OUT,
    C_PAIRS,
    C_DRIFTS,
    M_HEAD,
    M_TAIL,
    M_FIRST_END,  # earliest end of an open window: service; performance is the next
    M_FIRST_END_1,
    M_DUE,
    M_ERROR_SERIES,
) = range(32)
MODEL_COLUMNS = 32
M_KEPT = M_HEAD
"""Columns before this one are in the model's cell."""
COUNTERS = {
    "predictions": C_PREDICTIONS,
    "labels": C_LABELS,
    "failures": C_FAILURES,
    "duplicates": C_DUPLICATES,
    "late": C_LATE,
    "pairs": C_PAIRS,
    "corrections": C_CORRECTIONS,
    "labels_repeated": C_REPEATED,
    "predictions_expired": C_EXPIRED,
    "labels_orphaned": C_ORPHANS,
    "rows_evicted": C_EVICTED,
    "pairs_unusable": C_UNUSABLE,
    "values_missing": C_MISSING,
    "values_left_out": C_LEFT_OUT,
    "drifts": C_DRIFTS,
}

# --- what waits for the next report, per model and window size ------------------------------------------------------
P_LATE, P_LATE_1, P_DUPLICATES, P_CORRECTIONS = range(4)
PENDING_COLUMNS = 4

# --- accumulators: of an open window, or of a block of the last pairs ----------------------------------------------
SERVICE, PERFORMANCE = range(2)
(
    A_START,  # of a window; of a block: its number
    A_PREDICTIONS,
    A_FAILURES,
    A_LATENCIES,
    A_BINARY_OUTPUTS,
    A_POSITIVE_OUTPUTS,
    A_NUMBERS,
    A_LOWEST,  # bucket of the sketch
    A_HIGHEST,
) = range(9)
# The same columns in the performance family:
A_CLASSES, A_CORRECT, A_BINARY, A_TRUE_POSITIVE, A_FALSE_POSITIVE, A_FALSE_NEGATIVE, A_NUMERIC, A_FIRST, A_LAST = range(
    1, 10
)
ACCUMULATED = 10
F_LATENCY_SUM, F_LATENCY_MIN, F_LATENCY_MAX, F_OUTPUT_SUM = range(4)
F_ABSOLUTE, F_SQUARED, F_SIGNED, F_LAG = range(4)
ACCUMULATED_FLOATS = 4
BLOCKS = 11
"""Blocks of the last pairs that are kept: ten whole ones and the one being filled."""

# --- a series of numbers with its detectors ------------------------------------------------------------------------
(
    S_COUNT,
    S_MEAN,
    S_SQUARES,
    S_SCALE,
    S_BLOCK_SUM,
    S_BLOCK_COUNT,
    S_BLOCK_SIZE,
    S_BLOCKS,
    S_EVER,
    S_MISSING,
    S_BERNOULLI,
) = range(11)
SERIES_COLUMNS = 11
HISTORY = 32
"""Block means that a series keeps; when there are more, neighbours merge and blocks are twice as long."""
HISTORY_BLOCK = 16
"""Values of a block at first."""
GROUP = 32
"""Feature series that share a cell."""

# --- an emission: a report or a drift to be --------------------------------------------------------------------------
REPORT_SERVICE, REPORT_PERFORMANCE, REPORT_LAST, DRIFT_ERROR, DRIFT_FEATURE = range(5)
(
    E_KIND,
    E_PLACE,  # position of its cause among all rows of the poll
    E_TIMER,  # 1: a deadline caused it
    E_MODEL,
    E_SIZE,  # index of the window size; of a drift: the series
    E_LOG,
    E_END,  # end of a window over the last pairs; event time of a drift
    E_LATE,
    E_DUPLICATES,  # of the performance family: corrections
    E_HELD,
    E_JOINED,
    E_EVER,  # of a drift: values of the series ever
    E_FIGURES,
) = range(13)
EMITTED = E_FIGURES + ACCUMULATED
G_P50, G_P95, G_P99 = range(ACCUMULATED_FLOATS, ACCUMULATED_FLOATS + 3)
D_DETECTOR, D_BEFORE, D_AFTER, D_OBSERVED, D_BEGAN, D_BLOCK_SIZE, D_BLOCKS, D_HISTORY = range(8)
EMITTED_FLOATS = D_HISTORY + HISTORY
ADWIN_ALARM, PAGE_HINKLEY_ALARM = 1, 2

# --- a block of a poll ------------------------------------------------------------------------------------------------
(
    B_KIND,
    B_MODEL,
    B_ROWS,
    B_LOG,
    B_PLACE,  # first position among all rows of the poll
    B_TIMES,  # first index into times
    B_VALUES,  # first index into outputs and label values, and into id lengths
    B_IDS,  # first byte of ids
    B_LATENCY,  # first index into latencies, -1: none were given
    B_CLASSES,  # first index into class codes, -1: values are numbers
    B_TASK,
    B_POSITIVE,
    B_FEATURES,  # first index into features
    B_WIDTH,  # features a row
    B_SERIES,  # first index into the table of series
) = range(15)
BLOCK_COLUMNS = 15
PREDICTIONS, LABELS, FAILURES, TICK = range(4)
