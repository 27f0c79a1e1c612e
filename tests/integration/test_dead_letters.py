"""`mlmm dead-letters` on real Kafka: each letter shows once, is sent again once, and what it holds stays text."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from mlmm.console.cli import main
from mlmm.console.letters import Outcome, read_letters, retry
from mlmm.console.letters import retrying as module
from mlmm.events import JSON, MalformedEvent, Topics, cloudevents_headers, header, partition_of
from mlmm.runtime import outbox
from mlmm.runtime.deadletters import VALUE_MOST, dead_letter
from mlmm.runtime.processor import Record
from mlmm.runtime.sequence import encode, source
from mlmm.runtime.settings import Settings, load
from tests.faults.comparison import read_topic
from tests.services import unique

pytestmark = pytest.mark.integration

LABEL = b'{"prediction_id":"a","model":"fraud","value":1}'
HEADERS = (*cloudevents_headers("mlmm.labels.v1", "id-1", "s", 1_790_000_000_000_000, JSON), ("tracing", b""))


class Bench:
    """A deployment's topics, and a worker's hand."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics = Topics(settings.topic_prefix)
        self.kafka = settings.kafka.bootstrap_servers
        self.producer = KafkaProducer(bootstrap_servers=self.kafka, max_request_size=16 << 20)

    def refuse(self, offset: int, reason: str = "time: missing required field", **given: Any) -> outbox.Message:
        """Put a letter into the topic, as a worker's drain does."""
        topic, epoch = given.pop("topic", "serving"), given.pop("epoch", 0)
        record = Record(offset, 1, **{"key": b"fraud", "value": LABEL, "headers": HEADERS, **given})
        entry = outbox.encode(encode(epoch, offset, 0), dead_letter(record, MalformedEvent(reason)), topic, 1)
        letter = outbox.message(entry, source("d", topic, self.topics.full(topic), 1), None)
        self.put(letter)
        return letter

    def put(self, letter: outbox.Message) -> None:
        where = partition_of(letter.key, self.settings.kafka.partitions)
        self.producer.send(
            self.topics.dead_letters, letter.value, key=letter.key, headers=list(letter.headers), partition=where
        ).get(timeout=30)

    def sent(self, logical: str = "serving") -> list[Record]:
        """What stands in a topic."""
        read = read_topic(self.kafka, self.topics.full(logical))
        return [record for records in read.values() for record in records]


@pytest.fixture
def bench(kafka: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    name = unique("letters")
    monkeypatch.chdir(tmp_path)
    given = {"KAFKA__BOOTSTRAP_SERVERS": kafka, "REDIS__URL": redis_url, "KAFKA__PARTITIONS": "2"}
    for key, value in given.items():
        monkeypatch.setenv(f"MLMM_{key}", value)
    monkeypatch.setenv("COLUMNS", "240")
    (tmp_path / "mlmm.toml").write_text(f'deployment = "{name}"\ntopic_prefix = "{name}"\n')
    assert main(["topics", "create", "--json"]) == 0
    bench = Bench(load())
    yield bench
    bench.producer.close()
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_topics([topic for topic in admin.list_topics() if topic.startswith(f"{name}.")])
    admin.close()


def rows(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[Any]]:
    capsys.readouterr()
    code = main(["dead-letters", *arguments, "--json"])
    return code, rows(capsys)


def test_a_letter_that_was_sent_twice_after_a_crash_shows_once(bench: Bench, capsys: pytest.CaptureFixture[str]):
    letter = bench.refuse(4)
    bench.put(letter)
    bench.refuse(5)
    bench.refuse(4, epoch=1)  # the topic was made anew: the same place, another record
    code, found = run(capsys, "list")
    assert code == 0
    assert [(row["read_offset"], row["copies"]) for row in found] == [(4, 2), (5, 1), (4, 1)]


def test_list_filters_and_counts(bench: Bench, capsys: pytest.CaptureFixture[str]):
    for offset in range(3):
        bench.refuse(offset, f"[{offset}].time: {offset} is not in the years 2000..2199")
    bench.refuse(7, "ce_type: b'x' is no type of this topic", topic="training", headers=[("ce_type", b"x")])
    assert [row["read_offset"] for row in run(capsys, "list", "--topic", "training")[1]] == [7]
    assert [row["read_offset"] for row in run(capsys, "list", "--reason", "THE YEARS")[1]] == [0, 1, 2]
    assert [row["read_offset"] for row in run(capsys, "list", "--type", "x", "--since", "1h")[1]] == [7]
    assert run(capsys, "list", "--before", "1h")[1] == []
    assert len(run(capsys, "list", "-n", "2")[1]) == 2
    code, groups = run(capsys, "list", "--summary")
    assert code == 0
    assert [(group["count"], group["reason"]) for group in groups] == [
        (3, "[N].time: N is not in the years N"),
        (1, "ce_type: '…' is no type of this topic"),
    ]
    assert main(["dead-letters", "list", "--summary"]) == 0
    assert "[N].time" in capsys.readouterr().out


def test_nothing_of_a_letter_reaches_the_terminal_unescaped(bench: Bench, capsys: pytest.CaptureFixture[str]):
    evil = "\x1b[2J\x1b]0;owned\x07\u202e"
    value = json.dumps({"model": evil}, ensure_ascii=False).encode()
    headers = [("ce_type", evil.encode()), ("content-type", b"application/json"), (evil, evil.encode())]
    bench.refuse(1, f"model: {evil}[bold]x[/bold]", key=evil.encode(), value=value, headers=headers)
    bench.refuse(2, key=b"\xff\xfe", value=b"\x1b[2J\x00\xff", headers=[(evil, b"")])
    (one, two) = run(capsys, "list")[1]
    for arguments in (
        ["list"], ["list", "--summary"], ["list", "--json"], ["list", "--summary", "--json"],
        ["show", one["id"]], ["show", one["id"], "--json"], ["show", two["id"]], ["show", two["id"], "--json"],
    ):  # fmt: skip
        assert main(["dead-letters", *arguments]) == 0
        shown = capsys.readouterr().out
        assert shown.replace("\n", "").isprintable(), f"{arguments}: {shown!r}"
        assert "\u202e" not in shown
    main(["dead-letters", "show", one["id"]])
    assert "[bold]x[/bold]" in capsys.readouterr().out


def test_show_decodes_as_far_as_can_be(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.refuse(1)
    bench.refuse(2, value=b"\x83\xa1", headers=[("ce_type", b"mlmm.labels.v1"), ("content-type", b"?")])
    (one, two) = run(capsys, "list")[1]
    assert main(["dead-letters", "show", f"{one['partition']}:{one['offset']}"]) == 0
    shown = capsys.readouterr().out
    assert "(now: time: missing required field)" in shown
    assert '"prediction_id": "a"' in shown
    assert "tracing: " in shown
    assert main(["dead-letters", "show", two["id"][:8]]) == 0
    assert "83 a1" in capsys.readouterr().out
    assert main(["dead-letters", "show", "9:99"]) == 1
    assert "no dead letter '9:99'" in capsys.readouterr().err


def test_retry_sends_the_original_once(bench: Bench, capsys: pytest.CaptureFixture[str]):
    sequence = ("ce_sequence", encode(0, 1, 0))
    bench.refuse(1, headers=[*HEADERS, sequence])
    bench.refuse(2, key=b"other", value=b"other")
    code, outcomes = run(capsys, "retry", "--all", "--yes")
    assert code == 0
    assert [row["state"] for row in outcomes] == ["sent", "sent"]
    letters = {row["key"]: row["id"] for row in outcomes}
    sent = {record.key: record for record in bench.sent()}
    assert sent[b"fraud"].value == LABEL
    again = [("mlmm_attempt", b"2"), ("mlmm_retry_of", letters["fraud"].encode())]
    assert list(sent[b"fraud"].headers) == [*HEADERS, *again]
    assert sent[b"other"].value == b"other"
    assert run(capsys, "list")[1] == []
    assert {row["retried"] for row in run(capsys, "list", "--all")[1]} == {True}
    for _ in range(2):
        code, outcomes = run(capsys, "retry", letters["fraud"], "--yes")
        assert (code, [row["state"] for row in outcomes]) == (0, ["sent before"])
    assert len(bench.sent()) == 2
    assert main(["dead-letters", "show", letters["fraud"]]) == 0
    assert "retry       sent at" in capsys.readouterr().out
    assert main(["tail", "dead-letters", "--since", "beginning", "--no-follow"]) == 0
    assert f"retry of {letters['fraud']} sent" in capsys.readouterr().out


def test_what_fails_again_is_a_new_letter_that_names_the_attempt(bench: Bench, capsys: pytest.CaptureFixture[str]):
    bench.refuse(1)
    for attempt in (2, 3):
        assert run(capsys, "retry", "--all", "--yes")[0] == 0
        last = max(bench.sent(), key=lambda record: int(header(record.headers, "mlmm_attempt") or b""))
        bench.refuse(10 + attempt, headers=last.headers)
        (row,) = run(capsys, "list")[1]
        assert (row["attempt"], row["read_offset"]) == (attempt, 10 + attempt)
    assert len(bench.sent()) == 2


def test_retry_asks_and_wants_a_choice(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    bench.refuse(1)
    assert main(["dead-letters", "retry"]) == 2
    assert main(["dead-letters", "retry", "--all", "--topic", "serving"]) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody answers
    assert main(["dead-letters", "retry", "--all"]) == 1
    assert bench.sent() == []
    assert main(["dead-letters", "retry", "--topic", "training", "--yes"]) == 0
    assert bench.sent() == []


def test_two_who_retry_at_once_send_once(bench: Bench):
    for offset in range(40):
        bench.refuse(offset, key=f"k{offset}".encode())
    outcomes: list[list[Outcome]] = [[], [], []]
    start = threading.Barrier(3)

    def work(mine: list[Outcome]) -> None:
        read = read_letters(bench.settings)
        start.wait(60)
        mine.extend(retry(bench.settings, read, read.letters))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in outcomes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(record.key for record in bench.sent()) == sorted(f"k{n}".encode() for n in range(40))
    assert sum(outcome.state == "sent" for mine in outcomes for outcome in mine) == 40
    assert all(letter.retried for letter in read_letters(bench.settings).letters)


@pytest.mark.parametrize("arrived", [False, True], ids=["before it sent", "after it sent"])
def test_a_retry_that_died_is_finished_and_nothing_is_sent_twice(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arrived: bool
):
    bench.refuse(1)

    class Died(BaseException):
        """The process is killed."""

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(module._Desk, "_outcome" if arrived else "_send_one", die)
        read = read_letters(bench.settings)
        with pytest.raises(Died):
            list(retry(bench.settings, read, read.letters))
    assert len(bench.sent()) == arrived
    code, outcomes = run(capsys, "retry", "--all", "--yes")
    assert (code, [row["state"] for row in outcomes]) == (1, ["in hand"]), "it may still be at work"
    monkeypatch.setattr(module, "dead_after", lambda _: 0.0)  # as if minutes had passed
    code, outcomes = run(capsys, "retry", "--all", "--yes")
    assert (code, [row["state"] for row in outcomes]) == (0, ["sent before" if arrived else "sent"])
    assert len(bench.sent()) == 1
    assert run(capsys, "retry", "--all", "--yes") == (0, [])


def test_what_was_too_large_for_a_letter_is_read_where_it_came_from(bench: Bench, capsys: pytest.CaptureFixture[str]):
    value = b'{"model":"' + b"x" * VALUE_MOST + b'"}'
    found = bench.producer.send(
        bench.topics.serving, value, key=b"fraud", headers=list(HEADERS), partition=1
    ).get(timeout=30)  # fmt: skip
    bench.refuse(found.offset, value=value)
    bench.refuse(found.offset + 7, value=value)  # what it speaks of is no longer there
    (one, two) = run(capsys, "list")[1]
    assert (one["bytes"], one["left_out"]) == (len(value), ["value"])
    assert main(["dead-letters", "show", one["id"]]) == 0
    assert "left out of the letter: value" in capsys.readouterr().out
    assert main(["dead-letters", "show", two["id"]]) == 1
    assert "no longer has it at 1:" in capsys.readouterr().err
    code, outcomes = run(capsys, "retry", "--all", "--yes")
    assert (code, sorted(row["state"] for row in outcomes)) == (1, ["refused", "sent"])
    assert [record.value for record in bench.sent()] == [value, value]
    assert [row["id"] for row in run(capsys, "list")[1]] == [two["id"]]


def test_a_letter_does_not_go_where_no_worker_reads(bench: Bench, capsys: pytest.CaptureFixture[str]):
    """Nor where a stranger's headers would have it go: an order would be obeyed."""
    bench.refuse(1, headers=[("mlmm_topic", b"commands"), *HEADERS])
    forged = [*HEADERS, ("mlmm_error", b"x"), ("mlmm_topic", b"commands"), ("mlmm_sequence", encode(0, 9, 0))]
    bench.put(outbox.Message("dead-letters", b"fraud", LABEL, forged))
    bench.put(outbox.Message("dead-letters", b"fraud", LABEL, list(HEADERS)))
    code, outcomes = run(capsys, "retry", "--all", "--yes")
    assert code == 1
    assert sorted((row["topic"], row["state"]) for row in outcomes) == [
        ("", "refused"),
        ("commands", "refused"),
        ("serving", "sent"),
    ]
    assert bench.sent("commands") == []
