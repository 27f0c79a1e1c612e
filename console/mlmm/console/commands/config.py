"""``mlmm config show``: what the settings are and where each value comes from."""

import typer

from mlmm.console.commands.options import AsJson, Config, load_settings
from mlmm.console.screen import print_json, print_table

app = typer.Typer(no_args_is_help=True, help="What the settings are, and where each value comes from.")


@app.command()
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Print every setting with its value and origin. Secrets are masked."""
    settings = load_settings(config)
    rows = settings.rows()
    if as_json:
        print_json({"key": key, "value": value, "origin": origin} for key, value, origin in rows)
    else:
        print_table("Settings", ("key", "value", "from"), rows)
