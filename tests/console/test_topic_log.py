"""Whether workers still run, as Kafka's coordinator tells it."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import CoordinatorNotAvailableError

from mlmm.console import topic_log
from mlmm.console.topic_log import TopicLog
from mlmm.runtime.errors import MlmmError
from mlmm.runtime.settings import load, override


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let the coordinator answer these, the last one for ever."""
    given: list[dict[str, Any]] = []

    def describe_groups(groups: list[str]) -> dict[str, Any]:
        answer = given.pop(0) if len(given) > 1 else given[0]
        if not answer:
            raise CoordinatorNotAvailableError
        return {groups[0]: answer}

    admin = SimpleNamespace(describe_groups=describe_groups, close=lambda: None)
    monkeypatch.setattr("mlmm.runtime.connections.kafka_admin", lambda _: admin)
    ticks = iter(range(10**9))
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)), sleep=lambda _: None)
    monkeypatch.setattr(topic_log, "time", clock)
    return given


def log() -> TopicLog:
    return TopicLog(override(load(env={}), {"kafka.bootstrap_servers": "here:1"}), "t")


def test_a_coordinator_that_can_not_tell_yet_is_asked_again(answers: list[dict[str, Any]]):
    answers += [{}, {"members": [], "error": "NotCoordinatorError"}, {"members": [], "error": None}]
    log().wait_until_stopped("g")
    assert len(answers) == 1


def test_a_group_that_is_no_more_has_no_members(answers: list[dict[str, Any]]):
    answers.append({"members": [], "error": "[Error 69] GroupIdNotFoundError: Group g not found."})
    log().wait_until_stopped("g")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"members": [], "error": "NotCoordinatorError"}, "can't tell whether workers run .NotCoordinatorError"),
        ({"members": [{"group_instance_id": "slot-0", "member_id": "m"}], "error": None}, r"workers still run .slot-0"),
    ],
)
def test_who_stays_is_named(answers: list[dict[str, Any]], answer: dict[str, Any], says: str):
    answers.append(answer)
    with pytest.raises(MlmmError, match=says):
        log().wait_until_stopped("g")
