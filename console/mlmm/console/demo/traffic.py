"""The client: calls the API over HTTP at a steady rate, and sends each label when it becomes known."""

import bisect
import http.client
import json
import threading
import time
from collections import deque

from mlmm.console.demo.plan import MODEL, Plan
from mlmm.console.demo.rows import names, serving_rows, training_rows
from mlmm.console.demo.stage import DemoError
from mlmm.events import MlmmError
from mlmm.producers import Monitor
from mlmm.runtime.settings import Settings

__all__ = ["Traffic"]


class Traffic(threading.Thread):
    """Calls the API row by row, from some moment on with one sensor reading high."""

    def __init__(self, plan: Plan, port: int, settings: Settings) -> None:
        super().__init__(name="traffic", daemon=True)
        self.plan, self.port = plan, port
        self.monitor = Monitor(MODEL, settings=settings)
        self.times: list[int] = []
        """When each answer was there, in microseconds."""
        self.injected_at: int | None = None
        """When the sensor began to read high, in microseconds."""
        self.before = 0
        """Predictions made by then."""
        self.labels = 0
        self.seconds = 0.0
        """How long it called the API."""
        self.error: Exception | None = None
        self._due: deque[tuple[float, str, int]] = deque()
        self._enough = threading.Event()

    @property
    def had_its_time(self) -> bool:
        """Whether the fault was there for as long as the plan wants."""
        injected = self.injected_at
        return injected is not None and time.time_ns() // 1000 - injected >= self.plan.seconds_after * 1e6

    def api_answers(self) -> bool:
        """Whether the API is up."""
        api = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            api.request("GET", "/health")
            return api.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            api.close()

    def since_injection(self, moment: int) -> int:
        """Count predictions made between the injection and ``moment`` (microseconds)."""
        return bisect.bisect_right(self.times, moment) - self.before

    def end(self) -> None:
        """Call the API no more, and send the labels that are due."""
        self._enough.set()

    def run(self) -> None:
        """Call until told to end, or the rows do."""
        try:
            self._run()
        except (OSError, http.client.HTTPException, MlmmError) as error:  # told by the story, which ends
            self.error = error

    def _run(self) -> None:
        plan, columns = self.plan, names()
        rows, classes = serving_rows()
        high = plan.shift * float(training_rows()[0][:, columns.index(plan.sensor)].std())
        api = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        begun = time.perf_counter()
        for number in range(min(len(rows), plan.most)):
            if self._enough.is_set():
                break
            row = dict(zip(columns, rows[number].tolist(), strict=True))
            if self.injected_at is None and self._time_for_the_fault(number, begun):
                self.before, self.injected_at = number, time.time_ns() // 1000
            if self.injected_at is not None:
                row[plan.sensor] += high
            order = f"order-{number:06d}"
            self._ask(api, order, row)
            self.times.append(time.time_ns() // 1000)
            self._due.append((time.perf_counter() + plan.label_delay, order, int(classes[number])))
            self._send_labels()
            self._enough.wait(max(0.0, begun + (number + 1) / plan.rate - time.perf_counter()))
        self.seconds = time.perf_counter() - begun
        api.close()
        self._send_labels()
        self.monitor.flush(10)

    def _time_for_the_fault(self, number: int, begun: float) -> bool:
        return number >= self.plan.least_before and time.perf_counter() - begun >= self.plan.seconds_before

    @staticmethod
    def _ask(api: http.client.HTTPConnection, order: str, row: dict[str, float]) -> None:
        api.request("POST", f"/predict/{order}", json.dumps(row), {"content-type": "application/json"})
        answer = api.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise DemoError(f"the API answered {answer.status}: {body[:300]!r}")

    def _send_labels(self) -> None:
        now = time.perf_counter()
        while self._due and self._due[0][0] <= now:
            _, order, truth = self._due.popleft()
            self.monitor.log_label(order, truth)
            self.labels += 1
