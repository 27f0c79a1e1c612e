"""The serving API that is watched: FastAPI, a scikit-learn model, and three lines of MLMM.

``python -m mlmm.console.demo.serving PORT``
"""

import sys
import time

from fastapi import FastAPI

from mlmm.console.demo.plan import MODEL
from mlmm.console.demo.rows import names, train_model
from mlmm.producers import Monitor

__all__ = ["create_app"]


def create_app() -> FastAPI:
    """Make the app; the broker comes from ``$MLMM_CONFIG``."""
    app = FastAPI()
    columns = names()
    model = train_model()
    monitor = Monitor(MODEL, version="1", task="binary")

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict/{order}")
    def predict(order: str, row: dict[str, float]) -> dict[str, float]:
        started = time.perf_counter()
        score = float(model.predict_proba([[row[name] for name in columns]])[0, 1])
        answer = int(score >= 0.5)
        monitor.log_prediction(order, row, answer, score=score, latency=time.perf_counter() - started)
        return {"anomaly": answer, "score": score}

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
