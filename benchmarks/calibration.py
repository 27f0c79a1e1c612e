"""Whether the calibrated detector keeps its promise: false alarms in long runs, and delays beside an oracle's.

``python -m benchmarks.calibration [--json] [--alarms N] [--runs N]``. Some ten minutes on one quiet core.

- Mean time between false alarms on streams without a change, in units of the stated one, with a 95 % interval from the
  number of alarms; streams that break monitors are among them.
- Mean delay of the default detector after a step at 2,000, beside a CUSUM on the same values that knows both levels,
  with a 95 % interval of the ratio; a run that alarmed before the step is left out. Below it, how near one can get
  (`nearest`): a detector that is told the size of the step, or that and its direction, but not the level before it;
  and the same from the information in the values alone.
- Time a value of its bank beside those of ADWIN and Page-Hinkley.
"""

import argparse
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from benchmarks.detectors import EVENTS, SERIES, call_by_call, nanoseconds
from benchmarks.report import Figure, show
from mlmm.detectors import ADWINBank, CalibratedBank, PageHinkleyBank, calibrated_arrays, cusum_threshold
from mlmm.detectors.run_length import bernoulli_cusum_run_length, bernoulli_cusum_threshold

MTFA = 100_000.0
STEP, AFTER = 2_000, 3_000
STEPS = {
    ".2 -> .3": (0.2, 0.3),
    ".2 -> .5": (0.2, 0.5),
    ".05 -> .1": (0.05, 0.1),
    "+.5 sigma": (None, 0.5),
    "+1 sigma": (None, 1.0),
}
NORMAL = NormalDist()


def autoregression(rng, shape, phi: float):
    """Stationary, of variance 1, along the first axis."""
    values = rng.normal(size=shape)
    values[1:] *= math.sqrt(1.0 - phi * phi)
    for k in range(1, len(values)):
        values[k] += phi * values[k - 1]
    return values


class Stationary:
    """A stream without a change, block by block for many series."""

    def __init__(self, draw: Callable, *, phi: float = 0.0, period: int = 0) -> None:
        self.draw, self.phi, self.period = draw, phi, period
        self.last, self.at = None, 0

    def block(self, rng, rows: int, series: int):
        values = self.draw(rng, (rows, series))
        if self.phi:
            values = self.autoregress(values)
        if self.period:
            values += np.sin(2 * np.pi * (self.at + np.arange(rows)) / self.period)[:, None]
        self.at += rows
        return values

    def autoregress(self, noise):
        last = noise[0] / math.sqrt(1.0 - self.phi**2) if self.last is None else self.last
        for k in range(len(noise)):
            last = noise[k] = self.phi * last + noise[k]
        self.last = last.copy()
        return noise


def normal(rng, shape):
    return rng.normal(size=shape)


def heavy(rng, shape):
    return rng.standard_t(2.5, shape)


def errors(p: float):
    return lambda rng, shape: (rng.random(shape) < p).astype(float)


STATIONARY = {
    "normal": ({}, lambda: Stationary(normal)),
    "normal, said to be": ({"distribution": "normal"}, lambda: Stationary(normal)),
    "errors .2": ({}, lambda: Stationary(errors(0.2))),
    "errors .2, said to be": ({"distribution": "bernoulli"}, lambda: Stationary(errors(0.2))),
    "errors .05": ({}, lambda: Stationary(errors(0.05))),
    "errors .05, said to be": ({"distribution": "bernoulli"}, lambda: Stationary(errors(0.05))),
    "errors .01": ({}, lambda: Stationary(errors(0.01))),
    "errors .001": ({}, lambda: Stationary(errors(0.001))),
    "t(2.5)": ({}, lambda: Stationary(heavy)),
    **{f"autoregression {phi}": ({}, lambda phi=phi: Stationary(normal, phi=phi)) for phi in (0.3, 0.5, 0.7, 0.9)},
    "autoregression 0.9, said to be normal": ({"distribution": "normal"}, lambda: Stationary(normal, phi=0.9)),
    "season of 500": ({"period": 500}, lambda: Stationary(normal, period=500)),
    "season of 500, t(2.5)": ({"period": 500}, lambda: Stationary(heavy, period=500)),
}


def interval(count: int) -> tuple[float, float]:
    """Limits of a Poisson mean of which `count` were seen, 95 % (Byar's approximation)."""
    low = count * (1 - 1 / (9 * count) - 1.96 / (3 * math.sqrt(count))) ** 3 if count else 0.0
    more = count + 1
    return low, more * (1 - 1 / (9 * more) + 1.96 / (3 * math.sqrt(more))) ** 3


def false_alarms(wanted: int) -> list[Figure]:
    figures = []
    series, rows = 20, 5_000
    for name, (parameters, make) in STATIONARY.items():
        rng = np.random.default_rng(1)
        bank, stream = CalibratedBank(series, mean_time_between_false_alarms=MTFA, **parameters), make()
        blocks = math.ceil(wanted * MTFA / (series * rows))
        alarms = sum(len(bank.update_many(stream.block(rng, rows, series))) for _ in range(blocks))
        values = blocks * series * rows / MTFA
        low, high = interval(alarms)
        label = f"MTFA, {name}: 95 % {values / high:.2f} to {values / max(low, 1e-9):.2f}"
        figures.append(Figure(label, values / max(alarms, 1), "× stated"))
    return figures


def stream(rng, runs: int, before: float | None, after: float):
    """Values with a step, [STEP + AFTER, runs]."""
    shape = (STEP + AFTER, runs)
    level = np.arange(STEP + AFTER)[:, None] >= STEP
    if before is None:
        return rng.normal(size=shape) + after * level
    return (rng.random(shape) < np.where(level, after, before)).astype(float)


def oracle(rng, values, before: float | None, after: float):
    """Delays of a CUSUM that knows both levels and has the same mean time between false alarms."""
    if before is None:
        gains, limits = values - after / 2, np.full(values.shape[1], cusum_threshold(after / 2, MTFA, two_sided=False))
    else:
        ratio = math.log(after / before) / math.log((1 - before) / (1 - after))
        gains = np.where(values > 0, round(ratio), -1.0)
        high = bernoulli_cusum_threshold(before, round(ratio), MTFA)
        rates = [1 / bernoulli_cusum_run_length(before, round(ratio), h) for h in (high - 1, high)]
        # Its limit is a whole number: the share of runs with the lower one makes the false alarms as wanted.
        share = (1 / MTFA - rates[1]) / (rates[0] - rates[1])
        limits = np.where(rng.random(values.shape[1]) < share, high - 1, high) - 0.5
    sums = np.zeros(values.shape[1])
    delays = np.full(values.shape[1], np.inf)
    for k, gain in enumerate(gains):
        sums = np.maximum(sums + gain, 0.0)
        alarm = sums > limits
        if k < STEP:
            sums[alarm] = 0.0
        else:
            delays[alarm & np.isinf(delays)] = k + 1 - STEP
    return delays


def detector_delays(bank, values):
    """Delays; NaN for runs that alarmed before the step."""
    delays = np.full(values.shape[1], np.inf)
    for k, i in bank.update_many(values).tolist():
        if k < STEP:
            delays[i] = np.nan
        elif np.isinf(delays[i]):
            delays[i] = k + 1 - STEP
    return delays


def told(runs: int, effect: float, mode: str, distribution: str) -> CalibratedBank:
    """A detector for one size of a change only."""
    bank = CalibratedBank(
        runs, mean_time_between_false_alarms=MTFA, min_effect=effect, mode=mode, distribution=distribution
    )
    bank.plan = np.append(bank.plan[:9], 1.0)
    bank.plan[1] = 1.0
    bank.arrays = calibrated_arrays(runs, bank.plan)
    return bank


def size_of(before: float | None, after: float) -> float:
    """A step in the unit of `min_effect`: its log odds over the distance of the normal scores of one and zero."""
    if before is None:
        return after
    density = NORMAL.pdf(NORMAL.inv_cdf(before))
    return math.log(after * (1 - before) / (before * (1 - after))) * before * (1 - before) / density


def needed(before: float | None, after: float, delay: float, *, sides: int) -> float:
    """Values after the step that hold as much information about it, without its level before, as an oracle's delay.

    An oracle has the divergence of the levels a value. Who has 2,000 values instead of the level has the two-sample
    divergence from what they have in common; who looks to both sides has log 2 to pay for it.
    """

    def divergence(a: float, b: float) -> float:
        if before is None:
            return 0.5 * (a - b) ** 2
        return a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))

    first = 0.0 if before is None else before
    wanted = delay * divergence(after, first) + math.log(sides)
    for count in range(1, AFTER):
        common = (STEP * first + count * after) / (STEP + count)
        if STEP * divergence(first, common) + count * divergence(after, common) >= wanted:
            return count
    return math.inf


def compare(name: str, delays, theirs) -> Figure:
    """Figure of a mean delay beside the oracle's on the same streams."""
    kept = ~np.isnan(delays)
    found = kept & np.isfinite(delays) & np.isfinite(theirs)
    ours, beside = delays[found], theirs[found]
    ratio = ours.mean() / beside.mean()
    error = 1.96 * np.std(ours - ratio * beside) / math.sqrt(found.sum()) / beside.mean()
    missed = np.isinf(delays[kept]).mean()
    label = f"{name}: ratio ± {error:.3f}, missed {missed:.3f}, left out {np.mean(~kept):.3f}"
    return Figure(label, float(ours.mean()), "values", "oracle", float(ratio))


def delays(runs: int) -> list[Figure]:
    figures = []
    for name, (before, after) in STEPS.items():
        rng = np.random.default_rng(2)
        values = stream(rng, runs, before, after)
        theirs = oracle(rng, values, before, after)
        figures.append(Figure(f"delay {name}, oracle", float(theirs[np.isfinite(theirs)].mean()), "values"))
        figures.append(Figure(f"delay {name}, always alarming (MTFA 1)", 1.0, "values"))
        kind = "normal" if before is None else "bernoulli"
        for label, bank in (
            ("default", CalibratedBank(runs, mean_time_between_false_alarms=MTFA)),
            (f"said to be {kind}", CalibratedBank(runs, mean_time_between_false_alarms=MTFA, distribution=kind)),
            ("nearest, told size", told(runs, size_of(before, after), "both", kind)),
            ("nearest, told size and direction", told(runs, size_of(before, after), "up", kind)),
        ):
            figures.append(compare(f"delay {name}, {label}", detector_delays(bank, values), theirs))
        mean = theirs[np.isfinite(theirs)].mean()
        for label, sides in (("both sides", 2), ("one side", 1)):
            count = needed(before, after, mean, sides=sides)
            figures.append(Figure(f"delay {name}, by information, {label}", count, "values", "oracle", count / mean))
    return figures


def speed() -> list[Figure]:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(300, EVENTS, SERIES))
    banks = {
        "calibrated": CalibratedBank(SERIES),
        "calibrated, said to be normal": CalibratedBank(SERIES, distribution="normal"),
        "ADWIN": ADWINBank(SERIES),
        "Page-Hinkley": PageHinkleyBank(SERIES, alpha=1.0, delta=0.5, threshold=50.0),
    }
    best = dict.fromkeys(banks, math.inf)
    for turn in range(8):  # the first round compiles and fills the windows
        for name, bank in banks.items():
            took = nanoseconds(lambda b=bank: call_by_call(b, matrices), matrices.size)
            if turn:
                best[name] = min(best[name], took)
    return [
        Figure(f"bank of {name}, {EVENTS} x {SERIES} a call", took, "ns/value", "ADWIN", best["ADWIN"] / took)
        for name, took in best.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    parser.add_argument("--alarms", type=int, default=400, help="false alarms to wait for, by what is stated")
    parser.add_argument("--runs", type=int, default=2_000, help="streams with a step, at least 100")
    arguments = parser.parse_args()
    title = f"Calibrated detection, stated mean time between false alarms {MTFA:g} values"
    figures = [*delays(arguments.runs), *false_alarms(arguments.alarms), *speed()]
    show(title, figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
