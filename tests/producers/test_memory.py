"""Memory mode: what a test sees, whatever the settings of the emitter that production has."""

import threading
from typing import Any

from mlmm.producers import Monitor, TrainingRun
from mlmm.runtime.settings import load


def log_all(monitor: Monitor) -> None:
    for i in range(25):
        monitor.log_prediction(str(i), {"a": 1.0}, 1)
        monitor.log_label(str(i), 1)
    monitor.log_predictions([f"t-{i}" for i in range(7)], {"a": [1.0] * 7}, [1] * 7)
    monitor.log_failure("late")


def finishes(work: Any, *args: Any) -> bool:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


def test_a_full_queue_in_memory_keeps_no_caller_waiting() -> None:
    """Nobody else would make room: the caller who finds none packs what waits, and all is kept in order."""
    settings = load(env={}, arguments={"emitter.max_events": 10, "emitter.when_full": "block"})
    monitor = Monitor("fraud", mode="memory", settings=settings, on_error="raise")
    assert finishes(log_all, monitor)
    stats = monitor.stats()
    assert (stats.accepted, stats.dropped) == (58, {})
    assert len(monitor.events) == 58
    predictions = [event.prediction_id for event in monitor.events if type(event).__name__ == "Prediction"]
    assert predictions == [*map(str, range(25)), *(f"t-{i}" for i in range(7))]


def test_a_run_in_memory_with_a_full_queue_goes_on() -> None:
    settings = load(env={}, arguments={"emitter.max_events": 10, "emitter.when_full": "block"})

    def train() -> None:
        with TrainingRun("churn", mode="memory", settings=settings, on_error="raise") as run:
            for step in run.steps(50):
                run.log({"loss": 1.0}, step=step)
            runs.append(run)

    runs: list[TrainingRun] = []
    assert finishes(train)
    assert sum(type(event).__name__ == "Metrics" for event in runs[0].events) == 50
