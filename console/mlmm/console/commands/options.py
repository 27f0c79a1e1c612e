"""Options that many commands share, and loading the settings with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlmm.runtime.settings import Settings

__all__ = ["AsJson", "Config", "load_settings"]

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; else $MLMM_CONFIG, else ./mlmm.toml.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, nothing else.")]


def load_settings(config: Path | None, arguments: Mapping[str, Any] | None = None) -> "Settings":
    """Load the settings: arguments, environment, file, defaults, in this order."""
    from mlmm.runtime.settings import load

    return load(config, arguments=arguments)
