"""Checkpoints on disk, whatever instant a process ends at, and one that is written while the run is told to stop."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from mlmm.events import Acked, Checkpoint, Command, RunEnded, encode_json
from mlmm.producers import TrainingRun
from mlmm.producers.checkpoints import Checkpoints
from mlmm.producers.voice import now
from tests.waiting import wait_until


class Weights:
    """What is saved: a number in a folder."""

    value = 0

    def save(self, folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text(str(self.value))


def content(path: Path) -> str:
    return (path / "deep" / "weights").read_text()


@pytest.fixture
def weights() -> Weights:
    return Weights()


def test_a_step_that_is_saved_again_gets_a_new_name_and_the_old_one_goes(tmp_path: Path, weights: Weights) -> None:
    checkpoints = Checkpoints(tmp_path, run_id="r", attempt="a")
    for value in range(3):
        weights.value = value
        saved = checkpoints.save(1, weights.save)
        assert list(checkpoints.good()) == [saved]
        assert content(saved.path) == str(value)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000000000001.3"]
    assert checkpoints.save(2, weights.save).path.name == "step-000000000002"


class PowerCutError(Exception):
    """Stands for the end of the process at a call that changes the disk."""


@pytest.mark.parametrize("step", [1, 2], ids=["the same step again", "the next step"])
def test_a_crash_at_any_instant_leaves_a_good_checkpoint(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Where only one is kept: cut before each call that changes the disk, and look there, as a new attempt would."""
    checkpoints = Checkpoints(tmp_path, run_id="r", attempt="a", keep=1)
    calls: list[str] = []
    cut_at, whole = 0, False

    def watched(name: str, real: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if len(calls) == cut_at:
                raise PowerCutError  # and nothing that tidies up is done any more
            calls.append(name)
            good = [content(saved.path) for saved in checkpoints.good()]
            assert good, f"no good checkpoint before {name}, call {len(calls)}"
            return real(*arguments, **keywords)

        return call

    while not whole:
        shutil.rmtree(tmp_path / "r", ignore_errors=True)
        weights.value = 0
        checkpoints.save(1, weights.save)
        weights.value = 9
        calls.clear()
        with monkeypatch.context() as patched:
            for module, name in ((os, "fsync"), (os, "rename"), (shutil, "rmtree")):
                patched.setattr(module, name, watched(name, getattr(module, name)))
            try:
                checkpoints.save(step, weights.save)
                whole = True
            except PowerCutError:
                cut_at += 1
        first = next(checkpoints.good())
        assert (first.step, content(first.path)) in ((1, "0"), (step, "9"))
    assert {"fsync", "rename", "rmtree"} <= set(calls)
    assert cut_at == len(calls)
    assert [content(saved.path) for saved in checkpoints.good()] == ["9"]


def test_a_step_of_more_than_twelve_digits_is_found_again(tmp_path: Path, weights: Weights) -> None:
    checkpoints = Checkpoints(tmp_path, run_id="r", attempt="a")
    saved = checkpoints.save(10**15, weights.save)
    assert list(checkpoints.good()) == [saved]


def test_two_processes_that_save_one_step_at_once_keep_both_whole(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's checkpoint appears between the look for a free name and the rename."""
    ours, theirs = (Checkpoints(tmp_path, run_id="r", attempt=attempt) for attempt in ("a", "b"))
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        theirs.save(1, weights.save)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    saved = ours.save(1, weights.save)
    assert saved.path.name == "step-000000000001.2"
    assert list(ours.good()) == [saved]


def stop(run: TrainingRun) -> None:
    """Deliver a stop command as the reader would."""
    command = Command(
        command_id="c-1", kind="stop", issued_at=now(), expires_at=now() + 10**9, issued_by="t", run_id=run.run_id,
        attempt=run.attempt, reason="hopeless",
    )  # fmt: skip
    assert run._orders is not None
    run._orders.receive(run.run_id.encode(), encode_json(command), [("ce_type", b"mlmm.command.v1"), ("ce_id", b"c-1")])


def test_a_stop_while_another_thread_saves_neither_tears_nor_doubles_the_checkpoint(tmp_path: Path) -> None:
    """Saving in the background is the user's own affair; the run's last save waits for it."""
    saving, go_on, inside, most = threading.Event(), threading.Event(), [0], [0]

    def save(folder: Path) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        (folder / "half").write_text("1")
        saving.set()
        assert go_on.wait(60)
        (folder / "other half").write_text("2")
        inside[0] -= 1

    run = TrainingRun(
        "churn", run_id="run-1", mode="memory", on_error="raise", save=save, checkpoint_dir=tmp_path
    ).start()
    run.log({"loss": 1.0}, step=3)

    def go_on_when_it_ends() -> None:
        wait_until(lambda: run._orders._judge.ended, timeout=60, what="the end to begin")
        go_on.set()

    threads = [threading.Thread(target=run.checkpoint, args=(3,)), threading.Thread(target=go_on_when_it_ends)]
    threads[0].start()
    assert saving.wait(60)
    stop(run)
    threads[1].start()
    run.end()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    (path,) = (tmp_path / "run-1").glob("*step*")
    assert {each.name for each in path.iterdir()} == {"half", "other half", "manifest.json"}
    said = [event for event in run.events if isinstance(event, Checkpoint | Acked | RunEnded)]
    assert [getattr(event, "state", type(event).__name__) for event in said] == [
        "accepted", "Checkpoint", "completed", "RunEnded",
    ]  # fmt: skip
    assert said[2].checkpoint == said[1].uri == path.as_uri()


@pytest.mark.parametrize("on_error", ["report", "raise"])
def test_a_run_whose_last_save_fails_still_ends_and_says_so(tmp_path: Path, weights: Weights, on_error: Any) -> None:
    run = TrainingRun(
        "churn", run_id="run-1", mode="memory", on_error=on_error, save=weights.save, checkpoint_dir=tmp_path
    ).start()
    run.log({"loss": 1.0}, step=2)
    (tmp_path / "run-1").write_text("a file is in the way")
    stop(run)
    if on_error == "raise":
        with pytest.raises(FileExistsError):
            run.end()
    else:
        run.end()
    completed, ended = run.events[-2:]
    assert (completed.state, completed.checkpoint, completed.step) == ("completed", None, 2)
    assert completed.reason.startswith("its last step could not be saved (FileExistsError")
    assert completed.reason.endswith("; hopeless")
    assert (ended.status, ended.resumable_from) == ("stopped", None)
    assert run.stats().refused == 1


def test_what_was_obeyed_is_known_to_the_next_attempt_whatever_became_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, run_id="r", attempt="a")
    assert checkpoints.obeyed() == frozenset()
    for command_id in ("c-1", "with\nlines", "ü"):
        checkpoints.remember(command_id)
    assert checkpoints.obeyed() == {"c-1", "with\nlines", "ü"}
    path = checkpoints.folder / "obeyed"
    path.write_bytes(path.read_bytes() + b'\xff\n"cut')
    assert checkpoints.obeyed() == {"c-1", "with\nlines", "ü"}
    assert list(checkpoints.good()) == []
    path.write_text("".join(f'"{number}"\n' for number in range(2000)), encoding="utf-8")
    assert len(checkpoints.obeyed()) == 1000

    (tmp_path / "run-1").write_text("a file is in the way")
    run = TrainingRun("churn", run_id="run-1", mode="memory", save=lambda _: None, checkpoint_dir=tmp_path).start()
    stop(run)
    assert run.should_stop, "an order is obeyed though that can't be written down"
    assert "can't be written down" in caplog.text
    run.end()
