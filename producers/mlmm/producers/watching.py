"""Around a call: the context of `Monitor.predict` and the decorator of `Monitor.watch`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from mlmm.producers.capture import refuse

if TYPE_CHECKING:
    from mlmm.producers.monitor import Monitor

__all__ = ["UNSET", "Predicting", "watched"]

P = ParamSpec("P")
R = TypeVar("R")


class _Unset:
    def __repr__(self) -> str:
        return "nothing"


UNSET: Any = _Unset()
"""No answer yet."""


class Predicting:
    """Times a block and logs its answer or its failure.

    Attributes
    ----------
    output : number, string or bool
        To be set inside the block, unless it was given.
    prediction_id : str or None
        May be set; after the block, the id that was logged.
    score, segments, weight, value, version, route, time
        As in `Monitor.log_prediction`.
    """

    def __init__(  # noqa: PLR0917 - Monitor.predict alone calls it
        self,
        monitor: "Monitor",
        features: Mapping[str, Any],
        prediction_id: str | None,
        output: Any,
        score: Any,
        segments: Any,
        weight: Any,
        value: Any,
        version: Any,
        route: Any,
        time: Any,
    ) -> None:
        self._monitor = monitor
        self.features = features
        self.prediction_id = prediction_id
        self.output = output
        self.score = score
        self.segments = segments
        self.weight = weight
        self.value = value
        self.version = version
        self.route = route
        self.time = time
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        latency = perf_counter() - self._started
        if isinstance(error, Exception):
            self._monitor.log_failure(error, latency=latency, version=self.version, time=self.time)
        elif error is None:
            if self.output is UNSET:
                self._monitor._refused(refuse("output", UNSET, "output to be set inside the block"))  # noqa: SLF001 - one room
                return
            self.prediction_id = self._monitor.log_prediction(
                self.prediction_id,
                self.features,
                self.output,
                score=self.score,
                latency=latency,
                segments=self.segments,
                weight=self.weight,
                value=self.value,
                version=self.version,
                route=self.route,
                time=self.time,
            )


def watched(
    monitor: "Monitor",
    prediction_id: Callable[P, object] | None,
    features: Callable[P, Mapping[str, Any]] | None,
    output: Callable[[Any], Any] | None,
    score: Callable[[Any], Any] | None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make the decorator of `Monitor.watch`."""

    def answered(started: float, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latency = perf_counter() - started
        try:
            given = features(*args, **kwargs) if features else (args or tuple(kwargs.values()))[0]
            id_ = prediction_id(*args, **kwargs) if prediction_id else None
            said = output(result) if output else result
            scored = score(result) if score else None
        except Exception as error:  # noqa: BLE001 - the user's own request must not fail for its monitoring
            monitor._refused(error)  # noqa: SLF001 - one room
            return
        monitor.log_prediction(cast("str | None", id_), given, said, score=scored, latency=latency)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def around_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                started = perf_counter()
                try:
                    result = await function(*args, **kwargs)
                except Exception as error:
                    monitor.log_failure(error, latency=perf_counter() - started)
                    raise
                answered(started, result, args, kwargs)
                return result

            return cast("Callable[P, R]", around_coroutine)

        @functools.wraps(function)
        def around(*args: P.args, **kwargs: P.kwargs) -> R:
            started = perf_counter()
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                monitor.log_failure(error, latency=perf_counter() - started)
                raise
            answered(started, result, args, kwargs)
            return result

        return around

    return decorate
