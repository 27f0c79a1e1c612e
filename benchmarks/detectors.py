"""Detectors beside river's in the same run: banks, and one detector fed one by one or many at once.

``python -m benchmarks.detectors [--json]``. One thread, float64. The best of several interleaved rounds is shown, in
processor time, since a machine may be shared with others.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from river import drift

from benchmarks.report import Figure, show
from mlmm import detectors
from mlmm.detectors import ADWIN, ADWINBank, PageHinkley, PageHinkleyBank

EVENTS, SERIES = 32, 100
CALLS = 300
ROUNDS = 7
SINGLE = 30_000


def nanoseconds(work: Callable[[], object], values: int) -> float:
    start = time.thread_time()
    work()
    return (time.thread_time() - start) / values * 1e9


def one_by_one(detector, values: list[float]) -> None:
    update = detector.update
    for value in values:
        update(value)


def call_by_call(bank, matrices: npt.NDArray[np.float64]) -> None:
    for matrix in matrices:
        bank.update_many(matrix)


def measure() -> list[Figure]:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(CALLS, EVENTS, SERIES))
    holed = np.where(rng.random(matrices.shape) < 0.1, np.nan, matrices)
    column = rng.normal(size=SINGLE)
    values = column.tolist()
    figures = []
    # A Page-Hinkley that does not alarm all the time: alpha 1 and a threshold above the noise (see its docstring).
    quiet = {"alpha": 1.0, "delta": 0.5, "threshold": 50.0}
    for name, bank, detector, theirs, parameters in (
        ("ADWIN", ADWINBank, ADWIN, drift.ADWIN, {}),
        ("Page-Hinkley", PageHinkleyBank, PageHinkley, drift.PageHinkley, quiet),
    ):
        full, gaps = bank(SERIES, **parameters), bank(SERIES, **parameters)
        single, many, river = detector(**parameters), detector(**parameters), theirs(**parameters)
        work = {
            f"{name} bank, {EVENTS} x {SERIES} a call": (lambda b=full: call_by_call(b, matrices), matrices.size),
            f"{name} bank, a tenth missing": (lambda b=gaps: call_by_call(b, holed), matrices.size),
            f"{name} update_many, {SINGLE} values a call": (lambda d=many: d.update_many(column), SINGLE),
            f"{name} update, value by value": (lambda d=single: one_by_one(d, values), SINGLE),
            f"river {name} update": (lambda d=river: one_by_one(d, values), SINGLE),
        }
        best = dict.fromkeys(work, np.inf)
        for turn in range(ROUNDS + 1):  # the first round compiles and fills the windows
            for label, (call, count) in work.items():
                took = nanoseconds(call, count)
                if turn:
                    best[label] = min(best[label], took)
        beside = best[f"river {name} update"]
        figures += [
            Figure(
                label, took, "ns/value", *((f"river {name}", beside / took) if not label.startswith("river") else ())
            )
            for label, took in best.items()
        ]
    return figures + others(matrices)


def others(matrices: npt.NDArray[np.float64]) -> list[Figure]:
    """Banks of the other kinds, beside river's detector where it has one."""
    errors = (matrices > 0.84).astype(float)  # one in five
    flat = errors.reshape(-1)[:SINGLE].tolist()
    figures = []
    for name in ("CUSUM", "EWMA", "Shewhart", "DDM", "EDDM", "HDDMA", "HDDMW", "FHDDM", "STEPD"):
        bank = getattr(detectors, f"{name}Bank")(SERIES)
        values = errors if getattr(detectors, name).errors_only else matrices
        peer = getattr(drift.binary, name, None)
        theirs = peer() if peer else None
        ours = beside = np.inf
        for turn in range(ROUNDS + 1):
            took = nanoseconds(lambda b=bank, v=values: call_by_call(b, v), values.size)
            if turn:
                ours = min(ours, took)
                beside = min(beside, nanoseconds(lambda d=theirs: one_by_one(d, flat), SINGLE) if theirs else np.inf)
        ratio = (f"river {name}, {beside:,.0f} ns", beside / ours) if theirs else ()
        figures.append(Figure(f"{name} bank, {EVENTS} x {SERIES} a call", ours, "ns/value", *ratio))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    arguments = parser.parse_args()
    show("Detectors, one thread (ratio: how many times faster than river)", measure(), as_json=arguments.json)


if __name__ == "__main__":
    main()
