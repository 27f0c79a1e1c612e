"""The training process that is watched: scikit-learn's SGD, step by step, and doomed.

``python -m mlmm.console.demo.trainer CHECKPOINTS`` exits with 0 when it was stopped with a checkpoint, else with 1.
"""

import sys
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier

from mlmm.console.demo.plan import RUN, Plan
from mlmm.console.demo.rows import training_rows
from mlmm.producers import TrainingRun, falling, not_finite

STEPS, BATCH = 5_000, 64
STEP_SECONDS = 0.03
"""A step takes at least this long, as a larger model's would."""
HELD_OUT = 2_000


def main(checkpoints: Path) -> int:
    """Train until told to stop."""
    features, classes = training_rows()
    features = (features - features.mean(0)) / features.std(0)
    held_x, held_y = features[:HELD_OUT], classes[:HELD_OUT]
    rng = np.random.default_rng(1)
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=1)
    model.partial_fit(features[-BATCH:], classes[-BATCH:], classes=[0, 1])

    def save(folder: Path) -> None:
        np.savez(folder / "model.npz", coef=model.coef_, intercept=model.intercept_)

    def load(folder: Path) -> None:
        with np.load(folder / "model.npz", allow_pickle=False) as saved:
            model.coef_, model.intercept_ = saved["coef"], saved["intercept"]

    collapse_at = Plan.collapse_at
    with TrainingRun(
        "shuttle-anomalies", run_id=f"{RUN}-{time.time_ns() // 1_000_000_000}", params={"eta0": 0.01, "batch": BATCH},
        triggers=[falling("val/accuracy"), not_finite()], save=save, load=load,
        checkpoint_dir=checkpoints, checkpoint_every=200,
    ) as run:  # fmt: skip
        for step in run.steps(STEPS):
            began = time.perf_counter()
            rows = rng.integers(HELD_OUT, len(features), BATCH)
            labels = classes[rows]
            if step >= collapse_at:  # the injected fault: labels slowly turn to noise
                noisy = rng.random(BATCH) < min(0.9, (step - collapse_at) / 150)
                labels = np.where(noisy, 1 - labels, labels)
            model.partial_fit(features[rows], labels)
            probability = np.clip(model.predict_proba(held_x)[:, 1], 1e-9, 1 - 1e-9)
            loss = -np.mean(np.where(held_y == 1, np.log(probability), np.log1p(-probability)))
            accuracy = float(np.mean((probability >= 0.5) == held_y))
            run.log({"loss": float(loss), "val/accuracy": accuracy}, step=step)
            time.sleep(max(0.0, STEP_SECONDS - (time.perf_counter() - began)))
    print(f"outcome: {run.outcome}", flush=True)
    return 0 if run.outcome and run.outcome.status == "stopped" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
