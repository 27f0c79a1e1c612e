"""Average run lengths of CUSUM and EWMA charts, and the limits that give a wanted one.

The run length is the number of values up to and with the one that alarms. Charts start at zero. For independent values
the state of a chart is a Markov chain; its mean run lengths solve one linear system (Brook and Evans, 1972). For normal
values the states are Gauss-Legendre nodes, so that the figures are exact to many digits; for a Bernoulli CUSUM they are
the points of its lattice.

Sources: Page, "Continuous inspection schemes", Biometrika 41, 1954. Brook and Evans, "An approach to the probability
distribution of CUSUM run length", Biometrika 59, 1972. Lucas and Saccucci, "Exponentially weighted moving average
control schemes", Technometrics 32, 1990. Reynolds and Stoumbos, "A CUSUM chart for monitoring a proportion when
inspecting continuously", Journal of Quality Technology 31, 1999.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ._parameters import number, whole
from ._run_length_tables import CUSUM, CUSUM_LOG10, EWMA, EWMA_LOG10

__all__ = [
    "bernoulli_cusum_run_length",
    "bernoulli_cusum_threshold",
    "cusum_run_length",
    "cusum_threshold",
    "ewma_limit",
    "ewma_run_length",
    "samples_in",
]

_NEVER = 1e14
"""Beyond this a solution of the linear system is rounding error."""
_Array = npt.NDArray[np.float64]


def samples_in(seconds: float, *, per_second: float) -> float:
    """Turn a duration into a number of samples, for `mean_time_between_false_alarms`.

    Parameters
    ----------
    seconds : float
        The duration, above 0.
    per_second : float
        Rate of the values that the detector sees, above 0.

    Examples
    --------
    >>> samples_in(30 * 86400, per_second=0.1)
    259200.0
    """
    return number("seconds", seconds, above=0.0) * number("per_second", per_second, above=0.0)


def cusum_run_length(k: float, h: float, *, shift: float = 0.0, two_sided: bool = True) -> float:
    """Average run length of a CUSUM of standard normal values.

    It sums ``max(0, sum + x - k)``, two-sided also of ``-x``, and alarms above `h`.

    Parameters
    ----------
    k : float
        Reference value in standard deviations, at least 0.
    h : float
        Decision interval in standard deviations, above 0.
    shift : float
        Mean of the values in standard deviations.
    two_sided : bool
        Whether a decrease alarms too.

    Returns
    -------
    float
        Mean number of values to the alarm; infinity beyond 1e14.

    Examples
    --------
    >>> round(cusum_run_length(0.5, 4.0), 1), round(cusum_run_length(0.5, 4.0, shift=1.0), 2)
    (167.7, 8.38)
    """
    k = number("k", k, least=0.0, most=100.0)
    h = number("h", h, above=0.0, most=1000.0)
    shift = number("shift", shift, least=-100.0, most=100.0)
    up = _one_sided(k - shift, h)
    # Exact, since one side stands at zero when the other alarms (Kemp, 1961).
    return 1.0 / (1.0 / up + 1.0 / _one_sided(k + shift, h)) if two_sided else up


def cusum_threshold(k: float, run_length: float, *, two_sided: bool = True) -> float:
    """Decision interval of a CUSUM of standard normal values for a wanted average run length without a change.

    For `k` of the table (0.05 to 1.5) and run lengths of 1e2 to 1e8 it is looked up in microseconds, otherwise solved
    for in some tenths of a second.

    Parameters
    ----------
    k : float
        Reference value in standard deviations: half of the shift that it is to be best at.
    run_length : float
        Wanted mean number of values between false alarms, 2 to 1e10.
    two_sided : bool
        Whether a decrease alarms too.

    Examples
    --------
    >>> round(cusum_threshold(0.5, 465.4), 2)
    5.0
    """
    k = number("k", k, least=0.0, most=5.0)
    one_sided = number("run_length", run_length, least=2.0, most=1e10) * (2.0 if two_sided else 1.0)
    if k in CUSUM and CUSUM_LOG10[0] <= math.log10(one_sided) <= CUSUM_LOG10[-1]:
        return _look_up(CUSUM_LOG10, CUSUM[k], one_sided)
    return solve_cusum(k, one_sided)


def ewma_run_length(weight: float, limit: float, *, shift: float = 0.0) -> float:
    """Average run length of a two-sided EWMA of standard normal values.

    It averages ``weight * x + (1 - weight) * average`` and alarms where that is further from zero than `limit` times
    its standard deviation in the long run, ``sqrt(weight / (2 - weight))``.

    Parameters
    ----------
    weight : float
        Of the newest value, in [0.01, 1].
    limit : float
        In standard deviations of the average, above 0.
    shift : float
        Mean of the values in standard deviations.

    Examples
    --------
    >>> round(ewma_run_length(0.1, 2.814)), round(ewma_run_length(0.1, 2.814, shift=1.0), 1)
    (500, 10.3)
    """
    weight = number("weight", weight, least=0.01, most=1.0)
    limit = number("limit", limit, above=0.0, most=20.0)
    shift = number("shift", shift, least=-100.0, most=100.0)
    edge = limit * math.sqrt(weight / (2.0 - weight))
    nodes, weights = _nodes(-edge, edge, 6.0 * edge / weight)
    last = np.concatenate((nodes, [0.0]))
    moves = weights * _density((nodes - (1.0 - weight) * last[:, None]) / weight - shift) / weight
    return _mean_time(np.column_stack((moves, np.zeros(len(last)))))


def ewma_limit(weight: float, run_length: float) -> float:
    """Limit of a two-sided EWMA of standard normal values for a wanted average run length without a change.

    For weights of the table (0.02 to 1) and run lengths of 1e2 to 1e8 it is looked up, otherwise solved for.

    Parameters
    ----------
    weight : float
        Of the newest value, in [0.01, 1].
    run_length : float
        Wanted mean number of values between false alarms, 2 to 1e10.

    Examples
    --------
    >>> round(ewma_limit(0.2, 500.0), 2)
    2.96
    """
    weight = number("weight", weight, least=0.01, most=1.0)
    run_length = number("run_length", run_length, least=2.0, most=1e10)
    if weight in EWMA and EWMA_LOG10[0] <= math.log10(run_length) <= EWMA_LOG10[-1]:
        return _look_up(EWMA_LOG10, EWMA[weight], run_length)
    return solve_ewma(weight, run_length)


def bernoulli_cusum_run_length(chance: float, rise: int, h: int, *, start: int = 0) -> float:
    """Average run length of a Bernoulli CUSUM, exact.

    A one adds `rise`, a zero takes 1 away, never below 0; it alarms at `h` or above. Such a chart is best at the change
    whose log-likelihood ratios of a one and of a zero are as `rise` to -1.

    Parameters
    ----------
    chance : float
        Chance of a one, in (0, 1).
    rise : int
        What a one adds, at least 1.
    h : int
        Where it alarms, 1 to 2000.
    start : int
        Where it starts, 0 to ``h - 1``.

    Returns
    -------
    float
        Mean number of values to the alarm; infinity beyond 1e14.
    """
    chance = number("chance", chance, above=0.0, below=1.0)
    rise = whole("rise", rise, least=1, most=1_000_000)
    h = whole("h", h, least=1, most=2000)
    start = whole("start", start, least=0, most=h - 1)
    moves = np.zeros((h, h))
    state = np.arange(h)
    moves[state, np.maximum(state - 1, 0)] = 1.0 - chance
    moves[state[: max(h - rise, 0)], state[rise:]] += chance
    return _mean_time(moves, start)


def bernoulli_cusum_threshold(chance: float, rise: int, run_length: float) -> int:
    """Least `h` at which a Bernoulli CUSUM's average run length is at least the wanted one.

    Raises
    ------
    ValueError
        If `h` would be above 2000: then take a smaller `rise`.
    """
    run_length = number("run_length", run_length, least=2.0, most=1e10)
    high = 1
    while bernoulli_cusum_run_length(chance, rise, high) < run_length:
        if high >= 2000:
            raise ValueError(f"rise must be smaller, not {rise!r}: a run length of {run_length:g} needs h above 2000")
        high = min(2 * high, 2000)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if bernoulli_cusum_run_length(chance, rise, middle) < run_length:
            low = middle
        else:
            high = middle
    return high


def solve_cusum(k: float, run_length: float) -> float:
    """Decision interval of a one-sided CUSUM, without the table."""
    return _solve(lambda h: _one_sided(k, h), run_length)


def solve_ewma(weight: float, run_length: float) -> float:
    """Limit of a two-sided EWMA, without the table."""
    return _solve(lambda limit: ewma_run_length(weight, limit), run_length)


def _one_sided(k: float, h: float) -> float:
    nodes, weights = _nodes(0.0, h, 3.0 * h)
    last = np.concatenate((nodes, [0.0]))
    moves = weights * _density(nodes + k - last[:, None])
    to_zero = np.array([0.5 * math.erfc(x) for x in (last - k) / math.sqrt(2.0)])
    return _mean_time(np.column_stack((moves, to_zero)))


def _nodes(low: float, high: float, count: float) -> tuple[_Array, _Array]:
    """Nodes and weights for an integral; `count` for a kernel of width 1 makes the error negligible."""
    nodes, weights = np.polynomial.legendre.leggauss(max(24, math.ceil(count)))
    return low + 0.5 * (high - low) * (nodes + 1.0), 0.5 * (high - low) * weights


def _density(x: _Array) -> _Array:
    density: _Array = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return density


def _mean_time(moves: _Array, start: int = -1) -> float:
    """Mean number of steps until a chain leaves the states that it moves among."""
    try:
        times = np.linalg.solve(np.eye(len(moves)) - moves, np.ones(len(moves)))
    except np.linalg.LinAlgError:
        return math.inf
    return float(times[start]) if 0.0 < times[start] < _NEVER else math.inf


def _look_up(log10: _Array, limits: _Array, run_length: float) -> float:
    return float(np.interp(math.log10(run_length), log10, limits))


def _solve(run_length_at: Callable[[float], float], wanted: float) -> float:
    """Solve for a limit: the logarithm of the run length is nearly linear in it, so that the secant takes few steps."""
    target = math.log(wanted)
    low, high = 1e-6, 2.0
    below = math.log(run_length_at(low)) - target
    if below >= 0.0:
        return low
    while (above := math.log(run_length_at(high)) - target) < 0.0:
        low, below, high = high, above, 2.0 * high
    kept = 0
    while high - low > 1e-9 * high:
        middle = (low * above - high * below) / (above - below) if above < math.inf else 0.5 * (low + high)
        found = math.log(run_length_at(middle)) - target
        if abs(found) < 1e-10:
            return middle
        # The Illinois variant of the false position: an end that was kept twice counts half.
        if found < 0.0:
            low, below = middle, found
            above *= 0.5 if kept < 0 else 1.0
            kept = -1
        else:
            high, above = middle, found
            below *= 0.5 if kept > 0 else 1.0
            kept = 1
    return 0.5 * (low + high)
