"""Makes `mlmm.detectors._run_length_tables`: limits of CUSUM and EWMA charts by wanted run length.

``python -m benchmarks.run_length_tables [--check]`` writes the module anew, or says whether it is what would be
written. It takes some minutes, nearly all of them for the smallest reference values.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mlmm.detectors import _run_length_tables
from mlmm.detectors.run_length import solve_cusum, solve_ewma

DECADES = np.linspace(2.0, 8.0, 25)
REFERENCES = (0.05, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5)
WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
HEAD = '''"""Limits of charts by the logarithm of the run length; made by ``python -m benchmarks.run_length_tables``."""

import numpy as np

__all__ = ["CUSUM", "CUSUM_LOG10", "EWMA", "EWMA_LOG10"]

# fmt: off
'''


def row(values) -> str:
    return f"np.array([{', '.join(f'{value:.8g}' for value in values)}])"


def table(name: str, keys, limits) -> str:
    rows = [f"    {key!r}: {row(limits(key))},  # noqa: E501" for key in keys]
    return "\n".join([f"{name} = {{", *rows, "}"])


def make() -> str:
    # Half a decade more for one side of a two-sided chart.
    one_sided = np.append(DECADES, [DECADES[-1] + 0.25, DECADES[-1] + 0.5])
    cusum = table(
        "CUSUM",
        REFERENCES,
        lambda k: [solve_cusum(k, 10.0**decade) for decade in one_sided],
    )
    ewma = table(
        "EWMA",
        WEIGHTS,
        lambda w: [solve_ewma(w, 10.0**decade) for decade in DECADES],
    )
    return (
        f"{HEAD}CUSUM_LOG10 = {row(one_sided)}  # noqa: E501\n"
        f'"""Of the mean run length of a one-sided chart."""\n{cusum}\n'
        f'"""Decision interval by reference value."""\n\n'
        f"EWMA_LOG10 = {row(DECADES)}  # noqa: E501\n"
        f'"""Of the mean run length of a two-sided chart."""\n{ewma}\n'
        f'"""Limit by weight."""\n# fmt: on\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the module is another")
    check = parser.parse_args().check
    file = Path(_run_length_tables.__file__)
    made = make()
    if check:
        sys.exit(None if made == file.read_text() else f"{file} is not what would be made")
    file.write_text(made)


if __name__ == "__main__":
    main()
