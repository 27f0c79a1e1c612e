"""Heads and string lists of blocks, parsed once.

Records repeat them byte for byte, so their bytes are the keys of bounded caches.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from mlmm.events.columns import FailureHead, LabelHead, MetricsHead, PredictionHead
from mlmm.events.errors import MalformedEvent
from mlmm.events.faults import UNDECODABLE, check_id, check_model, check_text, malformed, under
from mlmm.events.limits import NAME_BYTES, NAMES, PHASE_BYTES

__all__ = ["HEADS", "Head", "Known", "Parsed", "intern"]

Head = PredictionHead | LabelHead | FailureHead | MetricsHead
T = TypeVar("T")


class Parsed(Generic[T]):
    """A cache from bytes to what they parse to, bounded in entries and bytes.

    Parameters
    ----------
    parse : Callable[[bytes], T]
        Raises for bytes that do not parse; those are not kept.
    entries, size : int
        Most entries, and most bytes of keys. When full it starts anew: cheaper than keeping order, and as good here.
        What is longer than a sixteenth of ``size`` is not kept.
    """

    def __init__(self, parse: Callable[[bytes], T], *, entries: int = 65_536, size: int = 4 << 20) -> None:
        self._parse = parse
        self._entries = entries
        self._size = size
        self._used = 0
        self._kept: dict[bytes, T] = {}
        self.get = self._kept.get
        """Look up without parsing: what the hot path calls first."""

    def __call__(self, raw: bytes) -> T:
        """Parse, or return the same object that equal bytes gave before."""
        value = self._kept.get(raw)
        if value is None:
            value = self._parse(raw)
            if len(raw) > self._size >> 4:
                return value
            if len(self._kept) >= self._entries or self._used + len(raw) > self._size:
                self._kept.clear()
                self._used = 0
            self._used += len(raw)
            self._kept[raw] = value
        return value


class Known(NamedTuple):
    """A head that was parsed and checked, with what the checks of a block need of it."""

    head: Any
    key: bytes
    """Record key: the model's name or the run id."""
    features: int
    """Numeric features, or metrics."""
    categories: int
    segments: int


def _check_names(names: tuple[str, ...], field: str) -> None:
    if len(names) > NAMES:
        raise MalformedEvent(f"{len(names)} names, at most {NAMES} are allowed", field=field)
    if len(set(names)) != len(names):
        raise MalformedEvent("names one twice", field=field)
    for name in names:
        check_text(name, field, NAME_BYTES)


def _check(head: Head, path: str) -> Known:
    if isinstance(head, MetricsHead):
        check_id(head.attempt, under(path, "attempt"))
        check_text(head.phase, under(path, "phase"), PHASE_BYTES)
        _check_names(head.names, under(path, "names"))
        return Known(head, check_id(head.run_id, under(path, "run_id")), len(head.names), 0, 0)
    key = check_model(head.model, under(path, "model"))
    if isinstance(head, LabelHead):
        return Known(head, key, 0, 0, 0)
    if head.version is not None:
        check_text(head.version, under(path, "version"))
    if isinstance(head, FailureHead):
        return Known(head, key, 0, 0, 0)
    if isinstance(head.positive, str):
        check_text(head.positive, under(path, "positive"))
    elif not isfinite(head.positive):
        raise MalformedEvent(f"{head.positive} is not finite", field=under(path, "positive"))
    if head.threshold is not None and not isfinite(head.threshold):
        raise MalformedEvent(f"{head.threshold} is not finite", field=under(path, "threshold"))
    _check_names(head.features + head.categories, under(path, "features"))
    _check_names(head.segments, under(path, "segments"))
    return Known(head, key, len(head.features), len(head.categories), len(head.segments))


def _heads(of: type[Any]) -> Parsed[Known]:
    decoder = msgspec.msgpack.Decoder(of)

    def parse(raw: bytes) -> Known:
        try:
            head = decoder.decode(raw)
        except UNDECODABLE as error:
            raise malformed(error, "head") from None
        canonical = msgspec.msgpack.encode(head)
        return _check(head, "head") if canonical == raw else known(canonical)

    known: Parsed[Known] = Parsed(parse, size=16 << 20)
    return known


HEADS: dict[type[Any], Parsed[Known]] = {of: _heads(of) for of in (PredictionHead, LabelHead, FailureHead, MetricsHead)}
"""Class of a head → its cache. Heads of equal content are one object however they were written."""


def intern(head: Head) -> Known:
    """Check a head that was built here and return the one object of its content."""
    try:
        raw = msgspec.msgpack.encode(head)
    except UnicodeEncodeError:  # the check says which string it is
        return _check(head, "head")
    return HEADS[type(head)](raw)
