"""Two versions on one deployment: side by side, one taken back, both moved on, and the old one refused."""

from pathlib import Path

import pytest

from mlmm.console.cli import main
from mlmm.console.upgrading import show_states, upgrade_states
from mlmm.runtime.harness import Exit
from mlmm.runtime.store import Keys
from tests.runtime.counting import Counting
from tests.runtime.rig import Rig, Worker
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

OLD, NEW = [{"layouts": [1]}], [{"layouts": [1, 2]}]
PROCESSORS = [Counting(layouts=(1, 2))]


def layouts(rig: Rig) -> set[int]:
    """Layouts of the cells as they lie there."""
    return {2 if len(value) == 25 else 1 for n in range(3) for value in rig.state(n)[1].values()}


def replace(rig: Rig, workers: dict[str, Worker], slot: str, version: list[dict[str, list[int]]]) -> None:
    assert workers[slot].terminate() == Exit.FINE
    workers[slot] = rig.start(slot, processors=version)


def test_versions_side_by_side_one_taken_back_then_all_moved_on(tmp_path: Path, kafka: str, redis_url: str):
    with Rig(tmp_path, kafka, redis_url) as rig:
        workers = {"0": rig.start("0", processors=OLD)}
        rig.send_many(100, 5, 1)
        rig.wait_until_caught_up()
        workers["1"] = rig.start("1", processors=NEW)
        wait_until(lambda: workers["1"].says("partition claimed"), timeout=90, what="the new version to own some")
        rig.send_many(100, 5, 2)
        rig.wait_until_caught_up()
        assert layouts(rig) == {1}, "what the new version writes, the old one can read"

        replace(rig, workers, "1", OLD)
        rig.send_many(100, 5, 3)
        rig.wait_until_caught_up()
        rig.assert_exact()

        for slot in ("0", "1"):
            replace(rig, workers, slot, NEW)
            rig.send_many(50, 5, 4)
        rig.wait_until_caught_up()
        assert layouts(rig) == {1}
        assert {each.layout for each in show_states(rig.settings, PROCESSORS)} == {1}

        rig.send_many(100, 5, 5)
        rig.producer.flush()
        upgrade_states(rig.settings, PROCESSORS, wait=0)

        def moved_on() -> bool:
            for slot, worker in workers.items():
                if worker.process.poll() is not None:  # fenced; its supervisor starts it again
                    assert worker.process.returncode == Exit.FAILED
                    workers[slot] = rig.start(slot, processors=NEW)
            return all(each.layout == 2 for each in show_states(rig.settings, PROCESSORS))

        wait_until(moved_on, timeout=120, what="all states to be rewritten", every=0.2)
        assert layouts(rig) == {2}
        rig.wait_until_caught_up()
        assert [each.layout for each in upgrade_states(rig.settings, PROCESSORS, wait=0)] == [2, 2, 2]

        too_old = rig.start("2", processors=OLD)
        assert too_old.ended(120) == Exit.STATE_REFUSED
        assert too_old.says("this version reads 1: the worker is too old")
        rig.send_many(100, 5, 6)
        rig.wait_until_caught_up()
        assert all(worker.process.poll() is None for worker in workers.values()), "it disturbed nobody"
        rig.assert_exact()
        assert layouts(rig) == {2}


def test_the_command_says_how_states_stand(
    tmp_path: Path, kafka: str, redis_url: str, capsys: pytest.CaptureFixture[str]
):
    with Rig(tmp_path, kafka, redis_url) as rig:
        config = tmp_path / "mlmm.toml"
        config.write_text(f'deployment = "{rig.name}"\n[redis]\nurl = "{redis_url}"\n')
        given = ["--config", str(config)]
        assert main(["state", "show", *given]) == 0
        assert "no state was ever made" in capsys.readouterr().err
        rig.redis.hset(Keys.of(rig.name, "training", 0).meta, mapping={"offset": 17, "epoch": 3})
        assert main(["state", "show", "--json", *given]) == 0
        shown = capsys.readouterr().out
        assert '"offset":17' in shown.replace(" ", "")
        assert main(["state", "upgrade", "--yes", *given]) == 0
        assert "nothing to upgrade" in capsys.readouterr().err
        rig.redis.hset(Keys.of(rig.name, "training", 0).meta, "state_layout", 9)
        assert main(["state", "upgrade", "--yes", *given]) == 1
        assert "newer layout" in capsys.readouterr().err
