"""Drift detectors on plain numbers: usable without Kafka, Redis or any other part of MLMM.

Everything is loaded on first use, since numba takes more than half a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adwin_kernels import (
        ADWIN_LEVELS,
        LARGEST,
        AdwinArrays,
        adwin_arrays,
        adwin_estimation,
        adwin_grow,
        adwin_pack,
        adwin_packed_size,
        adwin_push,
        adwin_reset,
        adwin_unpack,
        usable,
    )
    from .compiled import kernel
    from .packing import get_f64, get_u32, put_f64, put_u32
    from .page_hinkley_kernels import (
        BOTH,
        DOWN,
        UP,
        PageHinkleyArrays,
        page_hinkley_arrays,
        page_hinkley_direction,
        page_hinkley_grow,
        page_hinkley_pack,
        page_hinkley_packed_size,
        page_hinkley_push,
        page_hinkley_reset,
        page_hinkley_since,
        page_hinkley_unpack,
    )

__all__ = [
    "ADWIN_LEVELS",
    "BOTH",
    "DOWN",
    "LARGEST",
    "UP",
    "AdwinArrays",
    "PageHinkleyArrays",
    "adwin_arrays",
    "adwin_estimation",
    "adwin_grow",
    "adwin_pack",
    "adwin_packed_size",
    "adwin_push",
    "adwin_reset",
    "adwin_unpack",
    "get_f64",
    "get_u32",
    "kernel",
    "page_hinkley_arrays",
    "page_hinkley_direction",
    "page_hinkley_grow",
    "page_hinkley_pack",
    "page_hinkley_packed_size",
    "page_hinkley_push",
    "page_hinkley_reset",
    "page_hinkley_since",
    "page_hinkley_unpack",
    "put_f64",
    "put_u32",
    "usable",
]

_MODULES = ("compiled", "packing", "adwin_kernels", "page_hinkley_kernels")


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in _MODULES:
            loaded = import_module(f".{module}", __name__)
            if name in loaded.__all__:
                value: object = getattr(loaded, name)
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
