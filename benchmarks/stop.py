"""From the event that dooms a run to its acknowledgement: how long the whole loop takes.

Real Kafka and Redis, one worker, the rules, default settings (events wait up to 100 ms to be packed). Run after run
logs a NaN; clocks stop when the log takes the acknowledgement that names the checkpoint. Beside it: the same order
given by hand, which leaves out packing, processor and rules, and includes connecting.

``python -m benchmarks.stop [--json] [--runs N]``.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.report import Figure, show
from tests.integration.stopping import Loop, measure_runs
from tests.services import kafka_service, redis_service


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of all lie at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("kafka", "redis", "loop"):
            (folder / part).mkdir()
        with (
            kafka_service(folder / "kafka") as kafka,
            redis_service(folder / "redis") as redis_url,
            Loop(folder / "loop", kafka, redis_url) as loop,
        ):
            caused = [each.seconds for each in measure_runs(loop, options.runs, by_hand=False)]
            ordered = [each.seconds for each in measure_runs(loop, options.runs, by_hand=True)]
    figures = []
    for share, label in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        one, other = 1000 * percentile(caused, share), 1000 * percentile(ordered, share)
        figures.append(Figure(f"event to acknowledgement, {label}", one, "ms", "the order by hand", one / other))
        figures.append(Figure(f"order by hand to acknowledgement, {label}", other, "ms"))
    show(f"Stopping a run, {options.runs} runs each way", figures, as_json=options.json)


if __name__ == "__main__":
    main()
