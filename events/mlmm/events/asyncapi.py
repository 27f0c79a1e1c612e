"""The contract as an AsyncAPI 3 document, made from the types themselves: ``docs/asyncapi.yaml``.

``python -m mlmm.events.asyncapi > docs/asyncapi.yaml`` writes it (PyYAML is needed); a test holds the file against it.
"""

import ast
import inspect
import sys
import textwrap
from typing import Any

import msgspec

from mlmm.events.columns import COLUMNS
from mlmm.events.encode import COLUMNS_TYPE, JSON
from mlmm.events.topics import ALL, Topics, TopicSpec
from mlmm.events.types import TYPES

__all__ = ["document", "render"]

_DESCRIPTION = (
    "Event types, topics and headers of MLMM. Every record carries CloudEvents 1.0 attributes as Kafka headers (binary "
    "content mode). Times are integer microseconds since the epoch in UTC, durations are float seconds, ratios lie in "
    "0..1. Unknown fields are ignored; a missing required field is an error. The prefix `mlmm` of the topics is a "
    "setting. Keys are placed by murmur2. `docs/wire-format.md` says how a batch in columns is laid out."
)

_HEADERS: dict[str, tuple[str, bool]] = {
    "ce_type": ("Type of the event: decides the schema.", True),
    "content-type": (f"`{JSON}`, or `{COLUMNS_TYPE}` for the types that have columns.", True),
    "ce_specversion": ("`1.0`.", True),
    "ce_id": ("Unique within `ce_source`.", True),
    "ce_source": ("The emitting process, `mlmm://host/pid`, or `deployment/processor/topic/partition`.", True),
    "ce_time": ("RFC 3339, UTC.", False),
    "ce_correlationid": ("Id that related events share.", False),
    "ce_causationid": ("`ce_id` of the cause.", False),
    "ce_traceparent": ("W3C trace context.", False),
    "ce_expirytime": ("RFC 3339: after this the event means nothing any more.", False),
    "ce_sequence": (
        "Of a worker: ascends within `ce_source`; a consumer drops what is not higher than the last.",
        False,
    ),
}
_SIGNATURE = {
    "mlmm_signature": ("`<key id>:<hex of HMAC-SHA-256>`, where a key is configured (`docs/wire-format.md`).", False)
}
_DEAD = {
    "mlmm_error": ("What is wrong, with the path of the field.", True),
    "mlmm_topic": ("Topic it was read from.", True),
    "mlmm_partition": ("Partition it was read from.", True),
    "mlmm_offset": ("Offset it was read at.", True),
}


def _headers(of: dict[str, tuple[str, bool]]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, (text, _) in of.items()},
        "required": [name for name, (_, required) in of.items() if required],
    }


def _field_docs(of: type[Any]) -> dict[str, str]:
    """Field → the string that stands below it in the class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0]
    docs: dict[str, str] = {}
    field = ""
    for statement in getattr(body, "body", ()):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and field:
            docs[field] = str(statement.value.value)
            field = ""
    return docs


def _classes() -> list[type[Any]]:
    return [*TYPES.values(), *(each for pair in COLUMNS.values() for each in pair)]


def _schemas() -> dict[str, Any]:
    """JSON schemas of all events, blocks and heads."""
    classes = _classes()
    _, schemas = msgspec.json.schema_components(classes, ref_template="#/components/schemas/{name}")
    known = {of.__name__: of for of in _reachable(classes)}
    for name, schema in schemas.items():
        for field, text in _field_docs(known[name]).items():
            if field in schema["properties"]:
                _describe(schema["properties"], field, text)
        if "n" in schema["properties"]:
            del schema["properties"]["index"]
        for of_field in schema["properties"].values():
            if of_field.pop("contentEncoding", None):
                of_field["format"] = "binary"
            of_field.get("items", {}).pop("discriminator", None)  # OpenAPI's, which AsyncAPI does not know
    return schemas


def _describe(properties: dict[str, Any], field: str, text: str) -> None:
    schema = properties[field]
    properties[field] = {"allOf": [schema], "description": text} if "$ref" in schema else schema | {"description": text}


def _reachable(classes: list[type[Any]]) -> list[type[Any]]:
    """Classes, and those that their fields name."""
    module = sys.modules[TYPES["mlmm.tick.v1"].__module__]
    others = [of for of in vars(module).values() if isinstance(of, type) and issubclass(of, msgspec.Struct)]
    return [*classes, *others]


def _message_name(type_: str) -> str:
    """``mlmm.run.started.v1`` → ``run.started``."""
    return type_.removeprefix("mlmm.").removesuffix(".v1")


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for type_, of in TYPES.items():
        name = _message_name(type_)
        schema = {"$ref": f"#/components/schemas/{of.__name__}"}
        headers = "SignedHeaders" if type_ == "mlmm.command.v1" else "Headers"
        common = {
            "name": type_,
            "summary": inspect.cleandoc(of.__doc__ or "").partition("\n\n")[0],
            "headers": {"$ref": f"#/components/schemas/{headers}"},
        }
        either = {"oneOf": [schema, {"type": "array", "items": schema, "minItems": 1}]}
        messages[name] = common | {"title": type_, "contentType": JSON, "payload": either}
        if type_ in COLUMNS:
            block = {"$ref": f"#/components/schemas/{COLUMNS[type_][0].__name__}"}
            messages[f"{name}.columns"] = common | {
                "title": f"{type_} in columns",
                "contentType": COLUMNS_TYPE,
                "payload": block,
            }
    messages["dead"] = {
        "name": "as received",
        "title": "A record that does not keep the contract",
        "summary": "Value and headers as they were received, and four headers that say what is wrong and where it was.",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
    }
    return messages


def _channel(spec: TopicSpec, address: str) -> dict[str, Any]:
    names = [_message_name(type_) for type_ in spec.types]
    names += [f"{_message_name(type_)}.columns" for type_ in spec.types if type_ in COLUMNS]
    if spec.logical in {"serving", "training", "findings"}:
        names.append("tick")
    if spec.logical == "dead-letters":
        names.append("dead")
    policy = "compact" if spec.compacted else "delete"
    return {
        "address": address,
        "summary": spec.summary,
        "description": f"Record key: {spec.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": address,
                "topicConfiguration": {"cleanup.policy": [policy]},
                "bindingVersion": "0.5.0",
            }
        },
    }


def document() -> dict[str, Any]:
    """Make the AsyncAPI 3.0 document as plain data: channels, messages, headers and JSON schemas."""
    topics = Topics()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "MLMM events", "version": "1", "description": _DESCRIPTION},
        "defaultContentType": JSON,
        "channels": {spec.logical: _channel(spec, topics.full(spec.logical)) for spec in ALL},
        "components": {
            "messages": _messages(),
            "schemas": {
                "Headers": _headers(_HEADERS),
                "SignedHeaders": _headers(_HEADERS | _SIGNATURE),
                "DeadLetterHeaders": _headers(_HEADERS | _DEAD),
                **_schemas(),
            },
        },
    }


def render() -> str:
    """Write the document as YAML."""
    import yaml  # noqa: PLC0415 - only for writing the page, so not needed by users

    plain = msgspec.json.decode(msgspec.json.encode(document()))  # copies what is shared, which YAML would anchor
    head = "# Made from the types by `python -m mlmm.events.asyncapi`; do not edit.\n"
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    sys.stdout.write(render())
