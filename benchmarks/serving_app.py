"""The application that `benchmarks.serving` puts under load: a small model behind FastAPI, and its monitor."""

import time
from typing import Any

import msgspec
from fastapi import FastAPI, Request

from mlmm.producers import Monitor

WEIGHTS = {f"feature_{j}": 0.01 * (j - 10) for j in range(20)}

app = FastAPI()
monitor = Monitor("fraud", version="2026.11", settings=None)


@app.post("/predict/{order}")
async def predict(order: str, request: Request) -> dict[str, Any]:
    """Answer, and log the answer."""
    started = time.perf_counter()
    features: dict[str, float] = msgspec.json.decode(await request.body())
    score = min(1.0, max(0.0, 0.5 + sum(WEIGHTS[name] * value for name, value in features.items())))
    output = int(score > 0.5)
    monitor.log_prediction(order, features, output, score=score, latency=time.perf_counter() - started)
    return {"output": output, "score": score}


@app.get("/stats")
async def stats() -> dict[str, Any]:
    """Return the emitter's counts, once all is delivered or ten seconds passed."""
    await monitor.aflush(10)
    made: dict[str, Any] = msgspec.to_builtins(monitor.stats())
    return made
