"""Serving: predictions joined with late labels, windows on event time, drift of the error and of each feature.

A pure processor on columns: compiled kernels walk the events of a poll, Python sees records, never events. The parts:
``_intake`` decodes, ``_fold`` walks the events and ``_watch`` the features; ``_ids`` and ``_table`` find a prediction
again, ``_rows`` keeps what waits, ``_join`` joins, ``_windows``, ``_sketch`` and ``_pairs`` accumulate, ``_series``
detects; ``_emit`` says it in words; ``_pack``, ``_cells`` and ``_load`` keep it.
"""

from typing import TYPE_CHECKING

from ._processor import ServingProcessor

if TYPE_CHECKING:
    from ._state import ServingState

__all__ = ["ServingProcessor", "ServingState"]


def __getattr__(name: str) -> object:
    if name == "ServingState":  # numba takes more than half a second
        from ._state import ServingState  # noqa: PLC0415

        return ServingState
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
