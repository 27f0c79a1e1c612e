"""What the training processor says: states of runs and of commands."""

from msgspec.structs import replace

from mlmm.events.encode import encode_json
from mlmm.events.types import CommandState, RunState
from mlmm.runtime.processor import Output
from mlmm.stream_processors.training import _commands, triggers
from mlmm.stream_processors.training import _layout as at
from mlmm.stream_processors.training._pending import Fired
from mlmm.stream_processors.training._run import Run
from mlmm.stream_processors.training._words import Words

__all__ = ["Findings"]


class Findings:
    """Outputs of the poll in hand.

    Parameters
    ----------
    words : Words
        The figures of all runs.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self._made: list[Output] = []

    def add(self, output: Output) -> None:
        """Put out what was made elsewhere."""
        self._made.append(output)

    def take(self) -> list[Output]:
        """Hand over what was put out, by input offset."""
        made, self._made = self._made, []
        # Metrics are folded late, so what they cause comes late; within one record the order is the events'.
        made.sort(key=_offset)
        return made

    def run(
        self,
        run: Run,
        offset: int,
        log_time: int,
        event_time: int,
        what: str,
        *,
        step: int | None = None,
        trigger: str | None = None,
        metric: str | None = None,
        reason: str = "",
        history: tuple[float, ...] = (),
    ) -> None:
        """Say how a run stands.

        Parameters
        ----------
        run : Run
            As it stands after what happened.
        offset : int
            Of the record that caused it.
        log_time, event_time : int
            When it happened.
        what : str
            What happened, for the id.
        step : int, optional
            The step it speaks of; the last one by default.
        trigger, metric, reason, history
            As in `RunState`.
        """
        info = run.info
        state = RunState(
            run_id=run.run_id,
            attempt=info.attempt,
            experiment=info.experiment,
            status=info.status,
            log_time=log_time,
            event_time=event_time,
            step=run.step(self._words) if step is None else step,
            model=info.model,
            error=info.error,
            resumable_from=info.resumable_from,
            checkpoint=info.checkpoint,
            trigger=trigger,
            metric=metric,
            reason=reason,
            figures=run.figures(self._words),
            history=history,
            started=info.started,
        )
        self._put(run.key, "mlmm.run.state.v1", f"{run.run_id}:{info.attempt}:{what}@{log_time}", state, offset)

    def fired(self, fired: Fired) -> None:
        """Say that triggers fired in one event."""
        run, record, event_time, step, watches = fired
        f, i = self._words.f, self._words.i
        for series, watch in watches:
            place = int(i[watch + at.TRIGGER])
            trigger = run.info.triggers[place]
            metric = triggers.label_of(*run.info.metrics[run.offsets.index(series - run.base)])
            value, level, best = float(f[series + at.LAST]), float(f[watch + at.LEVEL]), float(f[watch + at.BEST])
            self.run(
                run,
                record.offset,
                record.log_time,
                event_time,
                f"trigger:{place}:{metric}",
                step=step,
                trigger=triggers.kind_of(trigger),
                metric=metric,
                reason=triggers.reason(trigger, metric, step, value=value, level=level, best=best),
                history=run.history(self._words, series),
            )

    def command(self, state: CommandState, model: str | None, offset: int) -> None:
        """Say what became of a command.

        It is said to the run and to the model that it declared: the command's target is one of the two, and an
        acknowledgement does not tell which. Who gave no such order passes over it.
        """
        name = f"{state.command_id}:{'unproven' if state.unproven else state.state}"
        kind = "mlmm.command.state.v1"
        self._put(state.target.encode(), kind, f"{name}@{state.target}", state, offset)
        if model is not None and model != state.target:
            told = replace(state, target=model)
            self._put(model.encode(), kind, f"{name}@{state.target}>{model}", told, offset)

    def close_commands(self, run: Run, offset: int, log_time: int, why: str, *, void: bool) -> None:
        """Say that the open commands of a run are superseded; see `_commands.close`."""
        info = run.info
        if not info.commands:
            return
        pattern = CommandState(
            command_id="",
            state="superseded",
            log_time=log_time,
            target=run.run_id,
            run_id=run.run_id,
            attempt=info.attempt,
            reason=why,
        )
        for command_id in _commands.close(info.commands, void=void):
            self.command(replace(pattern, command_id=command_id), info.model, offset)
        run.info_changed = True

    def _put(self, key: bytes, kind: str, name: str, event: RunState | CommandState, offset: int) -> None:
        self._made.append(
            Output(
                topic="findings",
                key=key,
                type=kind,
                id=name,
                time=event.log_time,
                value=encode_json(event),
                offset=offset,
                causation=event.command_id if isinstance(event, CommandState) else "",
            )
        )


def _offset(output: Output) -> int:
    return output.offset
