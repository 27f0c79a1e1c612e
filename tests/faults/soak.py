"""Everything that production does to workers, at random and for as long as one likes."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.faults.deployment import Deployment
from tests.waiting import wait_until

__all__ = ["Disturber", "Soaked"]

CLOCK = Path(__file__).parent / "clock"
YEAR = 365 * 86_400
FROZEN = (1.0, 9.0)
"""Seconds of a freeze: shorter and longer than the session of 6 s."""
EXTRAS = 2
"""Machines that may be added."""
BREATH = 4
"""So many things in a row, then the work must get on before the next: however slow a machine is, something is disturbed
that works."""
BREATH_SECONDS = 300.0


class Soaked(Deployment):
    """A deployment whose machines come and go, and whose wall clocks jump."""

    lines: dict[str, list[str]]
    """Name of a machine → what it runs."""

    def start(self) -> None:
        """Start all of it as it is in production: under something that starts a supervisor that died."""
        self.clock = self.folder / "clock"
        self.clock.write_text("0")
        self.lines = {}
        for name, line in (("worker", ["worker", "--workers", "2", "--name", "main"]), ("alerting", ["alerting"])):
            self.add(name, line)

    def add(self, name: str, line: list[str]) -> None:
        """Start a supervisor."""
        path = os.pathsep.join([str(CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLMM_")} | self.more
        environment |= {"PYTHONPATH": path, "TEST_CLOCK": str(self.clock)}
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "mlmm.console", *line, "--config", str(self.config)]
            self.supervisors[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.lines[name] = line

    def revive(self) -> None:
        """Start a supervisor again that was killed; fail where one gave up by itself."""
        for name, supervisor in list(self.supervisors.items()):
            code = supervisor.poll()
            if code is None:
                continue
            assert code == -signal.SIGKILL, f"the supervisor of {name} ended with {code}: {self.log()}"
            self.add(name, self.lines[name])

    @property
    def extras(self) -> list[str]:
        """Names of the machines that were added."""
        return [name for name in self.supervisors if name.startswith("extra")]


class Disturber:
    """Does one thing after another to a deployment.

    Parameters
    ----------
    deployment : Soaked
        That runs.
    rng : random.Random
        Draws what is done, to whom, and when.
    pause : float
        Mean seconds between two things.
    """

    def __init__(self, deployment: Soaked, rng: random.Random, pause: float) -> None:
        self.deployment, self.rng, self.pause = deployment, rng, pause
        self.done: Counter[str] = Counter()
        self._frozen: list[tuple[float, psutil.Process]] = []
        self._what: dict[Callable[[], bool], int] = {
            self.kill: 50,
            self.terminate: 10,
            self.freeze: 12,
            self.add_or_remove: 12,
            self.jump: 12,
            self.kill_supervisor: 4,
        }

    def run(self, until: Callable[[], bool], stop: threading.Event) -> None:
        """Do each thing once, then at random until it is enough; in the end all run and the added machines are gone."""
        acts, weights = list(self._what), list(self._what.values())
        first = self.rng.sample(acts, len(acts))
        stands, since = self._position(), 0
        try:
            while not stop.is_set() and (first or not until()):
                self._wait(self.rng.uniform(0.2, 2 * self.pause - 0.2), stop)
                self.deployment.revive()
                act = first[-1] if first else self.rng.choices(acts, weights)[0]
                if not act():
                    continue
                self.done[act.__name__] += 1
                del first[-1:]
                since += 1
                if since >= BREATH:
                    self._breathe(lambda at=stands: stop.is_set() or until() or self._position() > at)
                    stands, since = self._position(), 0
        finally:
            self._thaw(always=True)
            self.deployment.revive()
            if self.deployment.extras:
                self.deployment.stop(*self.deployment.extras)

    def _position(self) -> int:
        return sum(self.deployment.offsets().values())

    def _breathe(self, enough: Callable[[], bool]) -> None:
        """Wait until something was committed, or nothing more is sent."""

        def gets_on() -> bool:
            self._thaw()
            self.deployment.revive()
            return enough()

        wait_until(gets_on, timeout=BREATH_SECONDS, what="the work to get on", every=0.2)

    def _wait(self, seconds: float, stop: threading.Event) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and not stop.wait(min(left, 0.2)):
            self._thaw()

    def _thaw(self, *, always: bool = False) -> None:
        now = time.monotonic()
        for due, process in list(self._frozen):
            if always or now >= due:
                self._frozen.remove((due, process))
                _signal(process, signal.SIGCONT)

    def _victim(self) -> psutil.Process | None:
        frozen = {process.pid for _, process in self._frozen}
        found = [process for process in self.deployment.processes() if process.pid not in frozen]
        return self.rng.choice(found) if found else None

    def kill(self) -> bool:
        """SIGKILL a process."""
        return _signal(self._victim(), signal.SIGKILL)

    def terminate(self) -> bool:
        """SIGTERM a process: its supervisor did not ask for it, and starts it again."""
        return _signal(self._victim(), signal.SIGTERM)

    def freeze(self) -> bool:
        """SIGSTOP a process, and SIGCONT it some time later; things go on meanwhile."""
        process = self._victim()
        if not _signal(process, signal.SIGSTOP):
            return False
        self._frozen.append((time.monotonic() + self.rng.uniform(*FROZEN), process))
        return True

    def add_or_remove(self) -> bool:
        """Add a machine, or take one away in good order."""
        extras = self.deployment.extras
        if extras and (len(extras) == EXTRAS or self.rng.random() < 0.5):
            self.deployment.stop(self.rng.choice(extras))
        else:
            name = next(name for n in range(EXTRAS) if (name := f"extra-{n}") not in extras)
            self.deployment.add(name, ["worker", "--workers", "1", "--name", name])
        return True

    def jump(self) -> bool:
        """Let the wall clocks jump: by milliseconds, or by up to a year."""
        shift = self.rng.choice([0, 1, 60, 3600, 86_400, YEAR])
        self.deployment.clock.write_text(str(shift))
        return True

    def kill_supervisor(self) -> bool:
        """SIGKILL a supervisor; what stands for systemd starts it again."""
        name = self.rng.choice(list(self.deployment.supervisors))
        supervisor = self.deployment.supervisors[name]
        supervisor.kill()
        supervisor.wait()
        return True


def _signal(process: psutil.Process | None, number: int) -> bool:
    try:
        if process is not None:
            process.send_signal(number)
            return True
    except psutil.NoSuchProcess:
        pass
    return False
