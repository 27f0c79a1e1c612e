"""What can't be replayed."""

from mlmm.runtime.errors import SettingsError

__all__ = ["WrongInput"]


class WrongInput(SettingsError):  # noqa: N818 - the name is what a reader of a log needs
    """A file, a column or a folder that can't be replayed; says which, and what there is instead."""
