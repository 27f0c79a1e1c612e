"""Optional dependencies: imported where they are used, and named with their extra where they are missing."""

import importlib
from types import ModuleType

from mlmm.runtime.errors import MissingExtra

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Return the module, imported.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"redis.asyncio"``.
    extra : str
        The extra of the distribution ``mlmm`` that brings it.
    purpose : str
        What needs it; the message begins with it.

    Raises
    ------
    MissingExtra
        Where it is not installed. An import that fails inside an installed module is raised as it is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtra(module, extra=extra, purpose=purpose) from error
