"""Runs, attempts, commands and acknowledgements in any order: what holds whatever is lost, doubled, forged or dies."""

import math
from collections import defaultdict

import msgspec
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlmm.events import Acked, Command, CommandState, Drift, Subject
from tests.commands.world import BOTH, MODEL, NEW, OLD, ONLY_OLD, SECOND, STRANGE, Sent, Trainer, World, written

RUNS = ("run-1", "run-2")
AHEAD = 300 * SECOND
LOST_AFTER = 30
"""Seconds: three heartbeats of ten."""
ENDS = ("completed", "rejected", "expired", "superseded")

runs = st.sampled_from(RUNS)
few = st.integers(1, 4)
places = st.integers(0, 1 << 16)


class Commands(RuleBasedStateMachine):
    """Two runs of one model, a rule for runs and one for the model, people, and somebody without the key."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.trainers: list[Trainer] = []
        self.obeyed: dict[str, list[str]] = defaultdict(list)
        """Attempt → ids of the orders at which it began to stop."""
        self.made = 0

    def teardown(self) -> None:
        try:
            self._to_the_end()
        finally:
            self.world.close()

    # --- what is true of an order, by the contract alone -------------------------------------------------------------

    def _in_force(self, sent: Sent, trainer: Trainer) -> str | None:
        """Id of a genuine order that this attempt must obey now; None for all else."""
        for command, key_id, genuine in self.world.genuine:
            if sent != genuine:
                continue
            key = next((key for key in trainer.keys if key.id == key_id), None)
            known = key is not None and (
                key.accepted_until is None or self.world.now < key.accepted_until.timestamp() * 1e6
            )
            began_before = trainer.began < command.issued_at <= self.world.now + AHEAD
            ours = (
                command.attempt == trainer.attempt or (command.attempt is None and began_before)
                if command.run_id == trainer.run.run_id
                else command.run_id is None and command.model == MODEL and began_before
            )
            before = any(
                command.command_id in self.obeyed[each.attempt]
                for each in self.trainers
                if each.run.run_id == trainer.run.run_id and each is not trainer
            )
            if known and ours and not before and command.kind == "stop" and self.world.now < command.expires_at:
                return command.command_id
        return None

    def _take(self, trainer: Trainer, sent: Sent) -> None:
        before, id_ = trainer.stopping, self._in_force(sent, trainer)
        ended = trainer.run.outcome is not None
        trainer.take(sent)
        if trainer.stopping and not before:
            assert id_ is not None, f"obeyed what is not in force: {sent}"
            self.obeyed[trainer.attempt].append(id_)
        assert trainer.stopping or id_ is None or ended, f"did not obey {sent}"

    def _read(self, trainer: Trainer, key: bytes, most: int) -> None:
        records = self.world.commands[key][trainer.at[key] : trainer.at[key] + most]
        trainer.at[key] += len(records)
        for sent in records:
            self._take(trainer, sent)

    def _read_all(self, trainer: Trainer) -> None:
        for key in sorted(self.world.commands):
            self._read(trainer, key, 1 << 20)

    def _living(self, run: str) -> Trainer | None:
        return next((t for t in self.trainers if t.alive and t.run.run_id == run), None)

    # --- runs --------------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Let both runs be there, for most of what follows needs one."""
        for run in RUNS:
            self.start(run, informed=True)
            trainer = self._living(run)
            assert trainer is not None
            trainer.step()
            trainer.deliver()
        self.world.settle()

    @precondition(lambda self: any(self._living(run) is None for run in RUNS))
    @rule(run=runs, informed=st.sampled_from((True, True, False)))
    def start(self, run: str, informed: bool) -> None:
        """An attempt begins; the one before is dead by then."""
        if self._living(run) is None:
            self.trainers.append(Trainer(self.world, run, BOTH if informed else ONLY_OLD))

    @rule(run=runs)
    def step(self, run: str) -> None:
        if trainer := self._living(run):
            trainer.step()

    @rule(run=runs, at_once=st.booleans())
    def doom(self, run: str, at_once: bool) -> None:
        """A NaN: the rule orders this attempt's stop when it hears of it."""
        if (trainer := self._living(run)) and trainer.run.outcome is None:
            trainer.step(math.nan)
            if at_once:
                trainer.deliver()
                self.world.settle()

    @rule(run=runs)
    def beat(self, run: str) -> None:
        if trainer := self._living(run):
            trainer.beat()

    @rule(run=runs, most=st.sampled_from((1, 2, 100)))
    def deliver(self, run: str, most: int) -> None:
        """Kafka takes what was said, from the queue's head on."""
        if trainer := self._living(run):
            trainer.deliver(most)

    @rule(run=runs, count=few)
    def deliver_again(self, run: str, count: int) -> None:
        if trainer := self._living(run):
            trainer.again(count)

    @rule(run=runs)
    def crash(self, run: str) -> None:
        """Between any two words that it said: before, between and after accepted, checkpoint, completed, ended.

        The process of a run that ended goes in the same way, with what it could not deliver.
        """
        if trainer := self._living(run):
            trainer.crash()

    @rule(run=runs)
    def restart(self, run: str) -> None:
        """Die with what was not said, and come back at once: the new attempt reads all that stands."""
        if trainer := self._living(run):
            trainer.crash()
        self.start(run, informed=True)
        if trainer := self._living(run):
            self._read_all(trainer)

    @rule(run=runs, dies=st.booleans())
    def obey(self, run: str, dies: bool) -> None:
        """An order by the rule is accepted, and the log knows that; then perhaps there is no last word."""
        self.doom(run, at_once=True)
        if trainer := self._living(run):
            self._read_all(trainer)
            trainer.deliver()
            if dies:
                trainer.crash()

    @rule(run=runs, seconds=st.sampled_from((60, 100, 4000)))
    def go_on(self, run: str, seconds: int) -> None:
        """A trainer lives, and says so, for a while in which it may neither read nor end."""
        for _ in range(seconds // 20):
            if (trainer := self._living(run)) and trainer.run.outcome is None:
                trainer.beat()
                trainer.deliver()
            self.world.pass_time(20)
            self.world.settle()

    @rule(run=runs, failed=st.booleans(), unsaved=st.booleans(), during=st.booleans(), signalled=st.booleans())
    def finish(self, run: str, failed: bool, unsaved: bool, during: bool, signalled: bool) -> None:
        """A run ends, also with an order that comes while it saves, or with a disk that is full."""
        trainer = self._living(run)
        if trainer is None or trainer.run.outcome is not None:
            return

        def saving() -> None:
            if during:
                for key in list(self.world.commands):
                    for sent in self.world.commands[key][trainer.at[key] :]:
                        trainer.take(sent)
                    trainer.at[key] = len(self.world.commands[key])
            if unsaved:
                raise OSError("disk full")

        if signalled and trainer.run._orders is not None:
            trainer.run._orders.caught("SIGTERM")
        before = trainer.stopping
        trainer.before_saved = saving
        trainer.end("failed" if failed else "completed")
        assert trainer.stopping == before  # what comes with the end is refused

    # --- orders ------------------------------------------------------------------------------------------------------

    @rule(
        run=st.sampled_from((*RUNS, None)), attempt=st.booleans(), key=st.sampled_from((NEW, OLD)),
        lifetime=st.sampled_from((1, 60, 3600)), skew=st.sampled_from((-100, 0, 100, 400)),
        at_once=st.booleans(),
    )  # fmt: skip
    def by_hand(self, run: str | None, attempt: bool, key: str, lifetime: int, skew: int, at_once: bool) -> None:
        """A person gives an order, from a host whose clock may be off."""
        self.made += 1
        living = self._living(run) if run else None
        issued = self.world.now + skew * SECOND
        self.world.order(
            Command(
                command_id=f"hand-{self.made}", kind="stop", run_id=run, model=None if run else MODEL,
                attempt=living.attempt if living is not None and attempt else None, reason="by hand", issued_by="t",
                issued_at=issued, expires_at=issued + lifetime * SECOND,
            ),
            key,
        )  # fmt: skip
        for trainer in self.trainers if at_once else ():
            if trainer.alive:
                self._read_all(trainer)

    @rule()
    def drift(self) -> None:
        """The model drifts: a rule stops every run that trains it."""
        now = self.world.now
        self.world.find(
            Drift(
                subject=Subject(model=MODEL), series="error", detector="adwin", params={}, before=0.1, after=0.3,
                observed=100, began=10, event_time=now, log_time=now,
            ),
            MODEL,
        )  # fmt: skip

    @precondition(lambda self: self.world.genuine)
    @rule(
        place=places, how=st.sampled_from(("unsigned", "mangled", "stranger", "moved", "broken", "other attempt")),
        at_once=st.booleans(),
    )  # fmt: skip
    def forge(self, place: int, how: str, at_once: bool) -> None:
        """Somebody without the key writes what looks like an order that was given, perhaps to be read before it."""
        command, _, sent = self.world.genuine[-1 - place % len(self.world.genuine)]
        now = trainer.attempt if (trainer := self._living(command.run_id or RUNS[0])) else "a"
        forged = {
            "unsigned": lambda: written(command, None),
            "mangled": lambda: sent._replace(value=sent.value.replace(b'"stop"', b'"stop" ')),
            "stranger": lambda: written(command, STRANGE),
            "moved": lambda: sent._replace(key=RUNS[place % 2].encode() if command.model else MODEL.encode()),
            "broken": lambda: sent._replace(value=sent.value[: place % len(sent.value)]),
            "other attempt": lambda: written(msgspec.structs.replace(command, attempt=now, model=None), None),
        }[how]()
        self.world.put(forged)
        if at_once and trainer is not None:
            self._take(trainer, forged)
            trainer.deliver()

    @precondition(lambda self: self.world.genuine)
    @rule(place=places)
    def replay(self, place: int) -> None:
        """Anybody may write a genuine record once more."""
        self.world.put(self.world.genuine[-1 - place % len(self.world.genuine)][2])

    @rule(run=runs, place=places, most=st.sampled_from((1, 2, 100)))
    def read(self, run: str, place: int, most: int) -> None:
        """A reader goes on in one partition."""
        if trainer := self._living(run):
            keys = sorted(self.world.commands) or [b""]
            self._read(trainer, keys[place % len(keys)], most)

    @rule(run=runs, place=places, count=few)
    def read_again(self, run: str, place: int, count: int) -> None:
        """A reader that connects anew may see the last ones again."""
        if trainer := self._living(run):
            keys = sorted(self.world.commands) or [b""]
            key = keys[place % len(keys)]
            trainer.at[key] = max(0, trainer.at[key] - count)

    # --- the rest of the house ---------------------------------------------------------------------------------------

    @rule(most=few)
    def fold(self, most: int) -> None:
        self.world.fold(most)

    @rule(most=few)
    def judge(self, most: int) -> None:
        self.world.judge(most)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule(seconds=st.sampled_from((1, 15, 35, 80, 3700, 7300)))
    def pass_time(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def obeyed_at_most_once(self) -> None:
        for trainer in self.trainers:
            proven = [each for each in trainer.answers if not each.unproven]
            accepted = {each.command_id for each in proven if each.state == "accepted"}
            assert accepted == set(self.obeyed[trainer.attempt]), "accepted something else than it obeyed"
            assert len(accepted) <= 1
            assert {each.command_id for each in proven if each.state == "completed"} <= accepted
            for each in proven:  # one verdict an order and attempt
                assert each.state in ("accepted", "completed") or each.command_id not in accepted

    def _to_the_end(self) -> None:
        """Let everything arrive and every deadline pass; then look at how each order stands."""
        world = self.world
        for trainer in self.trainers:
            if trainer.alive:
                for key in sorted(world.commands):
                    self._read(trainer, key, 1 << 20)
        for trainer in self.trainers:
            if trainer.alive:
                trainer.before_saved = lambda: None
                if trainer.run.outcome is None:
                    trainer.end()
                trainer.deliver()
        world.settle()
        for seconds in (LOST_AFTER + 1, LOST_AFTER + 1, 100, 4000, 4000, 4000):
            world.pass_time(seconds)
            world.settle()
        self.obeyed_at_most_once()
        for trainer in self.trainers:
            event(f"an attempt that {'lives' if trainer.alive else 'died'} said {self._words(trainer)}")
        for command, _, _ in world.genuine:
            if command.issued_by.endswith("alerting"):
                self._agrees(command)

    @staticmethod
    def _words(trainer: Trainer) -> str:
        said = {"unproven" if each.unproven else each.state for each in trainer.answers}
        return ", ".join(sorted(said)) or "nothing"

    def _agrees(self, command: Command) -> None:
        """Alerting's last word on a command of its own is what the log of the trainers bears out."""
        state = self.world.shown(command.command_id)["state"]
        event(f"an order to a {'run' if command.run_id else 'model'} ended {state}")
        alarmed = self.world.alarmed(command.command_id)
        assert state in ENDS, f"{command} is left {state}"
        said: dict[str, list[tuple[int, Acked]]] = defaultdict(list)
        for at, each in self.world.logged():
            if each.command_id == command.command_id and not each.unproven:
                said[each.state].append((at, each))
        if state == "completed":
            assert said["completed"]
        if state == "rejected":
            assert said["rejected"]
        if state == "expired":  # by a trainer's word, or since nobody's word came in time
            accepted = self._heard(command, "accepted")
            assert said["expired"] or (alarmed and all(at >= command.expires_at for at in accepted))
        if command.run_id is not None and self._completed_in_time(command):
            assert state == "completed", f"{command} was completed and is shown {state}"

    def _heard(self, command: Command, state: str) -> list[int]:
        """When alerting's own log took a proven word on a command: a processor that lags tells it late."""
        found = []
        for record in self.world.findings:
            if dict(record.headers)["ce_type"] == b"mlmm.command.state.v1":
                said = msgspec.json.decode(record.value, type=CommandState)
                if (said.command_id, said.state, said.unproven) == (command.command_id, state, False):
                    found.append(record.log_time)
        return found

    def _completed_in_time(self, command: Command) -> bool:
        """Whether alerting could hear of the completion before the order expired."""
        return any(at < command.expires_at for at in self._heard(command, "completed"))


Commands.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestCommands = Commands.TestCase
