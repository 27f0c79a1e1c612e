"""The exactly-once harness: runs a pure processor on each partition of its input.

`run_worker` is one process. Redis holds offset, state and outbox, and one script changes all three or none
(``commits``); who may write is settled by claims (``claims``), not by Kafka. ``engine`` gives the steps of a poll, and
what a failure between any two of them leaves behind.
"""

from mlmm.runtime.harness.worker import Exit, run_worker

__all__ = ["Exit", "run_worker"]
