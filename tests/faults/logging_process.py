"""A serving process for the fault tests: logs what it is told to, from many threads, and says what it cost.

Reads orders as JSON lines from its standard input and answers each with one line:

- ``{"do": "log", "count": N}``: log N predictions from all threads, under ids never used before;
- ``{"do": "flush", "timeout": S}``: flush;
- ``{"do": "stats"}``: the emitter's counts;
- ``{"do": "report"}``: spread of all calls so far in microseconds, growth of memory in bytes;
- end of input: end.
"""

import json
import sys
import threading
from array import array
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec

from mlmm.producers import Monitor
from mlmm.runtime.settings import load
from tests.waiting import wait_until


def peak_memory() -> int:
    """Return the most that was resident at any time, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class Load:
    """Threads that log in turns of a given count."""

    def __init__(self, monitor: Monitor, threads: int, most: int) -> None:
        self.monitor = monitor
        self.threads = threads
        self.taken = [array("I", bytes(4 * most)) for _ in range(threads)]
        self.logged = [0] * threads
        self.features = {"amount": 12.5, "age": 31.0, "items": 2.0, "night": 0.0}
        self.monitor.log_prediction("warm", self.features, 1)
        # The client library, which comes with the first event, is no matter of what waits.
        wait_until(lambda: monitor.stats().last_error or monitor.stats().sent, timeout=120, what="the client")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        self.before = peak_memory()

    def log(self, count: int) -> None:
        workers = [threading.Thread(target=self._work, args=(i, count // self.threads)) for i in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, name: int, count: int) -> None:
        log, taken, features = self.monitor.log_prediction, self.taken[name], self.features
        for i in range(self.logged[name], self.logged[name] + count):
            started = perf_counter_ns()
            log(f"{name}-{i}", features, 1)
            taken[i] = min((perf_counter_ns() - started) // 100, 0xFFFFFFFF)
        self.logged[name] += count

    def report(self) -> dict[str, float]:
        calls = sorted(t for taken, n in zip(self.taken, self.logged, strict=True) for t in taken[:n])
        n = len(calls)
        return {
            "calls": n, "p50": calls[n // 2] / 10, "p99": calls[n * 99 // 100] / 10, "max": calls[-1] / 10,
        }  # fmt: skip


def main() -> None:
    arguments, threads, most = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    monitor = Monitor("fraud", settings=load(env={}, arguments=arguments), on_error="raise")
    work = Load(monitor, threads, most // threads)
    answer: Any
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "log":
            work.log(order["count"])
            answer = None
        elif order["do"] == "flush":
            answer = monitor.flush(order["timeout"])
        elif order["do"] == "stats":
            answer = msgspec.to_builtins(monitor.stats())
        else:
            grown = peak_memory() - work.before  # before the report, which sorts every call
            answer = {**work.report(), "grown": grown}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
