"""Merely reading the same events one by one: aiokafka's ``getmany`` and orjson, nothing monitored.

``python -m benchmarks.peers.aiokafka_orjson BOOTSTRAP TOPIC COUNT`` prints the seconds between the first poll's answer
and the last event as JSON.
"""

import asyncio
import json
import sys
import time

import aiokafka
import orjson


async def read(bootstrap: str, topic: str, count: int) -> float:
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20
    )
    await consumer.start()
    seen, begun, checksum = 0, 0.0, 0.0
    while seen < count:
        polls = await consumer.getmany(timeout_ms=1000, max_records=50_000)
        begun = begun or time.perf_counter()
        for records in polls.values():
            for record in records:
                event = orjson.loads(record.value)
                checksum += event["time"]
                seen += 1
    seconds = time.perf_counter() - begun
    await consumer.stop()
    return seconds


if __name__ == "__main__":
    seconds = asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    print(json.dumps({"seconds": seconds, "events": int(sys.argv[3])}), flush=True)
