"""Compilation of kernels: numba, cached so that the cache is never stale and its absence never an error.

Kernels of any room are declared with `kernel`. Where neither the package's ``__pycache__`` nor a home directory can be
written, a cache that an image build left beside the source is still read; without one kernels compile in each process.
``NUMBA_DISABLE_JIT=1`` turns every kernel into the Python function that it is written as (coverage, debugging).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar, cast, overload

import numba
from numba.core import caching, config

from ._sources import source_digest

__all__ = ["kernel"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


@overload
def kernel(function: _Function) -> _Function: ...
@overload
def kernel(*, inline: bool = False, allocates: bool = False) -> Callable[[_Function], _Function]: ...
def kernel(
    function: _Function | None = None, *, inline: bool = False, allocates: bool = False
) -> _Function | Callable[[_Function], _Function]:
    """Compile a function on numbers and arrays for calls from Python and from other kernels.

    No fast-math, IEEE results for a division by zero, the GIL released. The cached code is found again only while the
    digest of the function's module and of every module of ours that it mentions is what it was.

    Parameters
    ----------
    function : callable
        A module-level function within numba's subset of Python.
    inline : bool
        Put it into its callers whatever its size: for the innermost steps.
    allocates : bool
        Whether it makes arrays, lists or other objects. A kernel that does not is compiled without reference counting;
        with it, handing a tuple of arrays around costs more than the work on a value (ADWIN: 290 ns instead of 20).

    Returns
    -------
    callable
        Numba's dispatcher, or `function` itself under ``NUMBA_DISABLE_JIT=1``.

    Examples
    --------
    >>> @kernel
    ... def twice(x):
    ...     return x + x
    >>> twice(2.5)
    5.0
    """

    def decorate(function: _Function) -> _Function:
        compiled = numba.njit(nogil=True, error_model="numpy", forceinline=inline, _nrt=allocates)(function)
        if config.DISABLE_JIT:
            return function
        try:
            compiled._cache = _KernelCache(function)  # noqa: SLF001 - what numba's own enable_caching does
        except (RuntimeError, OSError) as error:  # no place to write, or no source to read
            _log.debug("kernel is not cached", extra={"kernel": function.__qualname__, "reason": str(error)})
        return cast("_Function", compiled)

    return decorate if function is None else decorate(function)


class _ShippedLocator(caching.InTreeCacheLocator):
    """A cache beside the source that can be read but not written: compiled when an image was built."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Self | None:
        digest = source_digest(py_file, py_func.__module__)
        self = cls(py_func, py_file)
        index = f"{Path(py_file).stem}.{py_func.__qualname__}-*.{digest}.nbi"
        return self if any(Path(self.get_cache_path()).glob(index)) else None

    def ensure_cache_path(self) -> None:
        """Nothing: that it can't be written is known."""


class _KernelCacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = (
        caching.UserProvidedCacheLocator,
        caching.InTreeCacheLocator,
        _ShippedLocator,
        caching.UserWideCacheLocator,
    )

    def __init__(self, py_func: Callable[..., Any]) -> None:
        self._digest = source_digest(py_func.__code__.co_filename, py_func.__module__)
        super().__init__(py_func)

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        # In the name, not only in the stamp within: two versions at work on one directory never see one another's data.
        return f"{super().get_filename_base(fullname, abiflags)}.{self._digest}"


class _KernelCache(caching.FunctionCache):
    _impl_class = _KernelCacheImpl

    def save_overload(self, sig: object, data: object) -> None:
        """Save, and remove what older sources left; a disk that can't be written costs the cache and nothing else."""
        try:
            super().save_overload(sig, data)
            base = self._impl.filename_base
            stem = base.rpartition(".")[0]
            for file in Path(self.cache_path).glob(f"{stem}.*.nb[ic]"):
                if not file.name.startswith(base):
                    file.unlink(missing_ok=True)
        except OSError as error:
            _log.debug("kernel is not cached", extra={"kernel": self._name, "reason": str(error)})
