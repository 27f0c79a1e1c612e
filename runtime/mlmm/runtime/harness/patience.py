"""Redis away: pause and try again, with a bound; then the process ends and says so."""

import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mlmm.runtime.connections import redis_refusal
from mlmm.runtime.errors import ServiceUnavailable

__all__ = ["Patience"]

T = TypeVar("T")

_PASSING = re.compile(r"(?:^|[\s-])(?:OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|LOADING|BUSY)\s")
"""Codes of refusals that pass. Redis before 7 gives a script's in the middle of its message: ``ERR Error running script
(...): -OOM command not allowed``; the library cuts off a code at the beginning that it has a class for."""


class Patience:
    """Tries calls to Redis again while it is away.

    Parameters
    ----------
    give_up_after : float
        Seconds for which one call is tried.
    address : str
        Where Redis is, without credentials, for the error.
    on_retry : Callable
        Called before each further try with the error.
    """

    _FIRST, _LONGEST = 0.05, 2.0

    def __init__(self, give_up_after: float, address: str, on_retry: Callable[[Exception], None]) -> None:
        self._give_up_after = give_up_after
        self._address = address
        self._on_retry = on_retry
        self._closed = threading.Event()

    def close(self) -> None:
        """Let waiting calls fail now: the process is ending for another reason."""
        self._closed.set()

    def __call__(self, call: Callable[[], T]) -> T:
        """Run a call that may be repeated without harm: a claim, a read, a commit with its id, a pop by name.

        Raises
        ------
        ServiceUnavailable
            Redis stayed away, or would not take writes (out of memory, read-only, loading).
        """
        from redis import exceptions  # noqa: PLC0415 - this module loads without redis

        deadline = time.monotonic() + self._give_up_after
        pause = self._FIRST
        while True:
            try:
                return call()
            except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
                raise self._refused(error) from error
            except (
                exceptions.ConnectionError,
                exceptions.TimeoutError,
                exceptions.BusyLoadingError,
                exceptions.ReadOnlyError,
                exceptions.OutOfMemoryError,
                exceptions.ClusterDownError,
                exceptions.TryAgainError,
            ) as error:
                cause: Exception = error
            except exceptions.ResponseError as error:
                if not _PASSING.search(str(error)):
                    raise self._refused(error) from error
                cause = error
            self._on_retry(cause)
            if time.monotonic() + pause > deadline or self._closed.wait(pause):
                raise ServiceUnavailable(
                    "Redis",
                    self._address,
                    f"away for {self._give_up_after:g} s: {cause}",
                    remedy="The worker ends without acknowledging; nothing is lost. Start Redis, then the worker",
                ) from cause
            pause = min(pause * 2, self._LONGEST)

    def _refused(self, error: Exception) -> Exception:
        told = redis_refusal(error)
        return ServiceUnavailable("Redis", self._address, told[0], remedy=told[1]) if told else error
