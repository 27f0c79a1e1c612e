"""The contract: event types, topics, wire formats. What another language would have to implement.

The page for that is ``docs/wire-format.md``; ``docs/asyncapi.yaml`` lists topics, headers and schemas.
"""

from mlmm.events import types
from mlmm.events.columns import (
    COLUMNS,
    Block,
    FailureBlock,
    FailureHead,
    LabelBlock,
    LabelHead,
    MetricsBlock,
    MetricsHead,
    PredictionBlock,
    PredictionHead,
)
from mlmm.events.decode import decode_blocks
from mlmm.events.encode import COLUMNS_TYPE, JSON, encode_columns, encode_json
from mlmm.events.errors import MalformedEvent, MlmmError
from mlmm.events.faults import check_id, check_model
from mlmm.events.headers import cloudevents_headers, header, rfc3339
from mlmm.events.identity import code_of, new_id
from mlmm.events.limits import DEFAULT_LIMITS, Limits
from mlmm.events.placement import partition_of, shard_key
from mlmm.events.proofs import MISSING
from mlmm.events.rows import blocks_of
from mlmm.events.signing import SIGNATURE, sign, verify
from mlmm.events.singles import decode_events, events_of
from mlmm.events.topics import Topics, TopicSpec
from mlmm.events.types import (
    TYPES,
    Acked,
    Checkpoint,
    Command,
    CommandState,
    Drift,
    Event,
    Failure,
    Falling,
    FallingStrict,
    Gap,
    Heartbeat,
    Incident,
    Label,
    Metrics,
    NotFinite,
    Notification,
    NotificationOutcome,
    Plateau,
    Prediction,
    Report,
    RunEnded,
    RunStarted,
    RunState,
    Subject,
    Tick,
    Trigger,
)

__all__ = [
    "COLUMNS",
    "COLUMNS_TYPE",
    "DEFAULT_LIMITS",
    "JSON",
    "MISSING",
    "SIGNATURE",
    "TYPES",
    "Acked",
    "Block",
    "Checkpoint",
    "Command",
    "CommandState",
    "Drift",
    "Event",
    "Failure",
    "FailureBlock",
    "FailureHead",
    "Falling",
    "FallingStrict",
    "Gap",
    "Heartbeat",
    "Incident",
    "Label",
    "LabelBlock",
    "LabelHead",
    "Limits",
    "MalformedEvent",
    "Metrics",
    "MetricsBlock",
    "MetricsHead",
    "MlmmError",
    "NotFinite",
    "Notification",
    "NotificationOutcome",
    "Plateau",
    "Prediction",
    "PredictionBlock",
    "PredictionHead",
    "Report",
    "RunEnded",
    "RunStarted",
    "RunState",
    "Subject",
    "Tick",
    "TopicSpec",
    "Topics",
    "Trigger",
    "blocks_of",
    "check_id",
    "check_model",
    "cloudevents_headers",
    "code_of",
    "decode_blocks",
    "decode_events",
    "encode_columns",
    "encode_json",
    "events_of",
    "header",
    "new_id",
    "partition_of",
    "rfc3339",
    "shard_key",
    "sign",
    "types",
    "verify",
]
