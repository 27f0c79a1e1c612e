"""``docs/asyncapi.yaml`` says what the code does."""

from pathlib import Path

import jsonschema
import msgspec
import pytest

from mlmm.events import COLUMNS, TYPES, Topics, cloudevents_headers
from mlmm.events.asyncapi import document, render
from tests.events.samples import GOLDEN, SAMPLES, TIME

PAGE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def test_the_page_is_what_the_types_render():
    assert PAGE.read_text() == render(), "run: python -m mlmm.events.asyncapi > docs/asyncapi.yaml"


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_resolves():
    page = document()
    for reference in references(page):
        node = page
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_topic_and_type_is_on_the_page():
    page = document()
    assert {channel["address"] for channel in page["channels"].values()} == {
        Topics().full(s.logical) for s in Topics.ALL
    }
    messages = page["components"]["messages"]
    assert {message["name"] for message in messages.values()} == {*TYPES, "as received"}
    used = {name for channel in page["channels"].values() for name in channel["messages"]}
    assert used == set(messages)


def test_every_struct_field_is_in_its_schema():
    schemas = document()["components"]["schemas"]
    for of in [*TYPES.values(), *(each for pair in COLUMNS.values() for each in pair)]:
        assert set(schemas[of.__name__]["properties"]) == set(of.__struct_fields__) - {"index"}


def test_every_header_is_on_the_page():
    made = cloudevents_headers(
        "t", "i", "s", TIME, "c", correlationid="a", causationid="b", traceparent="c", expirytime=TIME, sequence="d"
    )
    schemas = document()["components"]["schemas"]
    assert list(schemas["Headers"]["properties"]) == [name for name, _ in made]
    assert "mlmm_signature" in schemas["SignedHeaders"]["properties"]


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_events_satisfy_the_schemas(name):
    page = document()
    type_, _ = SAMPLES[name]
    payload = page["components"]["messages"][type_.removeprefix("mlmm.").removesuffix(".v1")]["payload"]
    validator = jsonschema.Draft202012Validator(payload | {"components": page["components"]})
    event = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes())
    validator.validate(event)
    first = event[0] if isinstance(event, list) else event
    required = next(field.name for field in msgspec.structs.fields(TYPES[type_]) if field.required)
    assert not validator.is_valid({key: value for key, value in first.items() if key != required})
