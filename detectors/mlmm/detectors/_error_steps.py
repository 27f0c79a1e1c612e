"""Detectors of an error rate, one value of 0 (right) to 1 (wrong) at a time on a row of float64.

The arithmetic keeps the order of operations of river 0.26.1 where river has the detector, so that alarms and state are
equal to the last bit. Logarithms of parameters are taken once, in Python.
"""

import math

import numpy as np
import numpy.typing as npt

from ._row import DOWN, DRIFT, FOREVER, MEAN, OWN, UP, WARNING, N
from .compiled import kernel

__all__ = ["ddm_step", "eddm_step", "fhddm_step", "hddm_a_step", "hddm_w_step", "stepd_step"]

_Row = npt.NDArray[np.float64]


@kernel(inline=True)
def ddm_step(row: _Row, x: float, p: _Row) -> int:  # noqa: ARG001 - the mean is all that it looks at
    """Parameters: warm_start, warning_threshold, drift_threshold. Own: lowest rate, its deviation."""
    n, rate = row[N], row[MEAN]
    deviation = np.sqrt(max(rate * (1.0 - rate) / n, 0.0))
    if n <= p[0]:
        return 0
    if row[OWN + 2] == 0.0 or rate + deviation <= row[OWN] + row[OWN + 1]:
        row[OWN], row[OWN + 1], row[OWN + 2] = rate, deviation, 1.0
    if rate + deviation > row[OWN] + p[2] * row[OWN + 1]:
        return DRIFT | UP
    return WARNING if rate + deviation > row[OWN] + p[1] * row[OWN + 1] else 0


@kernel(inline=True)
def eddm_step(row: _Row, x: float, p: _Row, flags: int) -> int:
    """Parameters: warm_start, alpha, beta. Own: errors, last one's place, mean and squares of distances, highest."""
    if x != 1.0:
        return flags & WARNING
    n = row[N]
    errors = row[OWN] + 1.0
    distance = n - row[OWN + 1]
    old = row[OWN + 2]
    mean = old + (1.0 / errors) * (distance - old)
    row[OWN + 3] += (distance - old) * (distance - mean)
    row[OWN], row[OWN + 1], row[OWN + 2] = errors, n, mean
    if n <= p[0]:
        return flags & WARNING
    variance = row[OWN + 3] / (errors - 1.0) if errors > 1.0 else 0.0
    level = mean + 2.0 * variance**0.5
    if level > row[OWN + 4]:
        row[OWN + 4] = level
        return flags & WARNING
    if errors <= p[0]:
        return flags & WARNING
    ratio = level / row[OWN + 4]
    if ratio < p[2]:
        return DRIFT | UP | (flags & WARNING)
    return WARNING if ratio < p[1] else 0


@kernel(inline=True)
def _exceeds(n: float, cut: float, difference: float, log: float) -> bool:
    """Whether the mean of `n` values differs from that of its first `cut` by more than Hoeffding's bound."""
    if cut == n:
        return False
    m = (n - cut) / cut * (1.0 / n)
    return difference >= math.sqrt(m / 2.0 * log)


@kernel(inline=True)
def hddm_a_step(row: _Row, x: float, p: _Row) -> int:  # noqa: ARG001 - the mean is all that it looks at
    """Parameters: logs of 1/drift, 2/drift, 2/warning; two_sided. Own: n, mean at lowest and highest bound."""
    n, mean = row[N], row[MEAN]
    if row[OWN] == 0.0:
        row[OWN], row[OWN + 1] = n, mean
        row[OWN + 2], row[OWN + 3] = n, mean
    bound = np.sqrt(1.0 / (2.0 * n) * p[0])
    if row[OWN + 1] + np.sqrt(1.0 / (2.0 * row[OWN]) * p[0]) >= mean + bound:
        row[OWN], row[OWN + 1] = n, mean
    if row[OWN + 3] - np.sqrt(1.0 / (2.0 * row[OWN + 2]) * p[0]) <= mean - bound:
        row[OWN + 2], row[OWN + 3] = n, mean
    flags = 0
    if _exceeds(n, row[OWN], mean - row[OWN + 1], p[1]):
        flags = DRIFT | UP
    elif _exceeds(n, row[OWN], mean - row[OWN + 1], p[2]):
        flags = WARNING
    if p[3] != 0.0:
        if _exceeds(n, row[OWN + 2], row[OWN + 3] - mean, p[1]):
            flags |= DRIFT | DOWN
        elif _exceeds(n, row[OWN + 2], row[OWN + 3] - mean, p[2]):
            flags |= WARNING
    return flags


# A sample of HDDM-W: its weighted mean, its bounded-difference sum, and how often it was updated.
@kernel(inline=True)
def _sample(row: _Row, at: int, x: float, weight: float) -> None:
    row[at] = weight * x + (1.0 - weight) * row[at] if row[at + 2] != 0.0 else x
    rest = 1.0 - weight
    row[at + 1] = weight * weight + (rest * rest) * (row[at + 1] if row[at + 2] != 0.0 else 1.0)
    row[at + 2] = 1.0


@kernel(inline=True)
def _differs(row: _Row, one: int, other: int, log: float) -> bool:
    """Whether sample `other` is above sample `one` by more than McDiarmid's bound."""
    if row[one + 2] == 0.0 or row[other + 2] == 0.0:
        return False
    return bool(row[other] - row[one] > math.sqrt((row[one + 1] + row[other + 1]) * log / 2.0))


@kernel(inline=True)
def hddm_w_step(row: _Row, x: float, p: _Row) -> int:
    """Parameters: logs of 1/drift, 1/warning; lambda, two_sided. Own: five samples, two cut points."""
    total, first_up, then_up, first_down, then_down, cut = OWN, OWN + 3, OWN + 6, OWN + 9, OWN + 12, OWN + 15
    if row[N] == 1.0:
        row[cut], row[cut + 1] = FOREVER, -FOREVER
    _sample(row, total, x, p[2])
    bound = np.sqrt(row[total + 1] * p[0] / 2.0)
    if row[total] + bound < row[cut]:
        row[cut] = row[total] + bound
        for k in range(3):
            row[first_up + k] = row[total + k]
            row[then_up + k] = 0.0
    else:
        _sample(row, then_up, x, p[2])
    flags = 0
    if _differs(row, first_up, then_up, p[0]):
        flags = DRIFT | UP
    elif _differs(row, first_up, then_up, p[1]):
        flags = WARNING
    if row[total] - bound > row[cut + 1]:
        row[cut + 1] = row[total] - bound
        for k in range(3):
            row[first_down + k] = row[total + k]
            row[then_down + k] = 0.0
    else:
        _sample(row, then_down, x, p[2])
    if p[3] != 0.0:
        if _differs(row, then_down, first_down, p[0]):
            flags |= DRIFT | DOWN
        elif _differs(row, then_down, first_down, p[1]):
            flags |= WARNING
    return flags


@kernel(inline=True)
def fhddm_step(row: _Row, x: float, p: _Row) -> int:
    """Parameters: window, bound, short window, its bound. Own: sum, highest of both means, then the window, a ring."""
    size, n, ring = int(p[0]), int(row[N]), OWN + 3
    place = (n - 1) % size
    if n > size:
        row[OWN] -= row[ring + place]
    row[ring + place] = x
    row[OWN] += x
    if n < size:
        return 0
    mean = row[OWN] / p[0]
    row[OWN + 1] = max(row[OWN + 1], mean)
    drift = row[OWN + 1] - mean > p[1]
    short = int(p[2])
    if short > 0:
        total = 0.0
        for k in range(short):
            total += row[ring + (n - short + k) % size]
        total /= p[2]
        row[OWN + 2] = max(row[OWN + 2], total)
        drift = drift or row[OWN + 2] - total > p[3]
    return DRIFT | DOWN if drift else 0


@kernel(inline=True)
def stepd_step(row: _Row, x: float, p: _Row) -> int:
    """Parameters: window, alpha_drift, alpha_warning. Own: sums of all and of the window, then the window as a ring."""
    size, n, ring = int(p[0]), int(row[N]), OWN + 2
    place = (n - 1) % size
    if n > size:
        row[OWN + 1] -= row[ring + place]
    row[ring + place] = x
    row[OWN] += x
    row[OWN + 1] += x
    if n < 2 * size:
        return 0
    older, recent = float(n - size), p[0]
    before, after = (row[OWN] - row[OWN + 1]) / older, row[OWN + 1] / recent
    pooled = row[OWN] / n
    spread = 1.0 / older + 1.0 / recent
    deviation = np.sqrt(max(pooled * (1.0 - pooled) * spread, 0.0))
    if deviation == 0.0 or after <= before:
        return 0
    statistic = max(after - before - 0.5 * spread, 0.0) / deviation
    p_value = math.erfc(statistic / math.sqrt(2.0))
    if p_value < p[1]:
        return DRIFT | UP
    return WARNING if p_value < p[2] else 0
