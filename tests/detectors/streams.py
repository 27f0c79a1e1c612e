"""Seeded streams that detectors meet: easy ones, and those that break them."""

import numpy as np
import numpy.typing as npt

N = 3000


def _ar1(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    values = np.empty(N)
    last = 0.0
    for k, noise in enumerate(rng.normal(size=N).tolist()):
        last = 0.8 * last + noise
        values[k] = last
    return values


def stream(name: str, seed: int) -> npt.NDArray[np.float64]:
    """One of `STREAMS`."""
    rng = np.random.default_rng([seed, len(name)])
    half = N // 2
    match name:
        case "gaussian step":
            return np.concatenate([rng.normal(0, 1, half), rng.normal(1, 1, N - half)])
        case "bernoulli step":
            return np.concatenate([rng.binomial(1, 0.2, half), rng.binomial(1, 0.5, N - half)]).astype(float)
        case "integers":
            return np.concatenate([rng.integers(0, 2, half), rng.integers(4, 8, N - half)]).astype(float)
        case "constant then step":
            return np.concatenate([np.full(half, 0.1), np.full(N - half, 0.7)])
        case "ramp":
            return rng.normal(0, 1, N) + np.linspace(0, 4, N)
        case "heavy tails":
            return rng.standard_t(1.5, N)
        case "autocorrelated":
            return _ar1(rng)
        case "large offset":
            return 1e12 + rng.normal(0, 1, N) + np.where(np.arange(N) < half, 0, 5)
        case "tiny":
            return 1e-300 * rng.normal(0, 1, N)
        case "denormal":
            return np.where(np.arange(N) < half, 5e-324, 1e-310)
        case "season":
            return np.sin(np.arange(N) * 2 * np.pi / 500) + rng.normal(0, 0.3, N)
        case "falling":
            return np.concatenate([rng.normal(50, 5, half), rng.normal(20, 5, N - half)])
    raise KeyError(name)


STREAMS = (
    "gaussian step",
    "bernoulli step",
    "integers",
    "constant then step",
    "ramp",
    "heavy tails",
    "autocorrelated",
    "large offset",
    "tiny",
    "denormal",
    "season",
    "falling",
)
