"""Starts and ends what plays in the demo: workers, the API and the trainer, each a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from mlmm.events.errors import MlmmError

__all__ = ["DemoError", "Stage", "free_port"]

LAST_LINES = 15
RESTARTED = 'then="starting again'
"""What a supervisor says of a process that ended by itself."""
RESTARTS = 2

_END_WITH_PARENT = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, kept across exec
except AttributeError:
    pass  # not Linux: who kills the demo hard ends what it started by hand
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
"""


class DemoError(MlmmError):
    """The story could not be told; the message says which link broke and where to look."""


class Stage:
    """Processes of the demo; a context manager that ends them all, the last one first.

    However the demo ends, they do: in order where it can, by the kernel's hand where it was killed.

    Parameters
    ----------
    folder : Path
        Where ``mlmm.toml`` lies and the logs go.
    """

    GRACE = 10.0
    """Seconds for the processes to end by themselves before they are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``python -m <arguments>`` with the demo's settings, its output going to a log file."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLMM_")}
        environment["MLMM_CONFIG"] = str((self.folder / "mlmm.toml").absolute())
        launcher = [sys.executable, "-S", "-E", "-c", _END_WITH_PARENT, str(os.getpid())]
        with (self.logs / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603 - our own modules
                [*launcher, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the story alone, which then ends them in order
            )
        return self.processes[name]

    def check(self, *, may_end: tuple[str, ...] = ()) -> None:
        """Raise `DemoError` where a process has ended that should not have."""
        for name, process in self.processes.items():
            if process.poll() is not None and name not in may_end:
                raise DemoError(f"the {name} process ended with exit code {process.returncode}:\n{self.tail(name)}")
            if self._text(name).count(RESTARTED) >= RESTARTS:
                raise DemoError(f"the {name} process ended {RESTARTS} times:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """Return the last lines of a log."""
        lines = self._text(name).splitlines()[-LAST_LINES:]
        return "\n".join([*(f"    {line}" for line in lines), f"    (all of it: {self.logs / name}.log)"])

    def _text(self, name: str) -> str:
        file = self.logs / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.GRACE
        for process in reversed(self.processes.values()):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
