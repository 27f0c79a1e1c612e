"""Stop is a contract: the right run saves, stops and answers, and the next attempt is left alone."""

from pathlib import Path

import pytest

from tests.integration.stopping import DOOM, STEPS, Loop, measure_runs

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RUNS = 5


def test_a_doomed_run_saves_stops_and_answers_and_its_next_attempt_runs_on(
    kafka: str, redis_url: str, tmp_path: Path
) -> None:
    """Each run that logs a NaN is stopped by the rule with a checkpoint that loads; the same run then goes on from it
    and is not stopped by the old order.
    """
    with Loop(tmp_path, kafka, redis_url) as loop:
        for stopped in measure_runs(loop, RUNS, by_hand=False):
            assert stopped.status == "stopped"
            assert stopped.checkpoint is not None
            assert stopped.checkpoint.exists()
            saved = stopped.ack.step
            assert saved is not None
            assert DOOM <= saved < STEPS - 1
        first: list[int] = []
        again, _ = loop.train(stopped.run_id, doomed=False, steps=saved + 200, began=first)
        assert first == [saved + 1], "the next attempt goes on after the checkpoint"
        assert again.completed, "the old order is for another attempt"
        assert again.attempt != stopped.ack.attempt
