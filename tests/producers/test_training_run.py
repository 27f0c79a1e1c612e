"""A run: what it says, checkpoints, resuming, stopping, and that it never breaks training."""

import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlmm.events import (
    Acked,
    Checkpoint,
    Command,
    Heartbeat,
    MalformedEvent,
    Metrics,
    RunEnded,
    RunStarted,
    encode_json,
    types,
)
from mlmm.producers import RunStopped, TrainingRun, falling, falling_strict, not_finite, plateau
from mlmm.producers.checkpoints import Checkpoints
from mlmm.producers.intake import Intake
from mlmm.producers.run_stack import RunStack
from mlmm.producers.voice import now


class Trainer:
    """Trains a number: one up a step."""

    def __init__(self) -> None:
        self.weight = 0
        self.loaded: list[Path] = []

    def save(self, folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weight.json").write_text(json.dumps(self.weight))
        (folder / "note.txt").write_text("x")

    def load(self, folder: Path) -> None:
        self.loaded.append(folder)
        self.weight = json.loads((folder / "deep" / "weight.json").read_text())

    def run(self, path: Path, **keywords: Any) -> TrainingRun:
        return TrainingRun("churn", **{
            "run_id": "run-1", "save": self.save, "load": self.load, "checkpoint_dir": path, "mode": "memory",
            "on_error": "raise", **keywords,
        })  # fmt: skip

    def train(self, run: TrainingRun, steps: int, *, until: int | None = None) -> list[int]:
        done = []
        for step in run.steps(steps):
            if step == until:
                raise RuntimeError("power cut")
            self.weight += 1
            run.log({"loss": 1.0 / self.weight}, step=step)
            done.append(step)
        return done


def stop(run: TrainingRun, **fields: Any) -> None:
    """Deliver a stop command as the reader would."""
    values = {
        "command_id": "c-1",
        "kind": "stop",
        "issued_at": now() + 1,
        "expires_at": now() + 10**9,
        "issued_by": "x",
    }
    command = Command(**{**values, "run_id": run.run_id, "reason": "hopeless", **fields})
    assert run._orders is not None
    key = (command.run_id or command.model or "").encode()
    run._orders.receive(
        key, encode_json(command), [("ce_type", b"mlmm.command.v1"), ("ce_id", command.command_id.encode())]
    )


def of(run: TrainingRun, kind: type) -> list[Any]:
    return [event for event in run.events if isinstance(event, kind)]


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


def test_a_run_says_what_it_does_in_order(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path, checkpoint_every=2, model="fraud", params={"lr": 1e-3}, total_steps=4) as run:
        trainer.train(run, 4)
    assert [type(event) for event in run.events] == [
        RunStarted, Metrics, Metrics, Checkpoint, Metrics, Metrics, Checkpoint, RunEnded,
    ]  # fmt: skip
    started, ended = run.events[0], run.events[-1]
    assert {(event.run_id, event.attempt) for event in run.events} == {("run-1", run.attempt)}
    assert (started.experiment, started.model, started.params, started.total_steps) == (
        "churn",
        "fraud",
        {"lr": 0.001},
        4,
    )
    assert (ended.status, ended.last_step, ended.resumable_from) == ("completed", 3, 3)
    assert [(event.step, event.values) for event in of(run, Metrics)] == [(i, {"loss": 1 / (i + 1)}) for i in range(4)]
    assert run.completed
    assert run.outcome is not None
    run.outcome.raise_if_stopped()


def test_a_run_id_begins_with_the_experiment_and_is_unique() -> None:
    runs = [TrainingRun("churn", mode="off") for _ in range(50)]
    assert len({run.run_id for run in runs}) == 50
    assert all(run.run_id.startswith("churn-") for run in runs)


def test_heartbeats_keep_to_the_bounds_and_the_end_of_a_run_does_not() -> None:
    intake = Intake(max_events=2, max_bytes=1 << 20, wake=lambda: None)
    stack = RunStack(intake, "run-1", "a1")
    for _ in range(5):
        stack.say(Heartbeat(run_id="run-1", attempt="a1", time=now()))
    stack.say(RunEnded(run_id="run-1", attempt="a1", time=now(), status="completed"))
    assert intake.events == 3
    assert intake.dropped == {"queue_full": 3}


def test_the_same_run_id_goes_on_after_the_last_good_checkpoint(tmp_path: Path, trainer: Trainer) -> None:
    with pytest.raises(RuntimeError, match="power cut"), trainer.run(tmp_path, checkpoint_every=3) as first:
        trainer.train(first, 10, until=8)
    assert of(first, RunEnded)[0].status == "failed"
    assert of(first, RunEnded)[0].error == "RuntimeError: power cut"
    assert of(first, RunEnded)[0].resumable_from == 5

    with trainer.run(tmp_path, checkpoint_every=3) as second:
        assert trainer.weight == 6
        assert trainer.train(second, 10) == [6, 7, 8, 9]
    assert of(second, RunStarted)[0].resumed_from == 5
    assert second.attempt > first.attempt
    assert trainer.weight == 10


def test_another_run_id_begins_at_the_beginning(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path, checkpoint_every=1) as run:
        trainer.train(run, 3)
    with trainer.run(tmp_path, run_id="run-2", checkpoint_every=1) as run:
        assert run.first_step == 0


def damage_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


def flip_a_bit(path: Path) -> None:
    (path / "deep" / "weight.json").write_text("7")


def cut_a_file(path: Path) -> None:
    (path / "note.txt").write_text("")


def lose_a_file(path: Path) -> None:
    (path / "note.txt").unlink()


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [damage_manifest, flip_a_bit, cut_a_file, lose_a_file, lose_the_manifest])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, trainer: Trainer, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with trainer.run(tmp_path, checkpoint_every=2) as run:
        trainer.train(run, 6)
    damage(run.outcome.checkpoint)
    with trainer.run(tmp_path) as run:
        assert run.first_step == 4
    assert "step-000000000005" in caplog.text
    assert trainer.weight == 4


def test_a_checkpoint_that_does_not_load_falls_back_and_if_none_loads_it_is_told(
    tmp_path: Path, trainer: Trainer
) -> None:
    with trainer.run(tmp_path, checkpoint_every=2) as run:
        trainer.train(run, 6)

    def picky(folder: Path) -> None:
        if folder.name.endswith("5"):
            raise ValueError("of another version")
        trainer.load(folder)

    with trainer.run(tmp_path, load=picky) as run:
        assert run.first_step == 4

    def broken(_folder: Path) -> None:
        raise ValueError("of another version")

    with pytest.raises(ValueError, match="of another version"):
        trainer.run(tmp_path, load=broken).start()


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path, checkpoint_every=1, keep=2) as run:
        trainer.train(run, 5)
    assert sorted(path.name for path in (tmp_path / "run-1").iterdir()) == ["step-000000000003", "step-000000000004"]


def test_what_was_just_saved_is_kept_beside_those_of_later_steps(tmp_path: Path, trainer: Trainer) -> None:
    """A run that begins anew under its old id, or whose newest checkpoints are damaged, saves steps that are lower."""
    with trainer.run(tmp_path, checkpoint_every=1, keep=2) as run:
        trainer.train(run, 5)
    with trainer.run(tmp_path, load=None, keep=2) as run:
        assert run.checkpoint(0).is_dir()


def test_a_save_that_fails_leaves_the_checkpoint_before_and_no_rubbish(tmp_path: Path, trainer: Trainer) -> None:
    checkpoints = Checkpoints(tmp_path, run_id="r", attempt="a")
    good = checkpoints.save(1, trainer.save)

    def fails(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    for step in (1, 2):
        with pytest.raises(OSError, match="disk full"):
            checkpoints.save(step, fails)
    assert [saved.step for saved in checkpoints.good()] == [1]
    assert next(iter(checkpoints.good())) == good
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["step-000000000001"]


def test_what_a_killed_save_left_is_swept_at_the_next_start(tmp_path: Path, trainer: Trainer) -> None:
    rubbish = tmp_path / "run-1" / ".writing-123"
    rubbish.mkdir(parents=True)
    (rubbish / "half").write_text("x")
    with trainer.run(tmp_path) as run:
        assert run.first_step == 0
    assert not rubbish.exists()


def test_a_step_may_be_saved_again(tmp_path: Path, trainer: Trainer) -> None:
    checkpoints = Checkpoints(tmp_path, run_id="r", attempt="a")
    first = checkpoints.save(1, trainer.save)
    trainer.weight = 9
    second = checkpoints.save(1, trainer.save)
    assert first.sha256 != second.sha256
    assert list(checkpoints.good()) == [second]


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "..", ".", "a\\b", "ü:*?"])
def test_no_run_id_leaves_the_folder(tmp_path: Path, trainer: Trainer, run_id: str) -> None:
    with trainer.run(tmp_path / "checkpoints", run_id=run_id, checkpoint_every=1) as run:
        trainer.train(run, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert folder.parent.resolve() == (tmp_path / "checkpoints").resolve()
    assert run.outcome.checkpoint.is_dir()


def test_a_failing_save_in_the_loop_does_not_end_the_training(
    tmp_path: Path, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_folder: Path) -> None:
        raise OSError("disk full")

    with trainer.run(tmp_path, save=fails, checkpoint_every=1, on_error="report") as run:
        assert trainer.train(run, 3) == [0, 1, 2]
    assert run.completed
    assert "disk full" in caplog.text


# --- stopping ------------------------------------------------------------------------------------------------------


def test_a_stop_order_saves_a_checkpoint_and_is_answered(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        for step in run.steps(100):
            trainer.weight += 1
            run.log({"loss": 1.0}, step=step)
            if step == 4:
                stop(run)
    assert trainer.weight == 5
    assert not run.completed
    assert [type(event) for event in run.events[-4:]] == [Acked, Checkpoint, Acked, RunEnded]
    accepted, completed = of(run, Acked)
    ended, saved = of(run, RunEnded)[0], of(run, Checkpoint)[0]
    assert (accepted.state, completed.state) == ("accepted", "completed")
    assert (completed.checkpoint, completed.step) == (saved.uri, 4)
    assert (ended.status, ended.last_step, ended.resumable_from) == ("stopped", 4, 4)
    assert (run.outcome.status, run.outcome.reason, run.outcome.command_id) == ("stopped", "hopeless", "c-1")
    assert run.outcome.checkpoint.as_uri() == saved.uri
    with pytest.raises(RunStopped, match="hopeless"):
        run.outcome.raise_if_stopped()


def test_the_next_attempt_is_not_stopped_by_the_old_order(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as first:
        issued = now() + 1
        for step in first.steps(100):
            if step == 2:
                stop(first, issued_at=issued)
    with trainer.run(tmp_path) as second:
        stop(second, issued_at=issued)
        stop(second, command_id="c-2", attempt=first.attempt)
        assert not second.should_stop
        assert trainer.train(second, 5) == [3, 4]
    assert second.completed
    assert [each.state for each in of(second, Acked)] == ["rejected", "rejected"]


def test_an_order_for_the_model_reaches_the_run_that_declared_it(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path, model="fraud") as run:
        stop(run, run_id=None, model="fraud")
        assert run.should_stop
    assert of(run, Acked)[0].target == "run-1"


def test_an_order_in_the_last_step_counts_though_nothing_is_left_to_do(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        for step in run.steps(3):
            if step == 2:
                stop(run)
    assert run.outcome.status == "stopped"
    assert not run.completed


def test_a_stopped_run_that_fails_on_its_way_failed(tmp_path: Path, trainer: Trainer) -> None:
    run = trainer.run(tmp_path).start()
    stop(run)
    run.__exit__(RuntimeError, RuntimeError("broken"), None)
    assert run.outcome.status == "failed"
    assert [each.state for each in of(run, Acked)] == ["accepted"]


def test_a_stop_during_a_checkpoint_waits_for_it(tmp_path: Path, trainer: Trainer) -> None:
    run = trainer.run(tmp_path, checkpoint_every=2)
    plain = trainer.save

    def save(folder: Path) -> None:
        if not run.should_stop:
            stop(run)
        plain(folder)

    run._save = save
    with run:
        trainer.train(run, 100)
    assert [event.step for event in of(run, Checkpoint)] == [1]
    assert (run.outcome.status, run.outcome.step) == ("stopped", 1)


def test_an_order_after_the_end_is_refused(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        pass
    stop(run)
    assert (of(run, Acked)[0].state, of(run, Acked)[0].reason) == ("rejected", "the run has ended")
    assert run.completed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_after_the_step_with_a_checkpoint(tmp_path: Path, trainer: Trainer, number: int) -> None:
    before = signal.getsignal(number)
    with trainer.run(tmp_path) as run:
        for step in run.steps(100):
            if step == 3:
                os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    assert (run.outcome.status, run.outcome.reason, run.outcome.step) == (
        "interrupted", signal.Signals(number).name, 3,
    )  # fmt: skip
    assert of(run, RunEnded)[0].resumable_from == 3
    with trainer.run(tmp_path) as run:
        assert run.first_step == 4


def test_a_second_ctrl_c_breaks_off_at_once_and_saves_nothing(tmp_path: Path, trainer: Trainer) -> None:
    run = trainer.run(tmp_path)

    def train() -> None:
        with run:
            for _ in run.steps(100):
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert run.outcome.status == "interrupted"
    assert not of(run, Checkpoint)


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path: Path, trainer: Trainer) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    def work() -> None:
        with trainer.run(tmp_path) as run:
            seen.append(signal.getsignal(signal.SIGTERM))
            trainer.train(run, 2)
        seen.append(run.outcome.status)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, "completed"]


def test_notebooks_start_and_end_by_hand(tmp_path: Path, trainer: Trainer) -> None:
    run = trainer.run(tmp_path).start()
    assert run.start() is run
    run.log({"loss": 1.0}, step=7)
    assert run.end("failed", reason="looked wrong").status == "failed"
    assert run.end().status == "failed"
    assert [type(event) for event in run.events] == [RunStarted, Metrics, RunEnded]


def test_without_steps_the_highest_step_logged_counts(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        run.log({"loss": 1.0}, step=11)
        stop(run)
    assert of(run, Checkpoint)[0].step == 11


def test_what_is_logged_before_the_steps_does_not_skip_one(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        run.log({"loss": 1.0}, step=0, phase="validation")
        assert trainer.train(run, 2) == [0, 1]


# --- figures -------------------------------------------------------------------------------------------------------


def test_figures_of_every_kind_are_taken(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        run.log(
            {"a": 1, "b": np.float32(0.5), "c": math.nan, "d": math.inf, "e": True, "f": np.array(2)}, step=np.int64(3)
        )
    (event,) = of(run, Metrics)
    assert event.step == 3
    assert math.isnan(event.values.pop("c"))
    assert event.values == {"a": 1.0, "b": 0.5, "d": math.inf, "e": 1.0, "f": 2.0}


def test_metrics_of_equal_names_share_a_block_and_keep_their_order(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path) as run:
        for step in range(10):
            run.log({"loss": step}, step=step)
            if step % 5 == 4:
                run.log({"val/loss": step}, step=step, phase="validation")
    assert run.stats().accepted == 14
    said = [(event.step, event.phase) for event in of(run, Metrics)]
    assert said == [(i, "train") for i in range(5)] + [(4, "validation")] + [(i, "train") for i in range(5, 10)] + [
        (9, "validation")
    ]
    assert run.stats().records == 6


@pytest.mark.parametrize(
    ("data", "keywords", "field"),
    [({"a": "x"}, {}, r"data\.a"), ({"a": None}, {}, r"data\.a"), ([1], {}, "data"), ({1: 1.0}, {}, "data name"),
     ({"a": 1.0}, {"step": -1}, "step"), ({"a": 1.0}, {"step": 1.5}, "step"), ({"a": 1.0}, {"step": True}, "step"),
     ({"a": 1.0}, {"phase": 3}, "phase")],
)  # fmt: skip
def test_wrong_figures_are_refused_by_name_and_never_raised(
    tmp_path: Path, trainer: Trainer, data: Any, keywords: dict[str, Any], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = {"step": 1, **keywords}
    with trainer.run(tmp_path) as run, pytest.raises(MalformedEvent, match=field):
        run.log(data, **arguments)
    with trainer.run(tmp_path, on_error="report") as run:
        run.log(data, **arguments)
        run.log(data, **arguments)
    assert run.completed
    assert run.stats().refused == 2
    assert "TrainingRun('churn')" in caplog.text


def test_params_of_every_kind_are_told_as_they_print(tmp_path: Path, trainer: Trainer) -> None:
    params = {"lr": 1e-3, "path": Path("/x"), "layers": (1, 2), "nan": math.nan, 3: {4: 5}, "odd": "\ud800"}
    with trainer.run(tmp_path, params=params) as run:
        pass
    got = of(run, RunStarted)[0].params
    assert (got["lr"], got["path"], got["layers"], got["3"]) == (0.001, "/x", [1, 2], {"4": 5})


def test_params_without_end_are_left_out(tmp_path: Path, trainer: Trainer, caplog: pytest.LogCaptureFixture) -> None:
    with trainer.run(tmp_path, params={"text": "x" * 300_000}) as run:
        pass
    assert of(run, RunStarted)[0].params == {}
    assert "left out" in caplog.text


# --- declarations --------------------------------------------------------------------------------------------------


def test_triggers_travel_with_the_start(tmp_path: Path, trainer: Trainer) -> None:
    triggers = [
        falling("val/accuracy"), falling_strict("loss", count=3, mode="min"), not_finite(),
        plateau("val/loss", evaluations=5, min_delta=0.01, mode="min"),
    ]  # fmt: skip
    with trainer.run(tmp_path, triggers=triggers) as run:
        pass
    assert of(run, RunStarted)[0].triggers == (
        types.Falling(metric="val/accuracy"),
        types.FallingStrict(metric="loss", count=3, mode="min"),
        types.NotFinite(),
        types.Plateau(metric="val/loss", evaluations=5, min_delta=0.01, mode="min"),
    )


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: falling(""), "metric"), (lambda: falling("x", alpha=0), "alpha"),
        (lambda: falling("x", drop=-1), "drop"), (lambda: falling("x", drop=math.nan), "drop"),
        (lambda: falling("x", patience=0), "patience"),
        (lambda: falling("x", mode="up"), "mode"), (lambda: falling_strict("x", count=1.5), "count"),  # type: ignore[arg-type]
        (lambda: plateau("x", evaluations=True), "evaluations"), (lambda: plateau("x", min_delta=-1), "min_delta"),
    ],
)  # fmt: skip
def test_a_trigger_that_can_not_be_is_refused(make: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make()


@pytest.mark.parametrize(
    "keywords",
    [
        {"experiment": 3}, {"run_id": ""}, {"run_id": "x" * 600}, {"model": "a#b"}, {"triggers": ["falling"]},
        {"save": print}, {"checkpoint_dir": "x"}, {"checkpoint_every": 3}, {"keep": 0}, {"heartbeat_every": 0},
    ],
)  # fmt: skip
def test_a_run_that_can_not_be_is_refused(keywords: dict[str, Any]) -> None:
    with pytest.raises((MalformedEvent, ValueError)):
        TrainingRun(**{"experiment": "churn", "mode": "memory", **keywords})


def test_off_says_nothing_and_still_saves(tmp_path: Path, trainer: Trainer) -> None:
    with trainer.run(tmp_path, mode="off", checkpoint_every=1) as run:
        assert trainer.train(run, 2) == [0, 1]
    assert run.completed
    assert run.events == []
    assert run.outcome.checkpoint.is_dir()
