"""Who writes to the commands topic without the key: no order of theirs is obeyed, and no answer to ours is hidden."""

import math
from collections.abc import Callable, Iterator

import msgspec
import pytest

from mlmm.console.orders import is_ours
from mlmm.events import Acked, Command
from mlmm.runtime.settings import AlertingSettings, Settings
from mlmm.stream_processors.training import _commands
from tests.commands.world import BOTH, MODEL, NEW, OLD, ONLY_OLD, SECOND, STRANGE, Sent, Trainer, World, key_of, written
from tests.stream_processors.training.making import acked, log, said, started, state

ACK_TIMEOUT = 60


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def flipped(sent: Sent) -> Sent:
    return sent._replace(value=sent.value.replace(b'"reason":"', b'"reason":"x'))


FORGERIES: dict[str, Callable[[Command], Sent]] = {
    "unsigned": lambda c: written(c, None),
    "badly signed": lambda c: written(c, signature=f"{NEW}:{'0' * 64}".encode()),
    "by a stranger": lambda c: written(c, STRANGE),
    "changed": lambda c: flipped(written(c)),
    "with another attempt": lambda c: written(msgspec.structs.replace(c, attempt="a0"), None),
    "expired": lambda c: written(msgspec.structs.replace(c, expires_at=c.issued_at + 1), None),
    "of another kind": lambda c: written(msgspec.structs.replace(c, kind="retrain"), None),
    "for the model": lambda c: written(msgspec.structs.replace(c, run_id=None, attempt=None, model=MODEL), None),
    "malformed": lambda c: written(c, value=b"{}"),
}


def doomed(world: World) -> tuple[Trainer, Command]:
    """A run whose NaN made a rule order its stop."""
    trainer = Trainer(world)
    trainer.step(math.nan)
    trainer.deliver()
    world.settle()
    return trainer, world.genuine[-1][0]


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("moment", ["before", "accepted", "completed"])
def test_a_forged_copy_hides_no_answer_and_raises_no_alarm(world: World, forgery: str, moment: str) -> None:
    trainer, command = doomed(world)

    def forge(now: str) -> None:
        if now == moment:
            trainer.take(FORGERIES[forgery](command))
        trainer.deliver()
        world.settle()

    forge("before")
    assert not trainer.stopping
    trainer.read(b"run-1")
    forge("accepted")
    assert world.shown(command.command_id)["state"] == "accepted"
    if moment == "completed":
        trainer.before_saved = lambda: trainer.take(FORGERIES[forgery](command))
    trainer.end()
    forge("end")
    assert world.shown(command.command_id)["state"] == "completed"
    assert not world.alarmed(command.command_id)
    assert [each.unproven for each in trainer.answers].count(True) == 1


def test_a_forged_copy_alone_does_not_end_the_wait_and_its_reason_is_told(world: World) -> None:
    trainer, command = doomed(world)
    trainer.take(written(command, None))
    trainer.take(written(command, STRANGE))
    trainer.deliver()
    world.settle()
    shown = world.shown(command.command_id)
    assert shown["state"] == "issued"
    assert [(each["by"], each["state"]) for each in shown["answers"]] == [("run-1", "unproven")]
    trainer.beat()
    trainer.deliver()
    world.settle()
    for _ in range(8):
        world.pass_time(ACK_TIMEOUT / 4)
        trainer.beat()
        trainer.deliver()
        world.settle()
    (reason,) = set(world.alarmed(command.command_id))
    assert reason == (
        "the command to stop run-1: the trainer did not answer within 60s; what came under its id was refused by "
        f"run-1: not signed | signed with the unknown key '{STRANGE}'"
    )


def test_a_trainer_that_lacks_the_new_key_is_told_of_in_the_incident(world: World) -> None:
    trainer = Trainer(world, keys=ONLY_OLD)
    trainer.step(math.nan)
    trainer.deliver()
    world.settle()
    command = world.genuine[-1][0]
    trainer.read(b"run-1")
    trainer.beat()
    trainer.deliver()
    for _ in range(8):
        world.pass_time(ACK_TIMEOUT / 4)
        trainer.beat()
        trainer.deliver()
        world.settle()
    assert f"signed with the unknown key '{NEW}'" in world.alarmed(command.command_id)[-1]


def test_a_refusal_by_a_trainer_that_does_not_tell_unproven_gives_way_to_the_acceptance() -> None:
    """An older trainer answers a forged copy with a plain ``rejected``."""
    outputs = state().process(
        log((0, started()), (1, acked("c", "rejected")), (2, acked("c", "accepted")), (3, acked("c", "completed")))
    )
    assert [each.state for each in said(outputs)[1:]] == ["rejected", "accepted", "completed"]


@pytest.mark.parametrize("late", ["rejected", "expired"])
def test_nothing_that_was_accepted_is_refused_afterwards(late: str) -> None:
    outputs = state().process(
        log((0, started()), (1, acked("c", "accepted")), (2, acked("c", late)), (3, acked("c", "completed")))
    )
    assert [each.state for each in said(outputs)[1:]] == ["accepted", "completed"]


def test_what_is_unproven_leaves_nothing_in_the_state_of_a_run() -> None:
    made = state()
    made.process(log((0, started()), (1, acked("c", "accepted"))))
    made.changed()
    before = made.cells()
    records = [acked(f"f-{i}", "rejected", unproven=True) for i in range(50)]
    outputs = made.process(log(*((0.5 + i / 100, each) for i, each in enumerate(records))))
    assert [each.unproven for each in said(outputs)] == [True] * 50
    decoded = [_commands.follow({"c": "accepted"}, each) for each in records]
    assert all(decoded)
    assert set(made.cells()) == set(before)
    outputs = made.process(log((2, acked("c", "completed"))))
    assert [each.state for each in said(outputs)] == ["completed"]


def test_closed_commands_are_forgotten_before_one_that_is_obeyed() -> None:
    known: dict[str, str] = {}
    _commands.follow(known, acked("c", "accepted"))
    for i in range(100):
        _commands.follow(known, acked(f"r-{i}", "rejected"))
    assert _commands.close(known, void=False) == ["c"]
    assert len(known) == 16


def test_notes_of_many_runs_give_way_to_an_answer(world: World) -> None:
    """A hundred runs say that they refused something: the one that obeys is still heard."""
    trainer, command = doomed(world)
    for i in range(120):
        world.say(acked(command.command_id, "rejected", run=f"other-{i}", unproven=True))
    world.settle()
    trainer.read(b"run-1")
    trainer.end()
    trainer.deliver()
    world.settle()
    assert world.shown(command.command_id)["state"] == "completed"


def test_a_flood_of_forgeries_pushes_no_genuine_order_out_of_memory(world: World) -> None:
    trainer, command = doomed(world)
    trainer.read(b"run-1")
    for i in range(500):
        trainer.take(written(msgspec.structs.replace(command, command_id=f"f-{i}"), None))
    trainer.take(world.commands[b"run-1"][0])
    own = [each.state for each in trainer.answers if each.command_id == command.command_id]
    assert own == ["accepted", "accepted"]
    assert len(trainer.answers) <= 102


def test_a_record_that_is_replayed_for_ever_is_answered_a_hundred_times_at_most(world: World) -> None:
    trainer, _ = doomed(world)
    (sent,) = trainer.read(b"run-1")
    for _ in range(1000):
        trainer.take(sent)
    assert len(trainer.answers) == 101
    assert {each.state for each in trainer.answers} == {"accepted"}


def test_genuine_orders_without_end_do_not_make_the_obeyed_one_look_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlmm.producers.commands._MOST", 5)
    trainer, command = doomed(world)
    (sent,) = trainer.read(b"run-1")
    for i in range(10):
        trainer.take(written(msgspec.structs.replace(command, command_id=f"g-{i}")))
    trainer.take(sent)
    assert {each.state for each in trainer.answers if each.command_id == command.command_id} == {"accepted"}


HUGE = "x" * 100_000


@pytest.mark.parametrize(
    "sent",
    [
        lambda c: written(c, signature=(HUGE + ":00").encode()),
        lambda c: written(c, signature=b"\xff" * 100_000),
        lambda c: written(msgspec.structs.replace(c, command_id=HUGE)),
        lambda c: written(msgspec.structs.replace(c, attempt="a" * 500, reason=HUGE), None),
        lambda c: written(msgspec.structs.replace(c, command_id="other", kind="retrain", reason=HUGE, issued_by=HUGE)),
        lambda c: written(msgspec.structs.replace(c, expires_at=1 << 62)),
        lambda c: written(msgspec.structs.replace(c, issued_at=-1)),
        lambda c: written(c, value=b"[" * 200_000),
        lambda c: written(c, value=b'{"command_id":"\\ud800"}'),
        lambda c: written(c, value=b'{"expires_at":' + b"9" * 5000 + b"}"),
        lambda c: written(c, value=b"\xff\xfe"),
        lambda c: written(c, value=b""),
        lambda c: written(c, value=b"null"),
        lambda c: written(c, value=b"[]"),
        lambda c: written(c, id_="\n\x1b[2J"),
    ],
)
def test_hostile_records_cost_an_answer_of_bounded_size_at_most(world: World, sent: Callable[[Command], Sent]) -> None:
    trainer, command = doomed(world)
    trainer.take(sent(command))
    assert len(trainer.answers) <= 1
    assert all(len(msgspec.json.encode(each)) < 5000 for each in trainer.answers)
    trainer.deliver()
    world.settle()
    trainer.read(b"run-1")
    assert trainer.stopping


@pytest.mark.parametrize(
    ("keys", "reason", "ours"),
    [
        ((), "not signed", True),
        ((), f"signed with the unknown key '{NEW}'", False),
        (BOTH, "not signed", False),
        (BOTH, f"signed with the unknown key '{NEW}'", True),
        (BOTH, f"signed with the unknown key '{OLD}'", False),
        (BOTH, f"signature does not match key '{NEW}'", False),
    ],
)
def test_who_gives_an_order_by_hand_knows_when_it_was_theirs_that_was_refused(
    keys: tuple, reason: str, ours: bool
) -> None:
    settings = Settings(alerting=AlertingSettings(keys=keys))
    answer = Acked(command_id="c", state="rejected", time=SECOND, target="r", reason=reason, unproven=True)
    assert is_ours(settings, answer) is ours


def test_a_key_that_is_active_has_no_end() -> None:
    from mlmm.runtime.errors import SettingsError

    with pytest.raises(SettingsError, match="accepted_until: the active key has no end"):
        key_of(NEW, active=True, accepted_until="2026-12-01T00:00:00Z")
    with pytest.raises(SettingsError, match=r"accepted_until: '2026-12-01T00:00:00'"):
        key_of(NEW, accepted_until="2026-12-01T00:00:00")
