"""Under ``NUMBA_DISABLE_JIT=1`` (coverage) hashes are reckoned by numpy scalars, which warn where they wrap around."""

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _hashes_wrap_around() -> Iterator[None]:
    with np.errstate(over="ignore"):
        yield
