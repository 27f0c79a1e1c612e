"""Logs: an event name and fields, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.runtime import logs
from mlmm.runtime.settings import Secret


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """Put the root logger back as it was."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers, logger.level = handlers, level
    logging.captureWarnings(False)


def line(*, as_json: bool = False, event: str = "partition claimed", **fields) -> str:
    stream = io.StringIO()
    logs.configure(json=as_json, stream=stream)
    logs.get("worker").info(event, extra=fields)
    return stream.getvalue().rstrip("\n")


def test_people_read_an_event_and_its_fields():
    text = line(partition=3, reason="two words", ratio=0.5, ok=True, none=None)
    time, rest = text.split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'INFO    mlmm.worker partition claimed partition=3 reason="two words" ratio=0.5 ok=true none=null'


def test_machines_read_one_object_a_line():
    found = json.loads(line(as_json=True, partition=3, nested={"a": [1, 2]}))
    assert list(found)[:4] == ["time", "level", "logger", "event"]
    assert (found["event"], found["partition"], found["nested"]) == ("partition claimed", 3, {"a": [1, 2]})


def test_a_field_can_not_hide_the_event():
    found = json.loads(line(as_json=True, event="said", level="x", time="y"))
    assert (found["event"], found["level"]) == ("said", "info")


def test_figures_that_are_none_are_valid_json():
    assert json.loads(line(as_json=True, value=float("nan")), parse_constant=pytest.fail)["value"] == "nan"


@given(st.text("QXZ7", min_size=6), st.booleans())
def test_secrets_are_masked_wherever_they_stand(secret, as_json):
    secret = f"QQ{secret}"
    text = line(
        as_json=as_json,
        event=f"connecting to redis://u:{secret}@h:1/0 and https://{secret}@hooks.example.org/x",
        password=secret,
        settings={"sasl_password": secret, "inner": [{"api_key": secret}], "url": f"redis://:{secret}@h"},
        key=Secret(secret),
        listed=[Secret(secret), f"amqp://a:{secret}@h"],
    )
    assert secret not in text
    assert "h:1/0" in text
    assert "hooks.example.org/x" in text


@pytest.mark.parametrize("as_json", [False, True])
def test_tracebacks_are_shown_with_credentials_masked(as_json):
    stream = io.StringIO()
    logs.configure(json=as_json, stream=stream)
    error = ValueError("redis://u:hunter2@h")
    logs.get().error("failed", exc_info=error)
    assert "hunter2" not in stream.getvalue()
    assert "ValueError: redis://********@h" in stream.getvalue()


def test_configuring_again_replaces_our_handler():
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.configure(stream=stream)
    logs.get().info("once")
    assert stream.getvalue().count("once") == 1


def test_libraries_tell_warnings_only_unless_debugging():
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("aiokafka.consumer").info("chatter")
    logging.getLogger("aiokafka.consumer").warning("trouble")
    logs.configure("DEBUG", stream=stream)
    logging.getLogger("aiokafka.consumer").debug("detail")
    assert [word in stream.getvalue() for word in ("chatter", "trouble", "detail")] == [False, True, True]


def test_a_library_that_says_the_same_all_the_time_is_shown_a_few_times_with_a_count():
    """A client whose broker is away says so hundreds of times a second."""
    now = [0.0]
    sparing = logs.Sparing(clock=lambda: now[0])

    def shown(name: str, text: str, argument: int) -> logging.LogRecord | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, (argument,), None)
        return record if sparing.filter(record) else None

    first = [shown("aiokafka.consumer", "no node %s", n) for n in range(100)]
    assert [record is not None for record in first] == [True] * 5 + [False] * 95
    assert shown("aiokafka.consumer", "another %s", 1), "another text is another kind"
    assert all(shown("mlmm.worker", "ours %s", n) for n in range(100)), "what we say ourselves is never left out"
    now[0] = 10.0
    again = shown("aiokafka.consumer", "no node %s", 1)
    assert again is not None
    assert vars(again)["left_out"] == 95
    quiet = shown("aiokafka.consumer", "another %s", 1)
    assert quiet is not None
    assert "left_out" not in vars(quiet)


def test_kinds_that_are_told_apart_are_bounded():
    sparing = logs.Sparing(clock=lambda: 0.0)
    for n in range(5000):
        sparing.filter(logging.LogRecord("kafka", logging.ERROR, "", 0, f"text {n}", (), None))
    assert len(sparing._kinds) <= 501


def test_debug_shows_all_that_libraries_say():
    stream = io.StringIO()
    logs.configure("DEBUG", stream=stream)
    try:
        for _ in range(50):
            logging.getLogger("aiokafka").error("away")
    finally:
        logs.configure()
    assert stream.getvalue().count("away") == 50


def test_what_configure_sets_up_is_sparing():
    stream = io.StringIO()
    logs.configure(stream=stream)
    for _ in range(50):
        logging.getLogger("aiokafka").error("away")
    assert stream.getvalue().count("away") == 5
