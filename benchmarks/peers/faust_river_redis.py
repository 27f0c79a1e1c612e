"""The per-event pipeline that one would write from tutorials: a Faust agent, river detectors, a Redis HSET an event.

Run as a process of its own: ``python -m benchmarks.peers.faust_river_redis BOOTSTRAP REDIS_URL TOPIC COUNT`` prints the
seconds between the first event and the last as JSON.
"""

import asyncio
import json
import os
import sys
import time

import faust
import redis.asyncio
from river.drift import ADWIN, PageHinkley


def main(bootstrap: str, redis_url: str, topic_name: str, count: int) -> None:
    app = faust.App(
        f"peer-{os.getpid()}",
        broker=f"kafka://{bootstrap}",
        value_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )
    topic = app.topic(topic_name, value_type=bytes)
    store = redis.asyncio.from_url(redis_url)
    adwin: dict[tuple[str, str], ADWIN] = {}
    page_hinkley: dict[tuple[str, str], PageHinkley] = {}
    pending: dict[str, float] = {}
    seen = {"n": 0, "correct": 0, "labels": 0, "drifts": 0}
    begun = [0.0]

    @app.agent(topic)
    async def monitor(stream):
        async for value in stream:
            if not seen["n"]:
                begun[0] = time.perf_counter()
            event = json.loads(value)
            model = event["model"]
            if "features" in event:
                pending[event["prediction_id"]] = event["output"]
                for name, x in event["features"].items():
                    key = (model, name)
                    if key not in adwin:
                        adwin[key], page_hinkley[key] = ADWIN(), PageHinkley()
                    adwin[key].update(x)
                    page_hinkley[key].update(x)
                    if adwin[key].drift_detected or page_hinkley[key].drift_detected:
                        seen["drifts"] += 1
            else:
                output = pending.pop(event["prediction_id"], None)
                if output is not None:
                    seen["labels"] += 1
                    seen["correct"] += output == event["value"]
                    key = (model, "error")
                    if key not in adwin:
                        adwin[key], page_hinkley[key] = ADWIN(), PageHinkley()
                    adwin[key].update(float(output != event["value"]))
                    page_hinkley[key].update(float(output != event["value"]))
            await store.hset(
                f"model:{model}", mapping={"seen": seen["n"], "labels": seen["labels"], "correct": seen["correct"]}
            )
            seen["n"] += 1
            if seen["n"] == count:
                row = {"seconds": time.perf_counter() - begun[0], "events": count}
                os.write(1, b"\n" + json.dumps(row).encode() + b"\n")  # Faust has sys.stdout for itself
                os._exit(0)

    worker = faust.Worker(app, loglevel="ERROR", loop=asyncio.new_event_loop(), quiet=True)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
