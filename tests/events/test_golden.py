"""The bytes on the wire are an API: what was written once is written, and read, for ever."""

import pytest

from mlmm.events import COLUMNS_TYPE, JSON, TYPES, decode_events
from tests.events.samples import GOLDEN, SAMPLES, files

FILES = sorted(files())


def test_every_type_has_a_golden_file():
    assert {type_ for type_, _ in SAMPLES.values()} == set(TYPES)
    assert sorted(path.name for path in GOLDEN.iterdir()) == FILES


@pytest.mark.parametrize("name", FILES)
def test_the_encoder_writes_the_golden_bytes(name):
    assert files()[name] == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_golden_bytes_read_as_the_sample(name):
    type_, events = SAMPLES[name.rpartition(".")[0]]
    content_type = JSON if name.endswith(".json") else COLUMNS_TYPE
    decoded = decode_events(type_, content_type, (GOLDEN / name).read_bytes())
    assert repr(_plain(decoded)) == repr(_plain(events))


def _plain(events):
    """Bools and integers that stand for the same number become one: the contract has one number type."""

    def number(value):
        if isinstance(value, dict):
            return {key: number(each) for key, each in sorted(value.items())}
        if isinstance(value, list | tuple):
            return [number(each) for each in value]
        if hasattr(value, "__struct_fields__"):
            return {name: number(getattr(value, name)) for name in value.__struct_fields__}
        if value in ("NaN", "Infinity", "-Infinity"):
            return float(value)
        return float(value) if isinstance(value, bool | int) else value

    return [number(event) for event in events]
