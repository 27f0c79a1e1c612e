"""Triggers: when a run looks hopeless.

A trigger is declared by the trainer (`mlmm.events.types`), travels with ``run.started`` and is judged here, once per
value of its metric in log order. It fires once per attempt and metric.

==================  ======================================================================================
``falling_strict``  ``count`` values in a row, each worse than the one before
``falling``         the exponentially smoothed metric (``alpha``) was at least ``drop`` worse than its best for
                    ``patience`` values in a row
``not_finite``      the value is NaN or infinite
``plateau``         ``evaluations`` values in a row without one that beats the best by ``min_delta``
==================  ======================================================================================

All but ``not_finite`` pass over values that are not finite: they neither count nor break a row. A metric is known by
its label: its name in the phase ``train``, ``phase/name`` in any other. A trigger's metric is the label or the bare
name; ``not_finite`` takes a glob.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from mlmm.events.errors import MalformedEvent
from mlmm.events.types import Falling, FallingStrict, NotFinite, Plateau, Trigger
from mlmm.stream_processors.training import _layout as at
from mlmm.stream_processors.training._kernels import fold

__all__ = ["check", "first_firing", "kind_of", "label_of", "minds", "reason", "watch_words"]

_LONGEST = 1_000_000  # values in a row; more than any run evaluates while someone waits


def kind_of(trigger: Trigger) -> str:
    """The trigger's name on the wire, such as ``"falling"``."""
    return str(trigger.__struct_config__.tag)


def label_of(phase: str, name: str) -> str:
    """What a metric is called: ``name`` in training, ``phase/name`` in any other phase."""
    return name if phase == "train" else f"{phase}/{name}"


def minds(trigger: Trigger, phase: str, name: str) -> bool:
    """Whether ``trigger`` watches that metric."""
    label = label_of(phase, name)
    if isinstance(trigger, NotFinite):
        return fnmatchcase(label, trigger.metric) or fnmatchcase(name, trigger.metric)
    return trigger.metric in (label, name)


def check(triggers: Sequence[Trigger], *, limit: int) -> None:
    """Refuse triggers that could never fire, or always would.

    Raises
    ------
    MalformedEvent
        Naming the trigger's place and field.
    """
    if len(triggers) > limit:
        raise MalformedEvent(f"{len(triggers)} triggers, at most {limit} are judged", field="triggers")
    for place, trigger in enumerate(triggers):
        numbers: tuple[tuple[str, float, float, float], ...] = ()
        if isinstance(trigger, FallingStrict):
            numbers = (("count", trigger.count, 1, _LONGEST),)
        elif isinstance(trigger, Falling):
            if not trigger.drop > 0:
                raise MalformedEvent(f"{trigger.drop} is not above 0", field=f"triggers[{place}].drop")
            numbers = (("alpha", trigger.alpha, 1e-9, 1), ("patience", trigger.patience, 1, _LONGEST))
        elif isinstance(trigger, Plateau):
            numbers = (("evaluations", trigger.evaluations, 1, _LONGEST), ("min_delta", trigger.min_delta, 0, inf))
        for name, value, low, high in numbers:
            if not low <= value <= high:
                raise MalformedEvent(f"{value} is not in {low}..{high}", field=f"triggers[{place}].{name}")


def watch_words(trigger: Trigger, place: int) -> bytes:
    """The first words of a watch, as in `_layout`: what `trigger` (number ``place`` of its run) asks for."""
    f = np.zeros(at.WATCH, dtype=np.float64)
    i = f.view(np.int64)
    i[at.TRIGGER] = place
    f[at.SIGN] = -1.0 if getattr(trigger, "mode", "max") == "min" else 1.0
    match trigger:
        case FallingStrict():
            i[at.KIND], i[at.PATIENCE] = at.FALLING_STRICT, trigger.count
        case Falling():
            i[at.KIND], i[at.PATIENCE] = at.FALLING, trigger.patience
            f[at.ALPHA], f[at.DROP] = trigger.alpha, trigger.drop
        case NotFinite():
            i[at.KIND] = at.NOT_FINITE
        case Plateau():
            i[at.KIND], i[at.PATIENCE] = at.PLATEAU, trigger.evaluations
            f[at.DROP] = trigger.min_delta
    return f.tobytes()


def reason(trigger: Trigger, metric: str, step: int, *, value: float, level: float, best: float) -> str:
    """Why it fired, in words and figures.

    ``level`` and ``best`` are the watch's, with the sign that makes higher better.
    """
    sign = -1.0 if getattr(trigger, "mode", "max") == "min" else 1.0
    level, best = sign * level, sign * best
    match trigger:
        case FallingStrict():
            way = "rose" if sign < 0 else "fell"
            return f"{metric} {way} {trigger.count} times in a row, to {value:.6g} at step {step}"
        case Falling():
            side = "above" if sign < 0 else "below"
            return (
                f"{metric}, smoothed, was at least {trigger.drop:g} {side} its best {best:.6g} "
                f"for {trigger.patience} values in a row; it is {level:.6g} at step {step}"
            )
        case Plateau():
            more = f" by {trigger.min_delta:g}" if trigger.min_delta else ""
            return (
                f"{metric} has not improved on {best:.6g}{more} for {trigger.evaluations} evaluations; "
                f"it is {value:.6g} at step {step}"
            )
        case NotFinite():
            what = "NaN" if value != value else "infinite"  # noqa: PLR0124
            return f"{metric} is {what} at step {step}"


def first_firing(trigger: Trigger, values: ArrayLike) -> int | None:
    """Judge a whole curve as the processor would.

    Parameters
    ----------
    trigger : Trigger
        Its ``metric`` is not looked at.
    values : array_like of float, shape (n,)
        The metric, one value an event.

    Returns
    -------
    int or None
        Index of the value at which the trigger fires.

    Examples
    --------
    >>> first_firing(FallingStrict(metric="accuracy", count=3), [0.5, 0.6, 0.5, 0.4, 0.3, 0.2])
    4
    """
    curve = np.ascontiguousarray(values, dtype=np.float64)
    f = np.zeros(at.SEGMENT + at.SERIES_HEAD + at.WATCH)
    i = f.view(np.int64)
    i[at.SEGMENT + at.WATCHES] = i[at.SEGMENT + at.HIST_SIZE] = 1
    f[at.SEGMENT + at.SERIES_HEAD :] = np.frombuffer(watch_words(trigger, 0))
    blocks = np.array([[0, len(curve), 1, 0, 0, 0]], dtype=np.int64)
    series = np.array([at.SEGMENT], dtype=np.int64)
    steps = np.arange(len(curve), dtype=np.int64)
    _, row, count = fold(f, i, blocks, series, steps, curve, 0, 0, np.zeros((1, 2), dtype=np.int64))
    return int(row) if count else None
