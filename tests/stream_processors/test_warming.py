"""What a worker does before its first record."""

import subprocess
import sys

SCRIPT = """
import sys
from numba.core.dispatcher import Dispatcher
from mlmm.stream_processors import ServingProcessor, TrainingProcessor, warm_up
from mlmm.runtime.settings import ServingSettings

def loaded():
    kernels = {
        (name, key): value
        for name, module in list(sys.modules.items()) if name.startswith("mlmm.")
        for key, value in vars(module).items() if isinstance(value, Dispatcher)
    }
    return {(place, str(signature)) for place, kernel in kernels.items() for signature in kernel.signatures}

warm_up()
warm = loaded()
assert warm, "no kernel was loaded"
sys.path.insert(0, ".")
from tests.stream_processors.serving.makers import failure, label, packed, prediction, settings, singly, tick
from mlmm.runtime.settings import DetectorSettings
from random import Random

events = [prediction(f"p{i}", i / 10, float(i % 2), features={"a": float(i), "b": i % 3}, score=0.3) for i in range(99)]
events += [label(f"p{i}", 90 + i / 100, i % 3 == 0) for i in range(99)] + [failure(99.0, latency=1.0), tick(200)]
state = ServingProcessor(settings(detectors=DetectorSettings(baseline=50), windows=(10.0, 60.0))).state()
state.process(singly(events))
state.process(packed(events, Random(1)))
state.changed()
late = loaded() - warm
assert not late, f"loaded only now: {sorted(late)}"
"""


def test_after_warming_up_no_kernel_is_compiled_or_loaded() -> None:
    """A worker that holds partitions keeps none of them waiting for a compiler."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=False, text=True)
    assert not done.returncode, done.stderr[-3000:]
