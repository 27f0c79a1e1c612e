"""What importing the contract costs a user's process."""

import subprocess
import sys
from pathlib import Path

import mlmm.events

HEAVY = {"numpy", "kafka", "faust", "redis", "yaml", "asyncio"}


def test_importing_and_using_the_contract_loads_nothing_heavy():
    golden = Path(__file__).parent / "golden" / "predictions-mixed.columns"
    code = (
        "import sys, pathlib, mlmm.events as e\n"
        f"raw = pathlib.Path({str(golden)!r}).read_bytes()\n"
        "e.encode_json(e.decode_events('mlmm.predictions.v1', e.COLUMNS_TYPE, raw)); e.new_id()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(out.split())


def test_every_public_name_is_there():
    assert all(hasattr(mlmm.events, name) for name in mlmm.events.__all__)
    assert sorted(set(mlmm.events.__all__), key=_order) == mlmm.events.__all__


def _order(name):
    """Constants, classes, functions: as ruff sorts ``__all__``."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
