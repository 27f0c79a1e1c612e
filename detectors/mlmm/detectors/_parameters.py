"""Checks of constructor arguments: each error says which parameter, what it may be and what it was."""

import math
import operator
from typing import SupportsFloat, SupportsIndex

__all__ = ["number", "one_of", "whole"]


def number(
    name: str,
    value: SupportsFloat,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Check a real number against open (`above`, `below`) and closed (`least`, `most`) bounds."""
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, not {value!r}") from error
    if above < result < below and least <= result <= most:
        return result
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("above", above), ("at least", least), ("below", below), ("at most", most))
        if math.isfinite(bound)
    ]
    raise ValueError(f"{name} must be {' and '.join(bounds)}, not {value!r}")


def whole(name: str, value: SupportsIndex, *, least: int, most: int) -> int:
    """Check an integer against closed bounds."""
    try:
        result = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be an integer, not {value!r}") from error
    if not least <= result <= most:
        raise ValueError(f"{name} must be between {least} and {most}, not {result}")
    return result


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Check a choice."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value
