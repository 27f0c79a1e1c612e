"""A large state costs no more than its batch, and each thing in it a bounded number of bytes."""

from random import Random

import pytest

from mlmm.runtime.settings.sections import DetectorSettings
from mlmm.stream_processors.serving import ServingProcessor

from .makers import label, packed, prediction, settings

FEATURES = {f"f{i}": float(i) for i in range(20)}
WATCHED = settings(detectors=DetectorSettings(baseline=20), max_pending=100_000)


def state_of(models: int, pending: int = 64):
    """``pending`` predictions of each model wait for labels."""
    state = ServingProcessor(WATCHED).state()
    events = [
        prediction(f"{m}-{i:06d}", 0, i % 2, model=f"m{m:03d}", features=FEATURES)
        for m in range(models)
        for i in range(pending)
    ]
    state.process(packed(events, Random(1)))
    state.changed()
    return state


@pytest.mark.parametrize("models", [40, 300])
def test_what_a_batch_changes_is_the_same_however_much_waits_beside_it(models):
    batch = [prediction(f"new-{i}", 1, 1, model="m001", features=FEATURES) for i in range(100)]
    batch += [label(f"2-{i:06d}", 1, model="m002") for i in range(10)]
    few, many = state_of(4), state_of(models)
    changes = []
    for state in (few, many):
        state.process(packed(batch, Random(2)))
        changes.append(state.changed())
    assert changes[0] == changes[1]
    assert len(many.cells()) > len(few.cells()) + models


def test_a_pending_prediction_takes_eighty_bytes_and_a_model_a_bounded_share():
    """72 of its row, the rest its share of a chunk's name and head; ids of any length are hashed to 16."""
    cells = state_of(3, 6_400).cells()
    sizes = {kind: sum(len(k) + len(v) for k, v in cells.items() if k[:1] == kind) for kind in (b"r", b"m", b"s", b"n")}
    assert sizes[b"r"] / (3 * 6_400) <= 80
    later = state_of(3, 12_800).cells()
    rest = sum(len(k) + len(v) for k, v in later.items() if k[:1] != b"r") / 3
    assert rest < 64 * 1024
    assert rest - (sum(sizes.values()) - sizes[b"r"]) / 3 < 2048, "detectors of a steady stream grow by logarithm"
