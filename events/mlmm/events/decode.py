"""Record → blocks: the way in for the engine. Everything is checked before a kernel sees it, cheapest test first."""

from collections.abc import Callable
from typing import Any

import msgspec

from mlmm.events import proofs, rows
from mlmm.events.columns import COLUMNS, Block, FailureBlock, LabelBlock, MetricsBlock, PredictionBlock
from mlmm.events.encode import COLUMNS_TYPE, JSON
from mlmm.events.errors import MalformedEvent
from mlmm.events.faults import UNDECODABLE, check_text, malformed
from mlmm.events.heads import HEADS, Known, Parsed
from mlmm.events.limits import DEFAULT_LIMITS, NAME_BYTES, NAMES, STRING_BYTES, Limits

__all__ = ["check_key", "decode_blocks", "is_json"]


def _wire(block: type[Any], *raw: str) -> msgspec.msgpack.Decoder[Any]:
    """Decoder of ``block`` that leaves the head and the fields named in ``raw`` as bytes.

    Raw fields are skipped, not built: they are looked up in caches by their bytes, and a length that promises more
    than there is fails before anything is allocated. The layout stays that of ``block``, whose class the object takes
    once it is whole.
    """
    return msgspec.msgpack.Decoder(
        msgspec.defstruct(
            f"{block.__name__}Wire",
            [("head", msgspec.Raw), *((name, msgspec.Raw, ()) for name in raw)],
            bases=(block,),
            kw_only=True,
            omit_defaults=True,
            eq=False,
        )
    )


def _lists(of: Any, field: str, longest: int = STRING_BYTES) -> Parsed[Any]:
    """Cache of one field that is an array of strings or classes, or an array of such arrays."""
    decoder = msgspec.msgpack.Decoder(of)

    def check(values: Any) -> None:
        for value in values:
            if isinstance(value, tuple):
                check(value)
            elif isinstance(value, str):
                check_text(value, field, longest)

    def parse(raw: bytes) -> Any:
        try:
            values = decoder.decode(raw)
        except UNDECODABLE as error:
            raise malformed(error, field) from None
        check(values)
        return values

    return Parsed(parse)


_classes = _lists(tuple[str | float | bool, ...], "classes")
_score_classes = _lists(tuple[str, ...], "score_classes", NAME_BYTES)
_dictionary = _lists(tuple[tuple[str, ...], ...], "dictionary")
_segment_values = _lists(tuple[tuple[str, ...], ...], "segment_values")
_kinds = _lists(tuple[str, ...], "kinds")
_messages = _lists(tuple[str, ...], "messages")

_prediction_wire = _wire(PredictionBlock, "classes", "dictionary", "segment_values", "score_classes")
_label_wire = _wire(LabelBlock, "classes")
_failure_wire = _wire(FailureBlock, "kinds", "messages")
_metrics_wire = _wire(MetricsBlock)

_prediction_heads, _label_heads, _failure_heads, _metrics_heads = (HEADS[head] for _, head in COLUMNS.values())


def _wrong(block: Any, field: str, expected: int) -> MalformedEvent:
    return MalformedEvent(f"{len(getattr(block, field))} bytes, expected {expected} for {block.n} events", field=field)


def _whole(block: Any, known: Known, key: bytes | None, limits: Limits, size: int) -> int:
    """Check what all blocks have in common; return ``n``."""
    if key is not None and key != known.key:
        check_key(key, known.key, sharded=type(known.head) is not _metrics_head)
    n: int = block.n
    if not 0 < n <= limits.events:
        raise MalformedEvent(f"{n} events, 1..{limits.events} are allowed", field="n")
    if len(block.time) != 8 * n:
        raise _wrong(block, "time", 8 * n)
    proofs.check_times(block.time, n)
    if size > limits.column_bytes:
        _check_sizes(block, limits)
    return n


SHARD_DIGITS = 6
"""A key is stored and remembered: it must not be as long as someone likes."""
_metrics_head = COLUMNS["mlmm.run.metrics.v1"][1]


def _check_sizes(block: Any, limits: Limits) -> None:
    for field in block.__struct_fields__:
        value = getattr(block, field)
        if not isinstance(value, bytes | msgspec.Raw):
            continue
        size = memoryview(value).nbytes
        if size > limits.column_bytes:
            raise MalformedEvent(f"{size} bytes, at most {limits.column_bytes} are allowed", field=field)


def _predictions(value: bytes, key: bytes | None, limits: Limits) -> PredictionBlock:
    block = _prediction_wire.decode(value)
    raw = bytes(block.head)
    known = _prediction_heads.get(raw) or _prediction_heads(raw)
    n = _whole(block, known, key, limits, len(value))
    wide = 8 * n
    proofs.check_ids(block.ids, block.id_lengths, n)
    if len(block.output) != wide:
        raise _wrong(block, "output", wide)
    if len(block.features) != wide * known.features:
        raise _wrong(block, "features", wide * known.features)
    if block.score and len(block.score) != wide:
        raise _wrong(block, "score", wide)
    if block.latency and len(block.latency) != wide:
        raise _wrong(block, "latency", wide)
    if block.weight and len(block.weight) != wide:
        raise _wrong(block, "weight", wide)
    if block.value and len(block.value) != wide:
        raise _wrong(block, "value", wide)
    if block.classes != ():
        block.classes = _classes(bytes(block.classes))
        proofs.check_classes(block.output, block.classes, n, "output")
    if known.categories or block.categories or block.dictionary != ():
        if block.dictionary != ():
            block.dictionary = _dictionary(bytes(block.dictionary))
        proofs.check_codes(block.categories, block.dictionary, n, known.categories, proofs.CATEGORIES)
    if known.segments or block.segments or block.segment_values != ():
        if block.segment_values != ():
            block.segment_values = _segment_values(bytes(block.segment_values))
        proofs.check_codes(block.segments, block.segment_values, n, known.segments, proofs.SEGMENTS)
    if block.scores or block.score_classes != ():
        _check_scores(block, n)
    block.head = known.head
    block.index = 0
    block.__class__ = PredictionBlock
    return block  # type: ignore[no-any-return]  # its class was just set


def _check_scores(block: Any, n: int) -> None:
    if block.score_classes != ():
        block.score_classes = _score_classes(bytes(block.score_classes))
    width = len(block.score_classes)
    if width > NAMES or len(set(block.score_classes)) != width:
        raise MalformedEvent(f"at most {NAMES} classes, each once", field="score_classes")
    if len(block.scores) != 8 * n * width or not width:
        raise _wrong(block, "scores", 8 * n * width)
    if block.score:
        raise MalformedEvent("stands beside score: only one of them may", field="scores")


def _labels(value: bytes, key: bytes | None, limits: Limits) -> LabelBlock:
    block = _label_wire.decode(value)
    raw = bytes(block.head)
    known = _label_heads.get(raw) or _label_heads(raw)
    n = _whole(block, known, key, limits, len(value))
    proofs.check_ids(block.ids, block.id_lengths, n)
    if len(block.value) != 8 * n:
        raise _wrong(block, "value", 8 * n)
    if block.weight and len(block.weight) != 8 * n:
        raise _wrong(block, "weight", 8 * n)
    if block.classes != ():
        block.classes = _classes(bytes(block.classes))
        proofs.check_classes(block.value, block.classes, n, "value")
    block.head = known.head
    block.index = 0
    block.__class__ = LabelBlock
    return block  # type: ignore[no-any-return]  # its class was just set


def _failures(value: bytes, key: bytes | None, limits: Limits) -> FailureBlock:
    block = _failure_wire.decode(value)
    raw = bytes(block.head)
    known = _failure_heads.get(raw) or _failure_heads(raw)
    n = _whole(block, known, key, limits, len(value))
    if block.kinds == ():
        raise MalformedEvent("missing required field", field="kinds")
    block.kinds = _kinds(bytes(block.kinds))
    if len(block.kinds) != n:
        raise MalformedEvent(f"{len(block.kinds)} strings, expected {n}", field="kinds")
    if block.messages != ():
        block.messages = _messages(bytes(block.messages))
        if block.messages and len(block.messages) != n:
            raise MalformedEvent(f"{len(block.messages)} strings, expected {n}", field="messages")
    if block.status and len(block.status) != 8 * n:
        raise _wrong(block, "status", 8 * n)
    if block.latency and len(block.latency) != 8 * n:
        raise _wrong(block, "latency", 8 * n)
    block.head = known.head
    block.index = 0
    block.__class__ = FailureBlock
    return block  # type: ignore[no-any-return]  # its class was just set


def _metrics(value: bytes, key: bytes | None, limits: Limits) -> MetricsBlock:
    block = _metrics_wire.decode(value)
    raw = bytes(block.head)
    known = _metrics_heads.get(raw) or _metrics_heads(raw)
    n = _whole(block, known, key, limits, len(value))
    if len(block.step) != 8 * n:
        raise _wrong(block, "step", 8 * n)
    if len(block.values) != 8 * n * known.features:
        raise _wrong(block, "values", 8 * n * known.features)
    block.head = known.head
    block.index = 0
    block.__class__ = MetricsBlock
    return block  # type: ignore[no-any-return]  # its class was just set


_DECODERS: dict[str, Callable[[bytes, bytes | None, Limits], Block]] = {
    "mlmm.predictions.v1": _predictions,
    "mlmm.labels.v1": _labels,
    "mlmm.failures.v1": _failures,
    "mlmm.run.metrics.v1": _metrics,
}


def check_key(key: bytes, expected: bytes, *, sharded: bool) -> None:
    """Refuse a record key that is not ``expected`` or, where ``sharded``, ``expected#N``."""
    if key == expected:
        return
    if sharded and key.startswith(expected + b"#"):
        shard = key[len(expected) + 1 :]
        if shard.isdigit() and len(shard) <= SHARD_DIGITS:
            return
    raise MalformedEvent(f"is {key!r}, but the events are of {expected!r}", field="key")


def is_json(content_type: str) -> bool:
    """Whether a content type is JSON; parameters such as ``charset`` are allowed."""
    return content_type == JSON or content_type.partition(";")[0].strip().lower() == JSON


def decode_blocks(
    ce_type: str, content_type: str, value: bytes, *, key: bytes | None = None, limits: Limits = DEFAULT_LIMITS
) -> list[Block]:
    """Decode a record of one of the four column types, in either format, and check all of it.

    Parameters
    ----------
    ce_type : str
        A key of `COLUMNS`, such as ``"mlmm.predictions.v1"``.
    content_type : str
        `JSON` or `COLUMNS_TYPE`.
    value : bytes
        The record's value.
    key : bytes, optional
        The record's key; where given it must be the model, ``model#shard`` or the run id of the events.
    limits : Limits
        Bounds on what is decoded.

    Returns
    -------
    list of Block
        In the record's order; ``index`` is the place of a block's first event. JSON events that follow one another with
        an equal head share a block. Equal heads are one object.

    Raises
    ------
    MalformedEvent
        Naming the field at fault, whatever is wrong with the record. Nothing else is raised for any bytes.
    """
    if len(value) > limits.record_bytes:
        raise MalformedEvent(f"record of {len(value)} bytes, at most {limits.record_bytes} are allowed")
    decoder = _DECODERS.get(ce_type)
    if decoder is None:
        raise MalformedEvent(f"{ce_type!r} has no blocks: one of {', '.join(_DECODERS)}", field="ce_type")
    if content_type == COLUMNS_TYPE:
        try:
            return [decoder(value, key, limits)]
        except UNDECODABLE as error:
            raise malformed(error) from None
    if not is_json(content_type):
        raise MalformedEvent(f"{content_type!r} is neither {JSON} nor {COLUMNS_TYPE}", field="content-type")
    events, alone = rows.decode_rows(ce_type, value, limits)
    blocks = rows.blocks_of(events, alone=alone)
    for block in blocks:
        if 4 * len(value) > limits.column_bytes:  # "0," is the shortest number, and becomes eight bytes
            _check_sizes(block, limits)
        if key is None:
            continue
        if isinstance(block, MetricsBlock):
            check_key(key, block.head.run_id.encode(), sharded=False)
        else:
            check_key(key, block.head.model.encode(), sharded=True)
    return blocks
