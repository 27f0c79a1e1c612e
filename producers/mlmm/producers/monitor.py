"""What a serving process attaches to its model."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from math import isfinite, nan
from time import time_ns
from typing import Any, Literal, ParamSpec, TypeVar

from mlmm.events import new_id
from mlmm.events.faults import check_model
from mlmm.producers.attached import Attached
from mlmm.producers.capture import answer, identity, moment, optional_number, refuse, status_code
from mlmm.producers.complaints import Complaints
from mlmm.producers.modes import Mode, outlet_for
from mlmm.producers.outcomes import FailureStack, LabelStack
from mlmm.producers.predictions import PredictionStack
from mlmm.producers.shapes import Call, ModelTraits, Shapes
from mlmm.producers.watching import UNSET, Predicting, watched
from mlmm.runtime.settings import Settings

__all__ = ["Monitor"]

P = ParamSpec("P")
R = TypeVar("R")
Time = datetime | Any
"""An aware ``datetime`` or a ``numpy.datetime64``."""

_TEXTS = frozenset({str, type(None)})
_TASKS = ("binary", "multiclass", "regression")
_LONGEST_MESSAGE = 1000
"""Characters of a failure's message; stack traces belong to another tool."""
_VERSIONS = 64
"""Versions whose failures are collected at a time."""


class Monitor(Attached):
    """Emits predictions, labels and failures of one model.

    No log call does I/O or raises into the request: a wrong argument is logged once with its place, and counted.

    Parameters
    ----------
    model : str
        Name of the model; 1..512 bytes, without ``#``.
    version : str, optional
        Version that answers, unless a call says another one.
    task : {"binary", "multiclass", "regression"}
    positive : float, str or bool
        The class that counts as positive.
    threshold : float, optional
        Score from which on the answer is the positive class.
    segment_by : sequence of str
        Features whose values are segments too.
    shards : int
        Keys for a model too busy for one partition; fixed for the model's life, and equal where labels are sent.
    mode : {"kafka", "memory", "off"}, optional
        By default ``$MLMM_MODE``, else kafka; off, with one warning, where no broker is configured.
    when_full : {"drop", "block"}, optional
        What happens to a new event when the queue is full; by default as in the settings.
    on_error : {"report", "raise"}
        Whether a wrong argument is logged or raised (for tests).
    settings : Settings, optional
        By default those of ``mlmm.toml`` and the environment.

    Raises
    ------
    SettingsError, MalformedEvent
        For settings and arguments that can't be; never for a broker that is not there.

    Examples
    --------
    >>> monitor = Monitor("fraud", version="2026.11", mode="memory")
    >>> monitor.log_prediction("order-1", {"amount": 12.5, "country": "DE"}, 1, score=0.93, latency=0.004)
    'order-1'
    >>> monitor.log_label("order-1", 0)
    >>> [type(event).__name__ for event in monitor.events]
    ['Prediction', 'Label']
    """

    def __init__(
        self,
        model: str,
        *,
        version: str | None = None,
        task: Literal["binary", "multiclass", "regression"] = "binary",
        positive: float | str | bool = 1,
        threshold: float | None = None,
        segment_by: Sequence[str] = (),
        shards: int = 1,
        mode: Mode | None = None,
        when_full: Literal["drop", "block"] | None = None,
        on_error: Literal["report", "raise"] = "report",
        settings: Settings | None = None,
    ) -> None:
        if not isinstance(model, str):
            raise refuse("model", model, "a string")
        check_model(model)
        if task not in _TASKS:
            raise refuse("task", task, f"one of {', '.join(_TASKS)}")
        if version is not None and not isinstance(version, str):
            raise refuse("version", version, "a string")
        if shards < 1:
            raise refuse("shards", shards, "a whole number of at least 1")
        positive = answer(positive, "positive")
        if isinstance(positive, float) and not isfinite(positive):
            raise refuse("positive", positive, "a finite number or a string")
        threshold = optional_number(threshold, "threshold")
        super().__init__(outlet_for(mode, settings), Complaints(f"Monitor({model!r})", on_error))
        self._off = self._outlet.off
        self._block = (when_full or self._outlet.when_full) == "block"
        self._traits = ModelTraits(model, version, task, positive, threshold, tuple(segment_by), shards)
        self._shapes = Shapes(self._intake, self._traits)
        self._labels = LabelStack(self._intake, model, shards=shards)
        self._failures: dict[str | None, FailureStack] = {}
        self._last: PredictionStack | None = None
        self.model = model

    # --- predictions -------------------------------------------------------------------------------------------------

    def log_prediction(
        self,
        prediction_id: str | None,
        features: Mapping[str, Any],
        output: float | str | bool,
        *,
        score: float | Mapping[str, float] | None = None,
        latency: float | None = None,
        segments: Mapping[str, str] | None = None,
        weight: float | None = None,
        value: float | None = None,
        version: str | None = None,
        route: Literal["champion", "challenger", "shadow"] | None = None,
        time: Time | None = None,
    ) -> str:
        """Log one answer. What is passed is copied.

        Parameters
        ----------
        prediction_id : str or None
            Your business key, by which the label will find it; None makes one.
        features : mapping of str to number, string, bool or None
        output : number, string or bool
            The answer.
        score : float or mapping, optional
            Probability of the answer's positive class, or class → probability.
        latency : float, optional
            Seconds.
        segments : mapping of str to str, optional
        weight, value : float, optional
            How much it counts; what it is worth (money or the like).
        version, route : str, optional
            Who answered; by default the monitor's version, as champion.
        time : aware datetime or datetime64, optional
            When; by default now.

        Returns
        -------
        str
            The prediction id.
        """
        try:
            stack = self._last
            if (
                stack is not None
                and type(prediction_id) is str
                and [*features] == stack.names
                and version is None
                and route is None
                and segments is None
                and time is None
                and 0 < len(prediction_id) <= 512
            ):
                texts: tuple[str | None, ...] = ()
                answer: str | None = None
                said = output
                numbers: Iterable[Any] = features.values()
                if not stack.plain:
                    values_ = tuple(numbers)
                    texts = stack.texts_of(values_)
                    if not _TEXTS.issuperset(map(type, texts)) or stack.worded is not (type(output) is str):
                        raise TypeError  # noqa: TRY301 - to the careful way
                    numbers = stack.features_of(values_)
                    if stack.worded:
                        answer, said = str(output), 0.0
                row = stack.pack(
                    time_ns() // 1000,
                    said,
                    nan if score is None else score,
                    nan if latency is None else latency,
                    nan if weight is None else weight,
                    nan if value is None else value,
                    *numbers,
                )
                if said != said:  # noqa: PLR0124 - the fastest test for NaN
                    raise TypeError  # noqa: TRY301 - the careful way refuses it by name
                if not stack.add(prediction_id, row, texts, answer):
                    self._wait_or_drop(stack, prediction_id, row, texts, answer)
                return prediction_id
        except (struct.error, TypeError):
            pass  # something is of another kind than in the last call: the careful way takes it, or says what is wrong
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's request
            self._refused(error)
            return str(prediction_id)
        call = Call("", 0, features, output, score, latency, weight, value, segments, version, route)
        return self._log_carefully(prediction_id, call, time)

    def _wait_or_drop(self, stack: PredictionStack, *args: Any) -> None:
        prediction_id, _, texts, answer = args
        size = stack.fixed + len(prediction_id) + sum(map(len, filter(None, texts))) + len(answer or "")
        self._no_room(partial(stack.add, *args), 1, size)

    def _log_carefully(self, prediction_id: str | None, call: Call, time: Time | None) -> str:
        made = ""
        try:
            made = new_id() if prediction_id is None else identity(prediction_id)
            if self._off:
                return made
            when = time_ns() // 1000 if time is None else moment(time)
            stack, columns = self._shapes.capture(call._replace(prediction_id=made, time=when))
            if stack.simple and call.version is None and call.route is None:
                self._last = stack
            if not stack.add_many(columns):
                self._no_room(lambda: stack.add_many(columns), 1, stack.size_of(columns))
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's request
            self._refused(error)
        return made or str(prediction_id)

    def log_predictions(
        self,
        ids: Sequence[str] | None,
        features: Any,
        outputs: Any,
        *,
        names: Sequence[str] | None = None,
        scores: Any = None,
        latencies: Any = None,
        weights: Any = None,
        values: Any = None,
        version: str | None = None,
        route: Literal["champion", "challenger", "shadow"] | None = None,
        times: Any = None,
    ) -> list[str]:
        """Log a table of answers; what is large is split.

        Parameters
        ----------
        ids : sequence of str or None
            None makes them.
        features : mapping of name to array[n], DataFrame, or array[n, F] with ``names``
        outputs : array[n]
        names : sequence of str, optional
            Names of the columns of a 2-D array.
        scores : array[n] or mapping of class to array[n], optional
        latencies, weights, values : array[n], optional
        times : array[n] of datetime64, sequence of aware datetimes, or one time, optional

        Returns
        -------
        list of str
            The prediction ids; empty where the table was refused.
        """
        try:
            from mlmm.producers.tables import TableCall, read_table  # noqa: PLC0415 - loads numpy, which a table has loaded already

            call = TableCall(ids, features, outputs, names, scores, latencies, weights, values, version, route, times)
            table = read_table(self._shapes, call)
            for part in () if self._off else table.parts():
                if not table.stack.add_many(part):
                    again = partial(table.stack.add_many, part)
                    self._no_room(again, len(part.ids), table.stack.size_of(part))
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's request
            self._refused(error)
            return []
        return table.ids

    # --- labels and failures ---------------------------------------------------------------------------------------

    def log_label(
        self, prediction_id: str, value: float | str | bool, *, time: Time | None = None, weight: float | None = None
    ) -> None:
        """Log the truth for one prediction, from any process, minutes or weeks later; a later label corrects it."""
        try:
            made = identity(prediction_id)
            if self._off:
                return
            when = time_ns() // 1000 if time is None else moment(time)
            said = answer(value, "value")
            heavy = optional_number(weight, "weight")
            if not self._labels.add(made, when, said, heavy):
                size = self._labels.size_of([made], [said if isinstance(said, str) else None])
                self._no_room(lambda: self._labels.add(made, when, said, heavy), 1, size)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's request
            self._refused(error)

    def log_labels(self, ids: Sequence[str], values: Any, *, times: Any = None, weights: Any = None) -> None:
        """Log the truths for many predictions: sequences or arrays of one length; ``times`` may be a single time."""
        try:
            from mlmm.producers.tables import read_labels  # noqa: PLC0415 - loads numpy, which a table has loaded already

            parts = read_labels(ids, values, times, weights)
            for part in () if self._off else parts:
                if not self._labels.add_many(*part):
                    size = self._labels.size_of(part[0], part[2])
                    self._no_room(partial(self._labels.add_many, *part), len(part[0]), size)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's request
            self._refused(error)

    def log_failure(
        self,
        error: BaseException | str,
        *,
        latency: float | None = None,
        status: int | None = None,
        version: str | None = None,
        time: Time | None = None,
    ) -> None:
        """Log a request that got no answer: an exception, or a text that says its kind. The message is cut."""
        try:
            if self._off:
                return
            kind, message = (error, "") if isinstance(error, str) else (type(error).__name__, str(error))
            # What can't be UTF-8 becomes a question mark: a failure is not to be lost for its message.
            message = message[:_LONGEST_MESSAGE].encode(errors="replace").decode()
            kind = kind[:_LONGEST_MESSAGE].encode(errors="replace").decode()
            when = time_ns() // 1000 if time is None else moment(time)
            seconds = optional_number(latency, "latency")
            status = status_code(status)
            stack = self._failure_stack(self._shapes.version(version))
            if not stack.add(when, kind, message, status, seconds):
                self._no_room(lambda: stack.add(when, kind, message, status, seconds), 1, stack.size_of(kind, message))
        except Exception as wrong:  # noqa: BLE001 - nothing is raised into the user's request
            self._refused(wrong)

    def _failure_stack(self, version: str | None) -> FailureStack:
        stack = self._failures.get(version)
        if stack is None:
            if len(self._failures) >= _VERSIONS:
                self._failures.clear()
            stack = FailureStack(self._intake, self.model, version, shards=self._traits.shards)
            self._failures[version] = stack
        return stack

    # --- around a call ---------------------------------------------------------------------------------------------

    def predict(
        self,
        features: Mapping[str, Any],
        prediction_id: str | None = None,
        *,
        output: Any = UNSET,
        score: float | Mapping[str, float] | None = None,
        segments: Mapping[str, str] | None = None,
        weight: float | None = None,
        value: float | None = None,
        version: str | None = None,
        route: Literal["champion", "challenger", "shadow"] | None = None,
        time: Time | None = None,
    ) -> Predicting:
        """Time a block; log what it sets as ``output``, or its exception as a failure (and let that go on).

        The keywords are those of `log_prediction` without ``latency``, which is measured; all of them, and the id, may
        be set inside the block.

        Examples
        --------
        >>> monitor = Monitor("fraud", mode="memory")
        >>> with monitor.predict({"amount": 3.0}, "order-2") as p:
        ...     p.output, p.score = 0, 0.2
        """
        given = (output, score, segments, weight, value, version, route, time)
        return Predicting(self, features, prediction_id, *given)

    def watch(
        self,
        *,
        prediction_id: Callable[P, object] | None = None,
        features: Callable[P, Mapping[str, Any]] | None = None,
        output: Callable[[Any], Any] | None = None,
        score: Callable[[Any], Any] | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function or coroutine function that answers: same signature, same result.

        Parameters
        ----------
        prediction_id, features : callable of the function's arguments, optional
            Give the id (by default one is made) and the features (by default the first argument).
        output, score : callable of the function's result, optional
            Give the answer (by default the result itself) and the score.
        """
        return watched(self, prediction_id, features, output, score)

    def _no_room(self, again: Callable[[], bool], n: int, size: int) -> None:
        self._intake.turned(again, n, size, block=self._block)
