"""``mlmm stop``: tell a training run to save a checkpoint and stop."""

import time
from typing import Annotated

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_json, say

MICROSECONDS = 1_000_000


def stop(
    run: Annotated[str, typer.Argument(help="Run id, as in the trainer's log and in `mlmm tail findings`.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; the trainer logs it.")],
    attempt: Annotated[
        str | None, typer.Option(help="Only this attempt. Default: whichever runs now.", show_default=False)
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the run's answer; 0 does not wait.")] = 60.0,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell a training run to save a checkpoint and stop, and wait for its answer.

    Exit code 0 when the run has completed the order, 1 when it refused or did not answer in time.

        mlmm stop churn-0193 --reason "wrong data since Monday"
    """
    from mlmm.console.orders import follow, give, is_ours
    from mlmm.events import Command, new_id

    settings = load_settings(config)
    settings.require_kafka()
    now = time.time_ns() // 1000
    lifetime = round(settings.alerting.command_lifetime * MICROSECONDS)
    command = Command(
        command_id=new_id(), kind="stop", run_id=run, attempt=attempt, reason=reason, issued_by="mlmm stop",
        issued_at=now, expires_at=now + lifetime,
    )  # fmt: skip
    with give(settings, command) as answers:
        say(f"stop sent to run {run}", {"command": command.command_id})
        if not wait:
            return
        last = None
        for answer in follow(answers, command.command_id, seconds=wait):
            if not answer.unproven or is_ours(settings, answer):
                last = answer
            if as_json:
                print_json([{"command_id": answer.command_id, "state": answer.state, "reason": answer.reason,
                             "checkpoint": answer.checkpoint, "step": answer.step,
                             "unproven": answer.unproven}])  # fmt: skip
            elif answer.unproven:
                say(f"refused, as not shown to be its issuer's: {answer.reason}", {})
            else:
                say(
                    f"{answer.state}: {answer.reason or 'no reason given'}", {"checkpoint": answer.checkpoint or "none"}
                )
            if last is not None and last.unproven:
                break
    if last is None:
        say(f"no answer from run {run} within {wait:g} s: is it running, and does it reach this broker?")
    raise typer.Exit(0 if last is not None and last.state == "completed" else 1)
