"""Topics that are missing on a real Kafka: those of others go on."""

import pytest

from mlmm.events import Metrics
from mlmm.producers import Monitor, TrainingRun
from tests.integration.emitting import make_topic, reading, settings_for
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


def test_a_missing_topic_slows_no_other(kafka: str) -> None:
    """Training says more than may be in flight, and its topic is not there: serving's events arrive."""
    settings = settings_for(kafka, **{"emitter.max_events": 4000, "emitter.max_bytes": "1MiB"})
    make_topic(settings, "serving")
    make_topic(settings, "commands")
    monitor = Monitor("fraud", settings=settings, on_error="raise")
    with TrainingRun("churn", settings=settings, on_error="raise", heartbeat_every=3600) as run:
        wait_until(lambda: "training" in (run.stats().last_error or ""), timeout=60, what="the topic to be missed")
        for i in range(3000):
            run.log({f"loss-{i}": 1.0}, step=i)  # a record each
            if i % 10 == 0:
                monitor.log_prediction(str(i), {"a": 1.0}, 1)
        with reading(settings) as serving:
            wait_until(lambda: len(serving.read().ids) == 300, timeout=90, what="serving's events")
        assert run.stats().queued_events > 0
        make_topic(settings, "training")
        with reading(settings, "training") as training:
            wait_until(
                lambda: any(isinstance(event, Metrics) for event in training.read().events),
                timeout=90, what="what training said",
            )  # fmt: skip
    stats = run.stats()
    assert stats.reconnects == 0
    assert set(stats.dropped) <= {"no_topic", "queue_full"}
