"""Which orders are obeyed: the table of the contract."""

from typing import Any

import pytest

from mlmm.events import SIGNATURE, Acked, Command, encode_json, new_id, sign
from mlmm.producers.commands import Judge
from mlmm.producers.orders import Orders

STARTED = 1_795_230_000_000_000
SECOND = 1_000_000
SECRET = b"0123456789abcdef"

Parts = tuple[bytes, bytes, list[tuple[str, bytes]]]


def order(*, key: bytes | None = None, signed: bytes | None = None, key_id: str = "k1", **fields: Any) -> Parts:
    """Make a record of the commands topic, by default a stop for run-1 issued 1 s after its start."""
    values = {
        "command_id": new_id(), "kind": "stop", "issued_at": STARTED + SECOND, "expires_at": STARTED + 3600 * SECOND,
        "issued_by": "alerting", "reason": "hopeless",
    }  # fmt: skip
    if "model" not in fields:
        values["run_id"] = "run-1"
    command = Command(**{**values, **fields})
    value = encode_json(command)
    where = key if key is not None else (command.run_id or command.model or "").encode()
    headers = [("ce_type", b"mlmm.command.v1"), ("ce_id", command.command_id.encode())]
    if signed:
        headers.append((SIGNATURE, sign(key_id, signed, where, "mlmm.command.v1", command.command_id, value)))
    return where, value, headers


def judge(**keywords: Any) -> Judge:
    values: dict[str, Any] = {"run_id": "run-1", "attempt": "a2", "model": "fraud", "started": STARTED, "keys": {}}
    return Judge(**{**values, **keywords})


NOW = STARTED + 2 * SECOND
KEYS = {"k1": SECRET, "k0": b"the one before it"}

TABLE: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    # name, order, judge, answer, part of the reason
    ("for this run and attempt", {"attempt": "a2"}, {}, "obey", "hopeless"),
    ("for this run, whichever attempt", {}, {}, "obey", ""),
    ("for the model, begun before", {"model": "fraud"}, {}, "obey", ""),
    ("for another run", {"run_id": "run-2"}, {}, "ignore", "others"),
    ("for another model", {"model": "churn"}, {}, "ignore", "others"),
    ("for a model, and none was declared", {"model": "fraud"}, {"model": None}, "ignore", "others"),
    ("for nobody", {"run_id": None, "model": None}, {"model": None}, "ignore", "others"),
    ("for an older attempt", {"attempt": "a1"}, {}, "reject", "attempt a1"),
    ("from before the attempt", {"issued_at": STARTED - 1}, {}, "reject", "before this attempt"),
    ("from before the attempt, at its very start", {"issued_at": STARTED}, {}, "reject", "before this attempt"),
    ("for the model, from before", {"model": "fraud", "issued_at": STARTED - 1}, {}, "ignore", "after it was issued"),
    ("from before, but for this attempt", {"attempt": "a2", "issued_at": STARTED - 1}, {}, "obey", ""),
    ("expired", {"expires_at": NOW - 3 * SECOND}, {}, "expire", "expired 3 s ago"),
    ("expiring now", {"expires_at": NOW}, {}, "expire", ""),
    ("not yet expired", {"expires_at": NOW + 1}, {}, "obey", ""),
    ("another kind", {"kind": "retrain"}, {}, "reject", "obeys stop, not retrain"),
    ("another kind for the model", {"kind": "promote", "model": "fraud"}, {}, "ignore", ""),
    ("under a wrong key", {"key": b"run-2"}, {}, "reject", "record key"),
    ("signed", {"signed": SECRET}, {"keys": KEYS}, "obey", ""),
    ("signed with the key before it", {"signed": KEYS["k0"], "key_id": "k0"}, {"keys": KEYS}, "obey", ""),
    ("not signed", {}, {"keys": KEYS}, "reject", "not signed"),
    ("signed with a retired key", {"signed": b"retired", "key_id": "k9"}, {"keys": KEYS}, "reject", "unknown key"),
    ("badly signed", {"signed": b"a wrong secret!!"}, {"keys": KEYS}, "reject", "does not match"),
    ("signed, where no key is configured", {"signed": SECRET}, {}, "obey", ""),
    ("expired and not signed", {"expires_at": NOW - 1}, {"keys": KEYS}, "reject", "not signed"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "us", "answer", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_orders(given: dict[str, Any], us: dict[str, Any], answer: str, reason: str) -> None:
    verdict = judge(**us).judge(*order(**given), NOW)
    assert verdict.answer == answer
    assert reason in verdict.reason


@pytest.mark.parametrize("signed", [SECRET, None])
def test_an_order_that_was_decided_is_not_decided_again(signed: bytes | None) -> None:
    us, record = judge(keys={"k1": SECRET}), order(signed=signed)
    assert us.judge(*record, NOW).answer == ("obey" if signed else "reject")
    assert us.judge(*record, NOW).answer == ("repeat" if signed else "ignore")


def test_a_forged_copy_does_not_use_up_the_id_of_what_was_never_for_us() -> None:
    us = judge()
    assert us.judge(*order(command_id="c", run_id="run-2"), NOW).answer == "ignore"
    assert us.judge(*order(command_id="c"), NOW).answer == "obey"


def test_a_forged_copy_does_not_use_up_the_id_of_the_genuine_order() -> None:
    us = judge(keys={"k1": SECRET})
    assert us.judge(*order(command_id="c"), NOW).answer == "reject"
    assert us.judge(*order(command_id="c"), NOW).answer == "ignore"
    assert us.judge(*order(command_id="c", signed=SECRET), NOW).answer == "obey"
    assert us.judge(*order(command_id="c"), NOW).answer == "ignore"


def test_a_run_that_has_ended_says_so() -> None:
    us = judge()
    us.ended = True
    verdict = us.judge(*order(), NOW)
    assert (verdict.answer, verdict.reason) == ("reject", "the run has ended")


@pytest.mark.parametrize(
    ("value", "type_"),
    [(b"", b"mlmm.command.v1"), (b"{", b"mlmm.command.v1"), (b"[]", b"mlmm.command.v1"), (None, b"mlmm.command.v1"),
     (b"{}", b"mlmm.tick.v1"), (b"\xff", b"mlmm.command.v1"), (b"[" * 100_000, b"mlmm.command.v1")],
)  # fmt: skip
def test_what_is_no_command_is_passed_over(value: bytes | None, type_: bytes) -> None:
    assert judge().judge(b"run-1", value, [("ce_type", type_)], NOW).answer == "ignore"
    assert judge().judge(None, value, [], NOW).answer == "ignore"


def orders() -> tuple[Orders, list[Acked]]:
    answers: list[Acked] = []
    return Orders(judge(), answers.append, lambda: NOW), answers


def test_an_obeyed_order_is_accepted_then_completed_with_its_checkpoint() -> None:
    told, answers = orders()
    assert not told.should_stop
    told.receive(*order(command_id="c"))
    assert told.should_stop
    command = told.end()
    assert command is not None
    told.completed(command, "file:///checkpoints/1", 7)
    assert [(each.command_id, each.state, each.target, each.attempt) for each in answers] == [
        ("c", "accepted", "run-1", "a2"), ("c", "completed", "run-1", "a2"),
    ]  # fmt: skip
    assert (answers[1].checkpoint, answers[1].step) == ("file:///checkpoints/1", 7)


def test_every_refusal_is_answered_with_its_reason_and_stops_nothing() -> None:
    told, answers = orders()
    told.receive(*order(expires_at=NOW))
    told.receive(*order(attempt="a1"))
    told.receive(*order(run_id="run-2"))
    assert [each.state for each in answers] == ["expired", "rejected"]
    assert all(each.reason for each in answers)
    assert not told.should_stop


def test_a_second_order_is_told_that_the_first_is_being_obeyed() -> None:
    told, answers = orders()
    told.receive(*order(command_id="first"))
    told.receive(*order(command_id="second"))
    assert [each.state for each in answers] == ["accepted", "rejected"]
    assert "first" in answers[1].reason
    assert told.end().command_id == "first"


def test_an_order_that_comes_with_the_end_is_refused() -> None:
    told, answers = orders()
    assert told.end() is None
    told.receive(*order())
    assert [(each.state, each.reason) for each in answers] == [("rejected", "the run has ended")]
    assert not told.should_stop
