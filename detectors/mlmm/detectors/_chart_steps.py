"""Control charts, one value at a time on a row of float64: CUSUM, EWMA, Shewhart.

All begin alike: `LOCATION` and `SCALE` are estimated from the first values (or are 0 and 1), then each value is judged
in units of the scale. A row keeps a chart's own sums from column `OWN` on.
"""

import numpy as np
import numpy.typing as npt

from ._row import DOWN, DRIFT, LOCATION, MEAN, OWN, SCALE, SQUARES, UP, N
from .compiled import kernel

__all__ = ["cusum_step", "ewma_step", "shewhart_step"]

_Row = npt.NDArray[np.float64]
_FURTHEST = 1e9
# Beside the rounding of a mean: a constant series has no other spread, and any change of it is one.
_RELATIVE, _LEAST = 1e-14, 1e-300


@kernel(inline=True)
def _standardised(row: _Row, x: float, baseline: float) -> float:
    """Judge a value in units of the scale; NaN while the baseline is being learnt."""
    if baseline == 0.0:
        return min(max(x, -_FURTHEST), _FURTHEST)
    n = row[N]
    if n <= baseline:
        row[SQUARES] += (x - row[LOCATION]) * (x - row[MEAN])
        row[LOCATION] = row[MEAN]
        if n == baseline:
            spread = np.sqrt(row[SQUARES] / (n - 1.0))
            row[SCALE] = max(spread, _RELATIVE * abs(row[MEAN]), _LEAST)
        return np.nan
    return float(min(max((x - row[LOCATION]) / row[SCALE], -_FURTHEST), _FURTHEST))


@kernel(inline=True)
def cusum_step(row: _Row, x: float, p: _Row) -> int:
    """Parameters: k, h, baseline, mode."""
    z = _standardised(row, x, p[2])
    if np.isnan(z):
        return 0
    row[OWN] = max(0.0, row[OWN] + z - p[0])
    row[OWN + 1] = max(0.0, row[OWN + 1] - z - p[0])
    mode = int(p[3])
    up = row[OWN] > p[1] and (mode & 1) != 0
    down = row[OWN + 1] > p[1] and (mode & 2) != 0
    return (DRIFT if up or down else 0) | (UP if up else 0) | (DOWN if down else 0)


@kernel(inline=True)
def ewma_step(row: _Row, x: float, p: _Row) -> int:
    """Parameters: lambda, limit (of the weighted mean, in standard deviations of a value), baseline, mode."""
    z = _standardised(row, x, p[2])
    if np.isnan(z):
        return 0
    weight = p[0]
    row[OWN] = weight * z + (1.0 - weight) * row[OWN]
    mode = int(p[3])
    up = row[OWN] > p[1] and (mode & 1) != 0
    down = -row[OWN] > p[1] and (mode & 2) != 0
    return (DRIFT if up or down else 0) | (UP if up else 0) | (DOWN if down else 0)


@kernel(inline=True)
def shewhart_step(row: _Row, x: float, p: _Row) -> int:
    """Parameters: limit, western_electric, baseline, mode. Own: zones of the last eight values, of each side."""
    z = _standardised(row, x, p[2])
    if np.isnan(z):
        return 0
    mode = int(p[3])
    up = z > p[0] and (mode & 1) != 0
    down = -z > p[0] and (mode & 2) != 0
    if p[1] != 0.0:
        for side in range(2):
            if (mode >> side) & 1 == 0:
                continue
            beyond = z if side == 0 else -z
            # Zones as a number 0..3: this side of the centre or not, beyond 1, beyond 2 standard deviations.
            zone = (beyond > 0.0) + (beyond > 1.0) + (beyond > 2.0)
            past = (int(row[OWN + side]) * 4 + zone) & 0xFFFF
            row[OWN + side] = past
            if _runs(past):
                up = up or side == 0
                down = down or side == 1
    return (DRIFT if up or down else 0) | (UP if up else 0) | (DOWN if down else 0)


@kernel
def _runs(past: int) -> bool:
    """Western Electric's rules 2 to 4 on the zones of the last eight values of one side, two bits each."""
    beyond_two = beyond_one = same_side = 0
    for k in range(8):
        zone = (past >> (2 * k)) & 3
        beyond_two += k < 3 and zone >= 3
        beyond_one += k < 5 and zone >= 2
        same_side += zone >= 1
    return beyond_two >= 2 or beyond_one >= 4 or same_side == 8
