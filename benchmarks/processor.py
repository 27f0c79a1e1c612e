"""Events a second of the serving processor alone: decode, join, windows, detectors, cells; no Kafka, no Redis.

The stream of `benchmarks.pipeline`: 20 numeric features, a label for every fourth prediction, ADWIN and Page-Hinkley on
the error and on every feature. Times are of the processor (CPU), so that neighbours on the machine count little.

``python -m benchmarks.processor [--json] [--quick]``
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.pipeline import blocks
from benchmarks.report import Figure, show

GOAL_PACKED = 350_000  # events a second at 200 events a record
GOAL_RECORD = 10.0  # microseconds at one event a record


def records(events: int, packed: int, models: int) -> Sequence[Any]:
    """The stream as records of one partition, logged at the time of their first event."""
    from mlmm.events import COLUMNS_TYPE, cloudevents_headers, encode_columns
    from mlmm.runtime.processor import Record

    made = []
    for offset, (key, kind, block) in enumerate(blocks(events, packed, models)):
        log_time = int.from_bytes(block.time[:8], "little")
        headers = cloudevents_headers(kind, f"{offset:x}", "mlmm://benchmark/1", log_time, COLUMNS_TYPE)
        made.append(Record(offset, log_time, key, encode_columns(block), headers))
    return made


class Clock:
    """CPU time spent within functions, by name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def watch(self, module: Any, name: str, part: str) -> None:
        """Time every call of ``module.name`` as ``part``."""
        function: Callable[..., Any] = getattr(module, name)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            before = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                self.spent[part] = self.spent.get(part, 0.0) + time.process_time() - before

        setattr(module, name, timed)


def measure(events: int, packed: int, models: int, clock: Clock) -> list[Figure]:
    """Fold the stream in polls of about 5,000 events; the first poll, which loads kernels, is not counted."""
    from mlmm.runtime.settings import ServingSettings
    from mlmm.runtime.settings.sections import DetectorSettings
    from mlmm.stream_processors.serving import ServingProcessor

    poll = max(1, min(5000, 6000 // packed))  # a fetch is bounded in bytes: 200 packed events are 40 kB
    stream = records(events + poll * packed, packed, models)
    # Of 1,000 models each sees few events here: a short baseline, so that their detectors work too.
    detectors = DetectorSettings(baseline=500 if models == 1 else 20)
    state = ServingProcessor(ServingSettings(detectors=detectors)).state()
    state.process(stream[:poll])
    state.changed()
    already = state.counters()["events"]
    clock.spent.clear()
    start = time.process_time()
    processing = 0.0
    for at in range(poll, len(stream), poll):
        before = time.process_time()
        state.process(stream[at : at + poll])
        processing += time.process_time() - before
        state.changed()
    total = time.process_time() - start
    count = state.counters()["events"] - already
    name = f"{packed:>3} a record, {models:>5} models"
    parts = {**clock.spent, "cells": total - processing}
    parts["columns, outputs"] = processing - sum(clock.spent.values())
    rate = count / total
    goals = {200: ("goal", rate / GOAL_PACKED), 1: ("goal", GOAL_RECORD * rate / 1e6)}
    figures = [Figure(f"{name}: events", rate, "1/s", *goals.get(packed, ("", None)))]
    figures += [Figure(f"{name}: {part}", spent / count * 1e6, "µs/event") for part, spent in parts.items()]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object a line and figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events")
    arguments = parser.parse_args()
    from mlmm.stream_processors.serving import _intake, _state

    clock = Clock()
    clock.watch(_intake, "decode_blocks", "decode")
    clock.watch(_state, "fold", "join, windows, error")
    clock.watch(_state, "watch", "features' detectors")
    figures: list[Figure] = []
    for packed, events in ((1, 100_000), (3, 100_000), (20, 200_000), (200, 400_000)):
        for models in (1, 1000):
            figures += measure(events // 10 if arguments.quick else events, packed, models, clock)
    show("Serving processor, CPU time", figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
