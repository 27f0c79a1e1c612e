"""The client: calls the API over HTTP at a steady rate, and sends each label when it becomes known."""

import bisect
import threading
import time
from collections import deque

from mlmm.console.demo.plan import MODEL, Plan
from mlmm.console.demo.rows import names, serving_rows, training_rows
from mlmm.producers import Monitor
from mlmm.runtime.extras import require
from mlmm.runtime.settings import Settings

__all__ = ["Traffic"]


class Traffic(threading.Thread):
    """Calls the API row by row, from some row on with one sensor reading high."""

    def __init__(self, plan: Plan, url: str, settings: Settings) -> None:
        super().__init__(name="traffic", daemon=True)
        self.plan, self.url = plan, url
        self.monitor = Monitor(MODEL, settings=settings)
        self.times: list[int] = []
        """When each answer was there, in microseconds."""
        self.injected_at: int | None = None
        """When the sensor began to read high, in microseconds."""
        self.labels = 0
        self.error: BaseException | None = None
        self._due: deque[tuple[float, str, int]] = deque()
        self._ended = threading.Event()

    def predictions_since_injection(self, moment: int) -> int:
        """Count predictions made between the injection and ``moment`` (microseconds)."""
        return bisect.bisect_right(self.times, moment) - self.plan.predictions_before

    def end(self) -> None:
        """Send no more."""
        self._ended.set()

    def run(self) -> None:
        """Send until all rows are sent, and all labels are."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - told by the story, which ends
            self.error = error

    def _run(self) -> None:
        plan, columns = self.plan, names()
        rows, classes = serving_rows()
        high = plan.shift * float(training_rows()[0][:, columns.index(plan.sensor)].std())
        client = require("httpx", extra="embedded", purpose="mlmm demo").Client(base_url=self.url, timeout=10)
        begun = time.perf_counter()
        total = min(len(rows), plan.predictions_before + plan.predictions_after)
        with client:
            for number in range(total):
                if self._ended.is_set():
                    break
                row = dict(zip(columns, rows[number].tolist(), strict=True))
                if number >= plan.predictions_before:
                    self.injected_at = self.injected_at or time.time_ns() // 1000
                    row[plan.sensor] += high
                order = f"order-{number:06d}"
                client.post(f"/predict/{order}", json=row).raise_for_status()
                self.times.append(time.time_ns() // 1000)
                self._due.append((time.perf_counter() + plan.label_delay, order, int(classes[number])))
                self._send_labels()
                self._ended.wait(max(0.0, begun + number / plan.rate - time.perf_counter()))
        while self._due and not self._ended.is_set():
            self._ended.wait(max(0.0, self._due[0][0] - time.perf_counter()))
            self._send_labels()
        self.monitor.flush(10)

    def _send_labels(self) -> None:
        now = time.perf_counter()
        while self._due and self._due[0][0] <= now:
            _, order, truth = self._due.popleft()
            self.monitor.log_label(order, truth)
            self.labels += 1
