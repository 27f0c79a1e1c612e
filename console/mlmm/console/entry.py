"""Where ``mlmm`` begins: an installation without the command line's extra is told so, in a sentence."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; return the exit code, 2 where what it needs is not installed."""
    try:
        from mlmm.console import cli
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "mlmm":
            raise
        missing = f"the command line needs {error.name!r}, which is not installed: pip install 'mlmm[console]'"
        sys.stderr.write(f"mlmm: {missing} (or 'mlmm[all]', with the demo)\n")
        return 2
    return cli.main()
