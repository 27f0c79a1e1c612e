"""The table of docs/commands.md, row by row: what the trainer does, and what it answers."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlmm.events import Command, encode_json, new_id
from mlmm.producers.commands import _UNPROVEN
from tests.commands.world import (
    BOTH,
    MODEL,
    NEW,
    OLD,
    ONLY_OLD,
    RETIREMENT,
    SECOND,
    STRANGE,
    Sent,
    Trainer,
    World,
    written,
)

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
STATES = ("accepted", "completed", "rejected", "expired")


def rows() -> dict[str, list[str]]:
    """Case → obeyed, answer, reason, seen in."""
    section = PAGE.read_text().split("## Every case")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[2:]}


ROWS = rows()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World()
    yield made
    made.close()


def stop(trainer: Trainer, **fields: Any) -> Command:
    """An order by a person for this run: issued now, for an hour."""
    world = trainer.world
    world.now += 1000
    values = {
        "command_id": new_id(), "kind": "stop", "run_id": trainer.run.run_id, "reason": "because of the data",
        "issued_by": "t", "issued_at": world.now, "expires_at": world.now + 3600 * SECOND,
    }  # fmt: skip
    return Command(**{**values, **fields})


def of_model(trainer: Trainer, **fields: Any) -> Command:
    return stop(trainer, **{"run_id": None, "model": MODEL, **fields})


CASES: dict[str, Callable[[World], Trainer]] = {}


def case(name: str) -> Callable[[Callable[[World], Trainer]], Callable[[World], Trainer]]:
    def keep(function: Callable[[World], Trainer]) -> Callable[[World], Trainer]:
        CASES[name] = function
        return function

    return keep


def trainer_of(world: World, **keywords: Any) -> Trainer:
    trainer = Trainer(world, **keywords)
    trainer.step()
    return trainer


def given(world: World, make: Callable[[Trainer], Sent], **keywords: Any) -> Trainer:
    """A trainer that took one record, and ended."""
    trainer = trainer_of(world, **keywords)
    trainer.take(make(trainer))
    trainer.end()
    return trainer


SIMPLE: dict[str, Callable[[Trainer], Sent]] = {
    "for this attempt": lambda t: written(stop(t, attempt=t.attempt, issued_at=t.began - SECOND)),
    "for this run, issued after the attempt began": lambda t: written(stop(t)),
    "for the model, issued after the attempt began": lambda t: written(of_model(t)),
    "for the model, issued before the attempt began": lambda t: written(of_model(t, issued_at=t.began)),
    "for the model, no stop": lambda t: written(of_model(t, kind="promote")),
    "for another run or model": lambda t: written(stop(t, run_id="run-2")),
    "for an older attempt": lambda t: written(stop(t, attempt="a0")),
    "for this run, issued before the attempt began": lambda t: written(stop(t, issued_at=t.began)),
    "for this run, issued more than 5 minutes from now": lambda t: written(
        stop(t, issued_at=t.world.now + 301 * SECOND)
    ),
    "expired": lambda t: written(stop(t, expires_at=t.world.now)),
    "not a stop": lambda t: written(stop(t, kind="retrain")),
    "not signed, a key is configured": lambda t: written(stop(t), None),
    "badly signed": lambda t: written(stop(t), signature=f"{NEW}:{'0' * 64}".encode()),
    "signed with an older key that is accepted": lambda t: written(stop(t), OLD),
    "a genuine order under another record key": lambda t: written(stop(t), key=b"run-2"),
    "a genuine order under another ce_id": lambda t: written(stop(t), id_="another"),
    "malformed, under our key": lambda t: written(stop(t), value=b'{"command_id": "c", "kind": "stop"'),
    "larger than 256 KiB": lambda t: written(stop(t, evidence={"x": "x" * 300_000})),
    "several commands in one record": lambda t: written(stop(t), value=encode_json([stop(t), stop(t)])),
}
for name_, make_ in SIMPLE.items():
    CASES[name_] = lambda world, make=make_: given(world, make)


@case("for a run that is over")
def _over(world: World) -> Trainer:
    trainer = trainer_of(world)
    trainer.end()
    assert len(trainer.run.events) == 3  # started, metrics, ended
    return trainer


@case("obeyed by an earlier attempt, but issued after this one began by its clock")
def _obeyed_before(world: World) -> Trainer:
    first = trainer_of(world)
    sent = written(of_model(first, issued_at=world.now + 200 * SECOND))
    first.take(sent)
    first.end()
    assert first.run.outcome.status == "stopped"
    trainer = trainer_of(world)
    trainer.take(sent)
    trainer.end()
    return trainer


@case("the same record twice")
def _twice(world: World) -> Trainer:
    trainer = trainer_of(world)
    sent = written(stop(trainer))
    trainer.take(sent)
    trainer.take(sent)
    first, again = trainer.answers
    assert first == again
    trainer.end()
    return trainer


@case("another order while one is obeyed")
def _another(world: World) -> Trainer:
    trainer = trainer_of(world)
    first, second = stop(trainer), stop(trainer)
    trainer.take(written(first))
    trainer.take(written(second))
    trainer.end()
    assert trainer.run.outcome.command_id == first.command_id
    assert [each.command_id for each in trainer.answers if each.state == "rejected"] == [second.command_id]
    return trainer


@case("with the last step")
def _last_step(world: World) -> Trainer:
    trainer = Trainer(world)
    for _ in trainer.run.steps(3):
        if trainer.run.first_step == 2:
            trainer.take(written(stop(trainer)))
    trainer.end()
    return trainer


@case("after the last step, before the end is said")
def _after_the_last_step(world: World) -> Trainer:
    """The run was interrupted, and writes its last checkpoint."""
    trainer = trainer_of(world)
    trainer.run._orders.caught("SIGTERM")
    trainer.before_saved = lambda: trainer.take(written(stop(trainer)))
    trainer.end()
    assert trainer.run.outcome.status == "interrupted"
    return trainer


@case("while a checkpoint is written")
def _while_saving(world: World) -> Trainer:
    trainer = trainer_of(world)
    saves = []

    def during() -> None:
        saves.append(1)
        trainer.take(written(stop(trainer)))

    trainer.before_saved = during
    trainer.run.checkpoint(trainer.run.last_step)
    assert trainer.stopping
    trainer.end()
    assert len(saves) == 1
    assert trainer.answers[-1].checkpoint == trainer.run._saved.uri
    return trainer


@case("and the checkpoint can't be written")
def _unsaved(world: World) -> Trainer:
    trainer = trainer_of(world)
    before = trainer.run.checkpoint(trainer.run.last_step)
    trainer.step()
    trainer.take(written(stop(trainer)))

    def fails() -> None:
        raise OSError("disk full")

    trainer.before_saved = fails
    trainer.end()
    assert "disk full" in trainer.answers[-1].reason
    assert trainer.answers[-1].checkpoint == before.as_uri()
    return trainer


@case("and the run fails before it ends")
def _fails(world: World) -> Trainer:
    trainer = trainer_of(world)
    trainer.take(written(stop(trainer)))
    trainer.end("failed")
    assert trainer.run.outcome.status == "failed"
    return trainer


@case("and the trainer dies before it answers")
def _dies(world: World) -> Trainer:
    trainer = trainer_of(world)
    world.put(written(stop(trainer)))
    trainer.crash()
    return trainer


@case("and the trainer dies after it accepted")
def _dies_stopping(world: World) -> Trainer:
    trainer = trainer_of(world)
    trainer.take(written(stop(trainer)))
    trainer.crash()
    return trainer


@case("signed with a key that the trainer lacks")
def _lacks(world: World) -> Trainer:
    return given(world, lambda t: written(stop(t)), keys=ONLY_OLD)


@case("signed with a retired key")
def _retired(world: World) -> Trainer:
    world.now = RETIREMENT
    trainer = given(world, lambda t: written(stop(t), OLD))
    assert trainer.answers[0].reason.endswith(f"{OLD!r}, which was accepted until 2027-01-15T10:00:00.000000Z")
    return trainer


@case("signed, no key is configured")
def _no_key(world: World) -> Trainer:
    return given(world, lambda t: written(stop(t), STRANGE), keys=())


@case("a forged copy before the genuine order")
def _forged_before(world: World) -> Trainer:
    trainer = trainer_of(world)
    order = stop(trainer)
    trainer.take(written(order, None))
    trainer.take(written(order))
    trainer.end()
    return trainer


@case("a forged copy after the genuine order")
def _forged_after(world: World) -> Trainer:
    trainer = trainer_of(world)
    order = stop(trainer)
    trainer.take(written(order))
    trainer.take(written(order, None))
    trainer.end()
    return trainer


@case("malformed, under another key or without an id")
def _nobodys(world: World) -> Trainer:
    trainer = trainer_of(world)
    trainer.take(written(stop(trainer), value=b"{", key=b"run-2"))
    trainer.take(written(stop(trainer), value=b"{", id_=""))
    trainer.take(written(stop(trainer), value=b"{", id_="x" * 513))
    trainer.end()
    return trainer


@case("forgeries after the hundredth")
def _flood(world: World) -> Trainer:
    trainer = trainer_of(world)
    for _ in range(_UNPROVEN):
        trainer.take(written(stop(trainer), None))
    assert len(trainer.answers) == _UNPROVEN
    before = len(trainer.run.events)
    for _ in range(10):
        trainer.take(written(stop(trainer), None))
    trainer.end()
    assert len(trainer.run.events) == before + 1
    trainer.run.events.clear()
    return trainer


def test_every_row_of_the_page_has_its_case_and_every_case_its_row() -> None:
    assert set(CASES) == set(ROWS)


@pytest.mark.parametrize("name", CASES)
def test_case(world: World, name: str) -> None:
    """What the page says of a case is what happens."""
    obeyed, answer, reason, _ = ROWS[name]
    trainer = CASES[name](world)
    answers = [] if name == "forgeries after the hundredth" else trainer.answers
    assert {each.state for each in answers} == {state for state in STATES if f"`{state}`" in answer}
    assert all(each.reason for each in answers)
    assert any(each.unproven for each in answers) == ("unproven" in answer)
    assert all(each.state == "rejected" for each in answers if each.unproven)
    expected = "because of the data" if reason == "the command's" else reason
    for part in re.split("…", expected):
        assert not expected or any(part.strip() in each.reason for each in answers), (part, answers)
    stopped = trainer.run.outcome is not None and trainer.run.outcome.status == "stopped"
    assert (stopped, trainer.stopping) == {
        "yes": (True, True),
        "once": (True, True),
        "the first": (True, True),
        "the genuine one": (True, True),
        "stopping": (False, True),
        "no": (False, name == "after the last step, before the end is said"),  # a signal asked it to
    }[obeyed]


def test_what_the_page_shows_as_settings_are_settings(tmp_path: Path) -> None:
    from mlmm.runtime.settings import load

    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name in ("mlmm-2026-12", "mlmm-2026-06"):
        (tmp_path / name).write_text(f"the secret of {name}\n")
    config = tmp_path / "mlmm.toml"
    config.write_text(block.replace("/run/secrets/", ""))
    alerting = load(config, {}).alerting
    assert alerting.signing_key.id == NEW
    assert alerting.verification_keys == {
        NEW: b"the secret of mlmm-2026-12", OLD: b"the secret of mlmm-2026-06",
    }  # fmt: skip
    assert alerting.accepted_until == {OLD: 1_797_292_800_000_000}
    assert {key.id for key in BOTH} == {NEW, OLD}
