"""The fuzzer: mutated golden records and legal extremes, in batches, for a while; what is new is mutated further.

Most of what decodes is compiled, where no coverage can be seen from Python. What guides instead is the outcome: an
input that draws a reason (or passes as a type) that none drew before joins the pool that mutations begin from.
"""

import random
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.fuzz.cases import Case, save
from tests.fuzz.extremes import extreme
from tests.fuzz.holds import check_decoder, check_together, clock, signature
from tests.fuzz.mutations import mutate
from tests.fuzz.rig import Rig
from tests.fuzz.seeds import seeds

__all__ = ["Finding", "Fuzzer"]

BATCH = 8
POOL = 4_000
ANEW = 150
"""Batches after which the processors begin anew, on average: so that a finding can be told in few records."""


class Finding(msgspec.Struct, frozen=True):
    """What did not hold, with the records that show it."""

    name: str
    trace: str
    cases: list[Case]
    file: str


class Fuzzer:
    """One run of the fuzzer, a function of its seed but for where the time ends it.

    Parameters
    ----------
    seed : int
    folder : Path
        Where findings are written, as files of the corpus.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._rng = random.Random(seed)
        self._folder = folder
        self._pool = [case for case in seeds() if case.topic != "commands"]
        self._known: set[tuple[str, ...]] = set()
        self.records = self.letters = 0
        self.findings: dict[str, Finding] = {}

    @property
    def reasons(self) -> int:
        """How many outcomes were told apart."""
        return len(self._known)

    def run(self, seconds: float, *, say: Callable[[str], None] = lambda _: None) -> None:
        """Go on for so long; ``say`` is told about each finding."""
        end = time.monotonic() + seconds
        rig, fed = Rig(), []
        for now in clock(self._rng):
            if time.monotonic() > end:
                return
            if self._rng.random() < 1 / ANEW:
                rig, fed = Rig(), []
            batch = self._batch(now)
            fed.append((now, batch))
            self.records += len(batch)
            try:
                for case in batch:
                    self._learn(case, check_decoder(case))
                self.letters += len(check_together(rig, batch, now, cells=self._rng.random() < 0.05))
            except Exception as error:  # noqa: BLE001 - whatever it is, a worker would have died of it
                self._found(error, fed, say)
                rig, fed = Rig(), []

    def _batch(self, now: int) -> list[Case]:
        rng = self._rng
        made = []
        for _ in range(BATCH):
            kind = rng.random()
            if kind < 0.6:
                made.append(mutate(rng.choice(self._pool), rng))
            elif kind < 0.9:
                made.append(extreme(rng, now * 1_000))
            else:
                made.append(mutate(extreme(rng, now * 1_000), rng))
        return made

    def _learn(self, case: Case, said: str) -> None:
        mark = signature(case, said)
        if mark not in self._known:
            self._known.add(mark)
            if len(self._pool) < POOL and len(case.value) < 20_000:
                self._pool.append(case)

    def _found(self, error: Exception, fed: list[tuple[int, list[Case]]], say: Callable[[str], None]) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f"{frame.name}-{frame.lineno}" for frame in frames if "mlmm" in frame.filename]
        name = f"{type(error).__name__}-{'-'.join(ours[-2:])}".lower().replace("<", "").replace(">", "")
        if name in self.findings:
            return
        cases = shorten([case for _, batch in fed for case in batch], fed[-1][0], type(error))
        path = save(self._folder, name, cases)
        trace = "".join(traceback.format_exception(error))
        self.findings[name] = Finding(name, trace, cases, str(path))
        say(f"{path}\n{trace}")


def fails(cases: list[Case], now: int) -> BaseException | None:
    """What goes wrong where records are fed to processors that know nothing yet, in one poll and singly."""
    for polls in ([cases], [[case] for case in cases]):
        rig = Rig()
        try:
            for poll in polls:
                for case in poll:
                    check_decoder(case)
                check_together(rig, poll, now, cells=True)
        except Exception as error:  # noqa: BLE001 - as above
            return error
    return None


def shorten(cases: list[Case], now: int, kind: type[BaseException]) -> list[Case]:
    """Leave out what the failure does not need, halves first; all of it where it needs the times, too."""
    if not isinstance(fails(cases, now), kind):
        return cases
    size = max(1, len(cases) // 2)
    while True:
        for at in range(0, len(cases), size):
            fewer = cases[:at] + cases[at + size :]
            if fewer and isinstance(fails(fewer, now), kind):
                cases = fewer
                break
        else:
            if size == 1:
                return cases
            size = max(1, size // 2)
