"""The cache of kernels is never stale, and its absence is never an error."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlmm.detectors._sources import source_digest

PROBE = """
    from mlmm.detectors.compiled import kernel
    from mlmm.probe.inner import FACTOR, double

    @kernel
    def outer(x):
        return FACTOR * double(x)
"""
INNER = """
    from mlmm.detectors.compiled import kernel
    from .deep import SHIFT

    FACTOR = {factor}

    @kernel
    def double(x):
        return x + x + SHIFT
"""
RUN = """
    from mlmm.probe import outer
    value = outer.outer(2.0)
    stats = getattr(outer.outer, "stats", None)
    print(value, sum(stats.cache_hits.values()) if stats else "interpreted")
"""


@pytest.fixture
def room(tmp_path):
    """A room of our namespace in a folder of its own, as another distribution would add one."""
    package = tmp_path / "mlmm" / "probe"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("SHIFT = 0.0\n")
    (package / "other.py").write_text("UNRELATED = 1\n")
    (package / "inner.py").write_text(textwrap.dedent(INNER.format(factor=1.0)))
    (package / "outer.py").write_text(textwrap.dedent(PROBE))
    return package


def run(room, code=RUN, **environment):
    env = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    env |= {"PYTHONPATH": str(room.parents[1])} | environment
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_cache_is_used_until_a_module_that_the_kernel_reaches_changes(room):
    """numba alone would load the stale kernel in the second and third change."""
    assert run(room) == ["4.0", "0"]
    assert run(room) == ["4.0", "1"]
    (room / "other.py").write_text("UNRELATED = 2\n")
    assert run(room) == ["4.0", "1"]
    (room / "inner.py").write_text(textwrap.dedent(INNER.format(factor=10.0)))
    assert run(room) == ["40.0", "0"]
    (room / "deep.py").write_text("SHIFT = 0.5\n")
    assert run(room) == ["45.0", "0"]
    assert run(room) == ["45.0", "1"]
    assert len(list((room / "__pycache__").glob("outer.outer-*.nbi"))) == 1, "older ones are removed"


def test_without_a_place_to_write_kernels_compile_in_memory(room):
    (room / "__pycache__").write_text("a file where the folder would be")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    assert run(room, **nowhere) == ["4.0", "0"]
    assert run(room, **nowhere) == ["4.0", "0"]


def test_a_cache_that_can_only_be_read_is_read(room):
    """As in an image whose build compiled the kernels and whose root is read-only."""
    assert run(room) == ["4.0", "0"]
    read_only = """
        import os
        from numba.core import caching
        def refuse(self):
            raise OSError("read-only file system")
        caching._CacheLocator.ensure_cache_path = refuse
    """
    assert run(room, textwrap.dedent(read_only) + textwrap.dedent(RUN)) == ["4.0", "1"]
    (room / "deep.py").write_text("SHIFT = 0.5\n")
    assert run(room, textwrap.dedent(read_only) + textwrap.dedent(RUN)) == ["4.5", "0"]


def test_a_disk_that_fails_after_the_start_costs_only_the_cache(room):
    full = """
        from numba.core import caching
        def refuse(self, *arguments):
            raise OSError("no space left on device")
        caching.IndexDataCacheFile.save = refuse
    """
    assert run(room, textwrap.dedent(full) + textwrap.dedent(RUN)) == ["4.0", "0"]


def test_kernels_are_plain_functions_without_the_compiler(room):
    assert run(room, NUMBA_DISABLE_JIT="1") == ["4.0", "interpreted"]


def test_detectors_give_the_same_bytes_without_the_compiler(room):
    code = """
        import hashlib, warnings
        warnings.simplefilter("error")
        import numpy as np
        from mlmm.detectors import ADWINBank, CalibratedBank, PageHinkleyBank
        from tests.detectors.streams import STREAMS, stream
        matrix = np.column_stack([stream(name, 9) for name in STREAMS])[1300:1800]
        matrix[::17] = np.nan
        digest = hashlib.sha256()
        for bank in (
            ADWINBank(len(STREAMS), clock=5),
            PageHinkleyBank(len(STREAMS), threshold=5.0),
            CalibratedBank(len(STREAMS), mean_time_between_false_alarms=1e3),
            CalibratedBank(len(STREAMS), mean_time_between_false_alarms=1e3, distribution="normal"),
        ):
            alarms = bank.update_many(matrix)
            assert len(alarms)
            digest.update(alarms.tobytes() + bank.to_bytes())
            assert type(bank).from_bytes(bank.to_bytes()).to_bytes() == bank.to_bytes()
        print(digest.hexdigest())
    """
    root = str(Path(__file__).parents[2])
    assert run(room, code, PYTHONPATH=root) == run(room, code, PYTHONPATH=root, NUMBA_DISABLE_JIT="1")


def test_importing_the_room_loads_no_compiler(room):
    code = """
        import sys
        import mlmm.detectors
        mlmm.detectors.detector_names()
        print("numba" in sys.modules)
    """
    assert run(room, code) == ["False"]


def test_the_digest_follows_every_way_to_import(room, monkeypatch):
    import mlmm

    monkeypatch.setattr(mlmm, "__path__", [*mlmm.__path__, str(room.parent)])
    file = room / "outer.py"
    for line in (
        "from mlmm.probe import deep",
        "from mlmm.probe.deep import SHIFT",
        "import mlmm.probe.deep as d",
        "from . import deep",
        "from .deep import SHIFT",
        "from mlmm.probe import (\n    other,\n    deep,\n)",
        "NAME = 'mlmm.probe.deep'",
    ):
        file.write_text(line + "\n")
        source_digest.cache_clear()
        (room / "deep.py").write_text("SHIFT = 0.0\n")
        before = source_digest(str(file), "mlmm.probe.outer")
        source_digest.cache_clear()
        (room / "deep.py").write_text("SHIFT = 1.0\n")
        assert source_digest(str(file), "mlmm.probe.outer") != before, line
    source_digest.cache_clear()
