"""Batches in columns: ``application/vnd.mlmm.columns+msgpack``, and what the engine works on.

One record holds one block: ``n`` events of one type that share a head. A record is a msgpack map with the fields of one
of the classes below, by name; ``bytes`` fields are little-endian buffers whose dtype and shape stand beside them. A
head is a map that many records repeat byte for byte, so a decoder parses it once.
"""

from typing import Any, Literal

import msgspec

__all__ = [
    "COLUMNS",
    "FailureBlock",
    "FailureHead",
    "LabelBlock",
    "LabelHead",
    "MetricsBlock",
    "MetricsHead",
    "PredictionBlock",
    "PredictionHead",
]


class PredictionHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, eq=False):
    """What all predictions of a block share. Compared by identity: the decoder gives equal bytes the same object."""

    model: str
    version: str | None = None
    task: Literal["binary", "multiclass", "regression"] = "binary"
    positive: float | str | bool = 1
    threshold: float | None = None
    route: Literal["champion", "challenger", "shadow"] = "champion"
    features: tuple[str, ...] = ()
    """Names of the numeric features (numbers and bools), in the order of their columns."""
    categories: tuple[str, ...] = ()
    """Names of the string features."""
    segments: tuple[str, ...] = ()


class LabelHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, eq=False):
    """What all labels of a block share."""

    model: str


class FailureHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, eq=False):
    """What all failures of a block share."""

    model: str
    version: str | None = None


class MetricsHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, eq=False):
    """What all metrics of a block share: events with other names or another phase make a block of their own."""

    run_id: str
    attempt: str
    names: tuple[str, ...]
    phase: str = "train"


class PredictionBlock(msgspec.Struct, kw_only=True, omit_defaults=True, eq=False):
    """``n`` predictions. F, C and S are the lengths of the head's features, categories and segments."""

    head: PredictionHead
    n: int
    ids: bytes
    """All prediction ids as UTF-8, one after the other."""
    id_lengths: bytes
    """u32[n]: bytes of each id."""
    time: bytes
    """i64[n]: microseconds."""
    output: bytes
    """f64[n]: the number given, or, where ``classes`` is not empty, an index into it."""
    classes: tuple[str | float | bool, ...] = ()
    features: bytes = b""
    """f64[n, F], row by row; NaN where missing."""
    categories: bytes = b""
    """u32[n, C], row by row: index into that column's ``dictionary``; 4294967295 where missing."""
    dictionary: tuple[tuple[str, ...], ...] = ()
    """The strings of each categorical column."""
    segments: bytes = b""
    """u32[n, S], row by row: index into ``segment_values``; 4294967295 where missing."""
    segment_values: tuple[tuple[str, ...], ...] = ()
    score: bytes = b""
    """f64[n] or empty; NaN where missing."""
    scores: bytes = b""
    """f64[n, len(score_classes)] or empty: class → probability."""
    score_classes: tuple[str, ...] = ()
    latency: bytes = b""
    """f64[n] seconds, or empty; NaN where missing."""
    weight: bytes = b""
    """f64[n] or empty; NaN where missing."""
    value: bytes = b""
    """f64[n] or empty; NaN where missing."""
    index: int = 0
    """Place of the block's first event within its record; not on the wire."""


class LabelBlock(msgspec.Struct, kw_only=True, omit_defaults=True, eq=False):
    """``n`` labels."""

    head: LabelHead
    n: int
    ids: bytes
    id_lengths: bytes
    time: bytes
    value: bytes
    """f64[n]: the number given, or, where ``classes`` is not empty, an index into it."""
    classes: tuple[str | float | bool, ...] = ()
    weight: bytes = b""
    index: int = 0


class FailureBlock(msgspec.Struct, kw_only=True, omit_defaults=True, eq=False):
    """``n`` failures."""

    head: FailureHead
    n: int
    time: bytes
    kinds: tuple[str, ...]
    """One a failure."""
    messages: tuple[str, ...] = ()
    status: bytes = b""
    """i64[n] or empty; -1 where missing."""
    latency: bytes = b""
    """f64[n] seconds, or empty; NaN where missing."""
    index: int = 0


class MetricsBlock(msgspec.Struct, kw_only=True, omit_defaults=True, eq=False):
    """``n`` steps of one run, M = len(head.names). Every value was logged: a NaN here is a NaN of the trainer's."""

    head: MetricsHead
    n: int
    step: bytes
    """i64[n]"""
    time: bytes
    """i64[n]"""
    values: bytes
    """f64[n, M], row by row."""
    index: int = 0


Block = PredictionBlock | LabelBlock | FailureBlock | MetricsBlock

COLUMNS: dict[str, tuple[type[Any], type[Any]]] = {
    "mlmm.predictions.v1": (PredictionBlock, PredictionHead),
    "mlmm.labels.v1": (LabelBlock, LabelHead),
    "mlmm.failures.v1": (FailureBlock, FailureHead),
    "mlmm.run.metrics.v1": (MetricsBlock, MetricsHead),
}
"""Event type → the class of its block and of its head."""
