"""Applications of asyncio: log calls from coroutines, and flushing that never holds the event loop."""

import asyncio
import textwrap
from collections.abc import Callable

from mlmm.producers import Monitor
from tests.producers.fakes import FakeBroker
from tests.producers.test_emitter import PREAMBLE, run_python
from tests.waiting import wait_until

Make = Callable[..., Monitor]


async def log(monitor: Monitor, name: str, count: int) -> None:
    for i in range(count):
        monitor.log_prediction(f"{name}-{i}", {"a": 1.0}, 1)
        await asyncio.sleep(0)


def test_coroutines_log_while_the_broker_is_away_and_the_loop_goes_on(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with(emitter__max_events=1000)

    async def main() -> tuple[bool, bool]:
        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(log(monitor, name, 200))
        while_away = await monitor.aflush(0.05)
        broker.away = False
        return while_away, await monitor.aflush(60)

    assert asyncio.run(main()) == (False, True)
    assert sorted(broker.ids) == sorted(f"{name}-{i}" for name in "abcd" for i in range(200))


def test_other_tasks_run_while_one_flushes(monitor_with: Make, broker: FakeBroker) -> None:
    broker.hold = True
    monitor = monitor_with()
    monitor.log_prediction("a", {"a": 1.0}, 1)

    async def main() -> bool:
        waiting = asyncio.create_task(monitor.aflush(60))
        await log(monitor, "b", 10)
        await asyncio.to_thread(wait_until, lambda: broker.held, timeout=60, what="a record in flight")
        assert not waiting.done()
        broker.hold = False
        broker.release()
        return await waiting

    assert asyncio.run(main())


def test_many_may_flush_at_once(monitor_with: Make, broker: FakeBroker) -> None:
    """More than the default executor has threads."""
    broker.hold = True
    monitor = monitor_with()
    monitor.log_prediction("a", {"a": 1.0}, 1)

    async def main() -> list[bool]:
        waiting = [asyncio.create_task(monitor.aflush(60)) for _ in range(200)]
        await asyncio.to_thread(wait_until, lambda: broker.held, timeout=60, what="a record in flight")
        broker.hold = False
        broker.release()
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [True] * 200


def test_a_flush_that_was_given_up_holds_up_neither_the_loop_nor_the_end_of_the_process() -> None:
    code = """
    import asyncio
    broker.away = True
    async def main():
        monitor.log_prediction("a", {"a": 1.0}, 1)
        try:
            await asyncio.wait_for(monitor.aflush(), 0.05)
        except TimeoutError:
            print("given up")
        await monitor.aclose(0.05)
    asyncio.run(main())
    print("loop closed")
    """
    done = run_python(PREAMBLE + textwrap.dedent(code), EXIT="0.1")
    assert done.stdout.split("\n")[:2] == ["given up", "loop closed"], done.stderr
    assert done.returncode == 0


def test_the_emitter_closes_without_holding_the_loop(monitor_with: Make, broker: FakeBroker) -> None:
    broker.away = True
    monitor = monitor_with()
    emitter = monitor._outlet.emitter

    async def main() -> bool:
        await log(monitor, "a", 10)
        return await emitter.aclose(0.05)

    assert asyncio.run(main()) is False
    wait_until(lambda: monitor.stats().queued_events == 0, timeout=60, what="the rest to be counted")
    assert monitor.stats().dropped == {"closed": 10}
