"""Decoding and checking one record of predictions, beside orjson and json merely parsing the same events.

``python -m benchmarks.codec [--json]``. A record holds 1, 20 or 200 predictions with 20 numeric features; "mixed" has 3
categorical features, a segment and string classes besides. CPU time, best of several rounds.
"""

import argparse
import json
import time
import timeit
from collections.abc import Callable, Iterator

import orjson

from benchmarks.report import Figure, show
from mlmm.events import COLUMNS_TYPE, JSON, Prediction, blocks_of, decode_blocks, encode_columns, encode_json

TYPE = "mlmm.predictions.v1"
TIME = 1_790_000_000_000_000


def predictions(n: int, *, mixed: bool) -> list[Prediction]:
    """Make ``n`` predictions of one head."""
    return [
        Prediction(
            prediction_id=f"order-{i:09d}",
            time=TIME + 1000 * i,
            model="fraud",
            version="2026.11",
            output=("ok" if i % 3 else "fraud") if mixed else i % 2,
            features={f"feature_{j}": 1.25 * i + j for j in range(20)}
            | ({f"category_{j}": f"value {(7 * i + j) % 30}" for j in range(3)} if mixed else {}),
            segments={"country": "DE" if i % 2 else "FR"} if mixed else {},
            score=0.5,
            latency=0.004,
        )
        for i in range(n)
    ]


def microseconds(*calls: Callable[[], object], rounds: int = 9) -> list[float]:
    """CPU time of each call, best of several rounds in which all take turns."""
    timers = [timeit.Timer(call, timer=time.process_time) for call in calls]
    numbers = [max(1, int(0.02 / timer.timeit(50) * 50)) for timer in timers]
    taken = [
        [timer.timeit(number) / number for timer, number in zip(timers, numbers, strict=True)] for _ in range(rounds)
    ]
    return [min(times) * 1e6 for times in zip(*taken, strict=True)]


def figures() -> Iterator[Figure]:
    """Measure all of it."""
    for mixed in (False, True):
        kind = "mixed" if mixed else "numbers"
        for n in (1, 20, 200):
            events = predictions(n, mixed=mixed)
            (block,) = blocks_of(events)
            columns, rows = encode_columns(block), encode_json(events)
            ours, of_json, fast, plain, packing, dumping = microseconds(
                lambda raw=columns: decode_blocks(TYPE, COLUMNS_TYPE, raw, key=b"fraud"),
                lambda raw=rows: decode_blocks(TYPE, JSON, raw, key=b"fraud"),
                lambda raw=rows: orjson.loads(raw),
                lambda raw=rows: json.loads(raw),
                lambda all_=events: encode_columns(blocks_of(all_)[0]),
                lambda all_=events: encode_json(all_),
            )
            name = f"{kind}, {n} a record:"
            yield Figure(f"{name} decode columns", ours, "us", "the speed of orjson", fast / ours)
            yield Figure(f"{name} decode columns, an event", ours / n, "us")
            yield Figure(f"{name} decode JSON to blocks", of_json, "us", "the speed of json", plain / of_json)
            yield Figure(f"{name} orjson.loads", fast, "us")
            yield Figure(f"{name} json.loads", plain, "us")
            yield Figure(f"{name} pack into columns", packing, "us", "of the time to write JSON", packing / dumping)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object a line and a figure")
    arguments = parser.parse_args()
    show("Decoding a record of predictions", list(figures()), as_json=arguments.json)


if __name__ == "__main__":
    main()
