"""The command where only what emitting needs is installed."""

import sys

import pytest

from mlmm.console import entry


@pytest.mark.parametrize("module", ["typer", "rich.console"])
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("mlmm.console.") and name != "mlmm.console.entry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("mlmm.console.cli", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    assert entry.main() == 2
    said = capsys.readouterr().err
    assert module in said
    assert "pip install 'mlmm[console]'" in said
    assert "Traceback" not in said
