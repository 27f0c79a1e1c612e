"""What a trainer attaches to its loop."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mlmm.events import new_id
from mlmm.events.faults import check_id, check_model
from mlmm.events.types import Trigger
from mlmm.producers.attached import Attached
from mlmm.producers.capture import refuse
from mlmm.producers.checkpoints import Checkpoints, Saved
from mlmm.producers.commands import Judge
from mlmm.producers.complaints import Complaints
from mlmm.producers.modes import Mode, outlet_for
from mlmm.producers.orders import Orders
from mlmm.producers.outcome import Outcome, Status
from mlmm.producers.reader import CommandReader
from mlmm.producers.signals import Signals
from mlmm.producers.voice import Declared, Voice, now, ordinal
from mlmm.runtime.settings import Settings

__all__ = ["TrainingRun"]


class TrainingRun(Attached):
    """A run: says what it does, saves checkpoints, resumes from the last good one, obeys stop commands.

    Nothing here breaks training: what goes wrong with monitoring is logged. What your own ``save`` and ``load`` raise
    goes through where you call `checkpoint` or resume, and is logged where a run saves by itself.

    Parameters
    ----------
    experiment : str
        What this is a run of.
    run_id : str, optional
        By default ``<experiment>-<unique>``; the same one again resumes.
    params : mapping, optional
        Hyperparameters and the like.
    model : str, optional
        The model that is trained, so that commands for the model reach the run.
    triggers : sequence of Trigger
        `falling`, `falling_strict`, `not_finite`, `plateau`: judged outside, on what is logged.
    save : callable of Path, optional
        Writes everything that is needed to go on into an empty folder.
    load : callable of Path, optional
        Reads what ``save`` wrote.
    checkpoint_dir : Path, optional
        Where checkpoints go, a folder a run.
    checkpoint_every : int, optional
        Steps between the checkpoints that `steps` makes.
    keep : int
        Checkpoints that stay.
    total_steps : int, optional
        How many are planned, for those who watch.
    heartbeat_every : float
        Seconds between signs of life.
    mode, on_error, settings
        As in `Monitor`.

    Attributes
    ----------
    run_id, attempt : str
        The run, and this process's try at it.
    outcome : Outcome or None
        How it ended.

    Examples
    --------
    >>> with TrainingRun("churn", mode="memory", triggers=[not_finite()]) as run:
    ...     for step in run.steps(3):
    ...         run.log({"loss": 1 / (step + 1)}, step=step)
    >>> run.completed
    True
    """

    def __init__(
        self,
        experiment: str,
        *,
        run_id: str | None = None,
        params: Mapping[str, Any] | None = None,
        model: str | None = None,
        triggers: Sequence[Trigger] = (),
        save: Callable[[Path], None] | None = None,
        load: Callable[[Path], None] | None = None,
        checkpoint_dir: Path | str | None = None,
        checkpoint_every: int | None = None,
        keep: int = 3,
        total_steps: int | None = None,
        heartbeat_every: float = 10.0,
        mode: Mode | None = None,
        on_error: Literal["report", "raise"] = "report",
        settings: Settings | None = None,
    ) -> None:
        if not isinstance(experiment, str):
            raise refuse("experiment", experiment, "a string")
        self.experiment = experiment
        self.attempt = new_id()
        self.run_id = f"{experiment}-{self.attempt[:20]}" if run_id is None else run_id
        check_id(self.run_id, "run_id")
        if model is not None:
            check_model(model)
        if not all(isinstance(trigger, Trigger) for trigger in triggers):
            raise refuse("triggers", triggers, "falling(…), falling_strict(…), not_finite(…) or plateau(…)")
        if (save is None) != (checkpoint_dir is None):
            raise ValueError("save and checkpoint_dir are given together")
        if checkpoint_every is not None and (checkpoint_every < 1 or save is None):
            raise ValueError(f"checkpoint_every {checkpoint_every!r}: expected at least 1 step, with save")
        if keep < 1:
            raise ValueError(f"keep {keep!r}: expected at least 1 checkpoint")
        if not heartbeat_every > 0:
            raise ValueError(f"heartbeat_every {heartbeat_every!r}: expected seconds above 0")
        self.model = model
        self.outcome: Outcome | None = None
        self._declared = Declared(
            experiment=experiment,
            params=dict(params or {}),
            triggers=tuple(triggers),
            total_steps=total_steps,
            model=model,
            heartbeat_every=heartbeat_every,
        )
        super().__init__(outlet_for(mode, settings), Complaints(f"TrainingRun({experiment!r})", on_error))
        self._voice = Voice(self._outlet, self._refused, self.run_id, self.attempt)
        self._orders: Orders | None = None
        self._signals: Signals | None = None
        self._save = save
        self._load = load
        self._every = checkpoint_every
        self._checkpoints = (
            None
            if checkpoint_dir is None
            else Checkpoints(Path(checkpoint_dir), run_id=self.run_id, attempt=self.attempt, keep=keep)
        )
        self._saved: Saved | None = None
        self._done: int | None = None
        self._logged: int | None = None
        self._over = threading.Event()
        self._ending = threading.Lock()
        self._saving = threading.RLock()
        """One checkpoint at a time: a run may be told to stop while another thread of the user's writes one."""

    # --- beginning ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Resume from the last good checkpoint, if there is one, and say that the run begins. ``with`` calls it.

        Raises
        ------
        Exception
            What ``load`` raised, when it could load none of the good checkpoints.
        """
        if self._orders is not None:
            return self
        self._resume()
        began = now()
        alerting, kept = self._outlet.settings.alerting, self._checkpoints
        judge = Judge(
            run_id=self.run_id,
            attempt=self.attempt,
            model=self.model,
            started=began,
            keys=alerting.verification_keys,
            until=alerting.accepted_until,
            obeyed=() if kept is None else kept.obeyed(),
        )
        self._orders = Orders(judge, self._voice.say, now, None if kept is None else kept.remember)
        self._signals = Signals(self._orders.caught)
        self._signals.install()
        self._voice.started(self._declared, began, self._done)
        reader = self._outlet.read_commands(self._orders.receive)
        if reader is not None:
            threading.Thread(target=self._attend, args=(reader,), name="mlmm-heartbeat", daemon=True).start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def _resume(self) -> None:
        if self._checkpoints is None or self._load is None:
            return
        self._checkpoints.sweep()
        first: Exception | None = None
        for saved in self._checkpoints.good():
            try:
                self._load(saved.path)
            except Exception as error:  # noqa: BLE001 - the checkpoint before may load; else it is raised below
                first = first or error
                self._complaints.note("checkpoint %s can't be loaded (%r): trying the one before", saved.path, error)
                continue
            self._saved, self._done = saved, saved.step
            return
        if first is not None:
            raise first

    def _attend(self, reader: CommandReader) -> None:
        """Send heartbeats until the run is over, then let the reader go."""
        while not self._over.wait(self._declared.heartbeat_every):
            self._voice.heartbeat(self.last_step, reader.age)
        reader.stop()

    # --- while it runs -----------------------------------------------------------------------------------------------

    @property
    def should_stop(self) -> bool:
        """Whether a command or signal asks to end after this step."""
        return self._orders is not None and self._orders.should_stop

    @property
    def first_step(self) -> int:
        """The step to go on with: 0, or the one after the last that `steps` did or that was resumed from."""
        return 0 if self._done is None else self._done + 1

    @property
    def last_step(self) -> int | None:
        """The last step that was done; without `steps`, the highest that was logged."""
        return self._logged if self._done is None else self._done

    def steps(self, total: int) -> Iterator[int]:
        """Yield the numbers of the steps to do, below ``total``; end early when the run should stop.

        Checkpoints are made between steps, so that each holds whole ones.
        """
        for step in range(self.first_step, total):
            if self.should_stop:
                return
            yield step
            self._done = step
            if self._every is not None and (step + 1) % self._every == 0:
                self._save_quietly(step)

    def log(self, data: Mapping[str, Any], *, step: int, phase: str = "train") -> None:
        """Log figures of one step: name → number (NaN and infinities are figures, too)."""
        try:
            number = ordinal(step)
            self._logged = number if self._logged is None else max(number, self._logged)
            self._voice.metrics(data, number, phase)
        except Exception as error:  # noqa: BLE001 - nothing is raised into the user's training
            self._refused(error)

    def checkpoint(self, step: int) -> Path:
        """Save a checkpoint of ``step``, which was done, and say so.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        ValueError
            Without ``save`` and ``checkpoint_dir``. What ``save`` or the disk raise goes through.
        """
        if self._save is None or self._checkpoints is None:
            raise ValueError("checkpoint() needs save= and checkpoint_dir=")
        with self._saving:
            self._saved = self._checkpoints.save(ordinal(step), self._save)
            self._voice.checkpointed(self._saved)
            return self._saved.path

    def _save_quietly(self, step: int) -> None:
        try:
            self.checkpoint(step)
        except Exception as error:  # noqa: BLE001 - a full disk must not end the training
            self._refused(error)

    # --- end ---------------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> bool:
        """Whether the run did all that it was to do: what a stopped run trained must not be published."""
        return self.outcome is not None and self.outcome.status == "completed"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            self._end("interrupted", type(error).__name__, save=False)  # half a step is no state to save
        else:
            self._end("failed", f"{type(error).__name__}: {error}", save=False)

    def end(self, status: Status = "completed", *, reason: str = "") -> Outcome:
        """End the run between two steps; ``with`` calls it.

        A run that was told to stop, or got SIGTERM or Ctrl-C, saves a checkpoint first, and its status says so.

        Parameters
        ----------
        status : {"completed", "stopped", "interrupted", "failed"}
            How, unless a command or signal has decided it.
        reason : str, optional
        """
        return self._end(status, reason, save=True)

    def _end(self, status: Status, reason: str, *, save: bool) -> Outcome:
        with self._ending:
            if self.outcome is not None:
                return self.outcome
            orders = self._orders
            command = orders.end() if orders is not None else None
            if status != "failed" and command is not None:
                status, reason = "stopped", command.reason
            elif status == "completed" and orders is not None and orders.signal is not None:
                status, reason = "interrupted", orders.signal
            step = self.last_step
            unsaved = self._save_last(step) if save and status in ("stopped", "interrupted") else None
            stopped = command if status == "stopped" else None
            self.outcome = Outcome(
                status=status,
                reason=reason,
                command_id=None if stopped is None else stopped.command_id,
                checkpoint=None if self._saved is None else self._saved.path,
                step=step,
            )
            if orders is not None:
                if stopped is not None:
                    why = f"its last step could not be saved ({unsaved!r:.200}); {reason}" if unsaved else ""
                    orders.completed(stopped, None if self._saved is None else self._saved.uri, step, reason=why)
                self._leave(self.outcome)
            if unsaved is not None:
                self._refused(unsaved)
            return self.outcome

    def _save_last(self, step: int | None) -> Exception | None:
        """Save what the run stops with, unless it is saved already; return what went wrong."""
        with self._saving:
            if self._save is None or step is None or (self._saved is not None and self._saved.step == step):
                return None
            try:
                self.checkpoint(step)
            except Exception as error:  # noqa: BLE001 - a full disk must not keep the run from ending and saying so
                return error
        return None

    def _leave(self, outcome: Outcome) -> None:
        self._voice.ended(outcome, None if self._saved is None else self._saved.step)
        self._over.set()
        if self._signals is not None:
            self._signals.restore()
        self._outlet.flush(self._outlet.settings.emitter.exit_timeout)
