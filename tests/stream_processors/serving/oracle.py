"""What the serving state must do, written once more in plain Python."""

import math
from typing import Any

from mlmm.events import Failure, Label, Prediction, code_of
from mlmm.runtime.settings import ServingSettings

from .makers import Logged


class Oracle:
    """One model's join and windows, an event at a time and without any cleverness."""

    def __init__(self, settings: ServingSettings) -> None:
        self.sizes = sorted(round(w * 1e6) for w in settings.windows)
        self.lateness = round(settings.allowed_lateness * 1e6)
        self.idle = round(settings.idle_after * 1e6)
        self.horizon = round(settings.label_horizon * 1e6)
        self.max_pending = settings.max_pending
        self.block = settings.last // 10
        self.rows: list[dict[str, Any]] = []
        self.watermark = {"service": -math.inf, "performance": -math.inf}
        self.last_log: dict[str, int | None] = {"service": None, "performance": None}
        self.windows: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
        self.late = {(family, size): 0 for family in self.watermark for size in self.sizes}
        self.pairs: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.counts = dict.fromkeys(
            ("duplicates", "predictions_expired", "labels_orphaned", "rows_evicted", "corrections"), 0
        )

    def take(self, logged: Logged) -> None:
        now, event, _ = logged
        self.timers(now)
        if isinstance(event, Failure):
            self.seen("service", event.time, now, {"latency": event.latency, "failed": True})
        elif isinstance(event, Prediction):
            row = self.find(event.prediction_id)
            if row and row["prediction"]:
                self.counts["duplicates"] += 1
                return
            self.seen("service", event.time, now, {"latency": event.latency, "failed": False})
            row = row or self.push(event.prediction_id, now)
            row["prediction"] = event
            if row["label"]:
                self.pair(row, now)
        elif isinstance(event, Label):
            row = self.find(event.prediction_id) or self.push(event.prediction_id, now)
            if row["label"] is None:
                row["label"], row["value"] = event, event.value
                if row["prediction"]:
                    self.pair(row, now)
            elif code_of(row["value"]) != code_of(event.value):
                self.counts["corrections"] += 1
                row["value"] = event.value

    def find(self, id_: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["id"] == id_), None)

    def push(self, id_: str, now: int) -> dict[str, Any]:
        if len(self.rows) >= self.max_pending:
            self.rows.pop(0)
            self.counts["rows_evicted"] += 1
        row = {"id": id_, "log": now, "prediction": None, "label": None, "value": None}
        self.rows.append(row)
        return row

    def pair(self, row: dict[str, Any], now: int) -> None:
        self.seen("performance", row["label"].time, now, row)
        self.pairs.append(row)
        if len(self.pairs) % self.block == 0:
            last = self.pairs[-10 * self.block :]
            self.report(
                "performance", f"last {10 * self.block}", min(each["label"].time for each in last), now, last, 0
            )

    def seen(self, family: str, time: int, now: int, what: dict[str, Any]) -> None:
        last = self.last_log[family]
        if last is not None and now - last >= self.idle:
            self.watermark[family] += now - last
        self.watermark[family] = max(self.watermark[family], time - self.lateness)
        self.last_log[family] = now
        for end, size, start in sorted((s + z, z, s) for f, z, s in self.windows if f == family):
            if end <= self.watermark[family]:
                self.close(family, size, start, now)
        for size in self.sizes:
            start = time // size * size
            if start + size <= self.watermark[family]:
                self.late[family, size] += 1
            else:
                self.windows.setdefault((family, size, start), []).append(what)

    def deadline(self, family: str, end: int) -> float:
        last = self.last_log[family]
        assert last is not None
        return last + max(self.idle, end - self.watermark[family])

    def timers(self, now: int) -> None:
        while True:
            due: list[tuple[float, int, int, int, int]] = []
            if self.rows:
                due.append((self.rows[0]["log"] + self.horizon, 0, 0, 0, 0))
            for family, size, start in self.windows:
                rank = 1 if family == "service" else 2
                due.append((self.deadline(family, start + size), rank, start + size, size, start))
            if not due or min(due)[0] > now:
                return
            deadline, rank, _, size, start = min(due)
            if rank:
                self.close("service" if rank == 1 else "performance", size, start, int(deadline))
                continue
            row = self.rows.pop(0)
            if not row["prediction"]:
                self.counts["labels_orphaned"] += 1
            elif not row["label"]:
                self.counts["predictions_expired"] += 1

    def close(self, family: str, size: int, start: int, log_time: int) -> None:
        late, self.late[family, size] = self.late[family, size], 0
        self.report(family, f"{size // 1_000_000}s", start, log_time, self.windows.pop((family, size, start)), late)

    def report(
        self, kind: str, window: str, start: int, log_time: int, members: list[dict[str, Any]], late: int
    ) -> None:
        held = [row for row in self.rows if row["prediction"]]
        found: dict[str, Any] = {"kind": kind, "window": window, "start": start, "log_time": log_time, "late": late}
        if kind == "service":
            found["predictions"] = sum(not each["failed"] for each in members)
            found["failures"] = sum(each["failed"] for each in members)
            latencies = [each["latency"] for each in members if each["latency"] is not None]
            found["latency_mean"] = sum(latencies) / len(latencies) if latencies else None
        else:
            found["coverage"] = sum(row["label"] is not None for row in held) / len(held) if held else None
            found["rows"] = [(row["prediction"].output, row["value"]) for row in members]
        self.reports.append(found)
