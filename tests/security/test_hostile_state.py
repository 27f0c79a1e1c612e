"""A Redis that someone else can write to: what it holds is refused by name or gone on with, and nothing worse happens.

State is parsed, never unpickled; kernels check no bounds, so all that they take for a place is checked when it is read.
Each state is loaded in a process of its own: a write outside of memory would be a signal, not an exception.
"""

import os
import random
import subprocess
import sys

import pytest

from tests.security.hostile import MAKERS, attempt, hostile

SEED = int(os.environ.get("MLMM_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
COUNTS = {"serving": 100, "training": 1500, "alerting": 1500}
COUNT_FACTOR = int(os.environ.get("MLMM_TEST_LENGTH", "1"))


@pytest.mark.parametrize("processor", MAKERS)
def test_hostile_cells_are_refused_by_name_or_gone_on_with(processor):
    count = COUNTS[processor] * COUNT_FACTOR
    print(f"MLMM_TEST_SEED={SEED}")
    line = [sys.executable, "-m", "tests.security.hostile", processor, str(SEED), str(count)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=540, check=False)
    tried = done.stdout.splitlines()
    last = tried[-1] if tried else ""
    assert done.returncode == 0, (
        f"ended with {done.returncode} at {last!r} of MLMM_TEST_SEED={SEED}: {done.stderr[-2000:]}"
    )
    assert len(tried) == count
    said = [text.partition(" ")[2] for text in tried]
    assert [text for text in tried if " WRONG" in text] == []
    refused = [text for text in said if text.startswith("refused")]
    assert all("cell" in text for text in refused), "an error names the cell"
    assert count // 4 < len(refused) < count, "the stream of cells is neither harmless nor noise"


@pytest.mark.parametrize("processor", MAKERS)
def test_cells_that_nobody_touched_are_taken(processor):
    """Else the test above would refuse everything."""
    make, cells, records = MAKERS[processor]()
    assert cells
    assert attempt(make, cells, records) == "fine"
    assert hostile(cells, random.Random(1)) != cells


def test_a_count_that_points_outside_a_runs_figures_is_refused():
    """Seed 1003 once: a history of 2**62 blocks let the kernel write far outside of its memory."""
    from mlmm.stream_processors.training import _layout as at

    make, cells, records = MAKERS["training"]()
    name = next(name for name in cells if name[:1] == b"s")
    for field, value in (
        (at.HIST_N, 1 << 62),
        (at.HIST_N, at.HISTORY),
        (at.HIST_N, -1),
        (at.HIST_SIZE, 0),
        (at.ACC_N, -1),
    ):
        place = 1 + 8 * (at.SEGMENT + field)
        cell = cells[name][:place] + value.to_bytes(8, "little", signed=True) + cells[name][place + 8 :]
        assert attempt(make, {**cells, name: cell}, records).startswith("refused: training state, cell")
