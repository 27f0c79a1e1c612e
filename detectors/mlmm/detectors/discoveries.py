"""Online control of the false discovery rate: the level at which the next p-value may be believed.

One hypothesis after the other, each decided before the next is seen. A procedure spends a budget of error on tests and
earns some back with each discovery, so it goes on for ever.
"""

import math
import struct
from abc import ABC, abstractmethod
from itertools import islice
from typing import ClassVar, Self

from . import _envelope
from ._parameters import number

__all__ = ["LOND", "LORD", "SAFFRON", "DiscoveryControl"]

_HEAD = struct.Struct("<ddqqqI")
_MOST_DISCOVERIES = 10_000


class DiscoveryControl(ABC):
    """What the procedures share.

    Parameters
    ----------
    alpha : float
        The false discovery rate that is kept, in (0, 1).
    """

    _KIND: ClassVar[str]
    _LAYOUT: ClassVar[int] = 1

    def __init__(self, alpha: float = 0.05) -> None:
        self.alpha = number("alpha", alpha, above=0.0, below=1.0)
        self._tests = 0
        self._candidates = 0
        self._discoveries = 0
        self._spent = 0.0
        # Of each discovery, newest last: the test and the candidates by then. Those beyond the bound earn nothing any
        # more, which only makes levels lower.
        self._found: list[tuple[int, int]] = []

    @property
    def tests(self) -> int:
        """Hypotheses tested."""
        return self._tests

    @property
    def discoveries(self) -> int:
        """Hypotheses rejected."""
        return self._discoveries

    @property
    def spent(self) -> float:
        """Sum of the levels so far: no more false discoveries than that are expected if nothing is true."""
        return self._spent

    @abstractmethod
    def level(self) -> float:
        """Level at which the next hypothesis is tested."""

    def test(self, p_value: float) -> bool:
        """Decide the next hypothesis.

        Parameters
        ----------
        p_value : float
            In 0..1.

        Returns
        -------
        bool
            Whether it is a discovery.

        Raises
        ------
        ValueError
            For anything that is no probability; nothing is spent then.
        """
        p = number("p_value", p_value, least=0.0, most=1.0)
        level = self.level()
        self._tests += 1
        self._spent += level
        self._candidates += self._is_candidate(p)
        if p > level:
            return False
        self._discoveries += 1
        self._found.append((self._tests, self._candidates))
        if len(self._found) > _MOST_DISCOVERIES:
            # The first one earns another amount than those after it: it stays.
            del self._found[1]
        return True

    def _is_candidate(self, p_value: float) -> bool:  # noqa: ARG002 - SAFFRON's own
        return False

    def to_bytes(self) -> bytes:
        """Parameters and state; equal for equal histories."""
        head = _HEAD.pack(self.alpha, self._spent, self._tests, self._candidates, self._discoveries, len(self._found))
        pairs = (part for pair in self._found for part in pair)
        return _envelope.wrap(self._KIND, self._LAYOUT, head + struct.pack(f"<{2 * len(self._found)}q", *pairs))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make it again from `to_bytes`; ``ValueError`` for damaged or foreign bytes."""
        body = _envelope.unwrap(data, cls._KIND, cls._LAYOUT)
        try:
            alpha, spent, tests, candidates, discoveries, kept = _HEAD.unpack_from(body)
            parts = struct.unpack_from(f"<{2 * kept}q", body, _HEAD.size)
            control = cls(alpha)
        except (struct.error, ValueError) as error:
            raise _envelope.damaged(cls._KIND, str(error)) from error
        found = list(zip(parts[::2], parts[1::2], strict=True))
        whole = len(body) == _HEAD.size + 16 * kept and kept == min(discoveries, _MOST_DISCOVERIES)
        ordered = all(0 < one < other for (one, _), (other, _) in zip(found, islice(found, 1, None), strict=False))
        if not whole or not ordered or not 0 <= candidates <= tests or not 0 <= spent < math.inf:
            raise _envelope.damaged(cls._KIND, "its counts make no sense")
        if found and not 0 < found[0][0] <= found[-1][0] <= tests:
            raise _envelope.damaged(cls._KIND, "its discoveries make no sense")
        control._tests, control._candidates, control._discoveries = tests, candidates, discoveries
        control._spent, control._found = spent, found
        return control


class LORD(DiscoveryControl):
    """LORD++: levels that rise with each discovery; for p-values that are independent.

    Keeps the false discovery rate at `alpha` where the p-values of the true hypotheses are independent of all others.

    Parameters
    ----------
    alpha : float
        The false discovery rate that is kept, in (0, 1).

    Examples
    --------
    >>> control = LORD(0.1)
    >>> [control.test(p) for p in (1e-6, 0.5, 0.0004, 0.9)]
    [True, False, True, False]

    References
    ----------
    Ramdas, Yang, Wainwright and Jordan, "Online control of the false discovery rate with decaying memory", NeurIPS
    2017.
    """

    _KIND = "lord"

    def level(self) -> float:
        """Level at which the next hypothesis is tested."""
        t, start = self._tests + 1, self.alpha / 2
        earned = [t - at for at, _ in self._found]
        later = sum(map(_gamma, earned[1:]))
        first = (self.alpha - start) * _gamma(earned[0]) if earned else 0.0
        return start * _gamma(t) + first + self.alpha * later


class SAFFRON(DiscoveryControl):
    """SAFFRON: as `LORD`, and spends nothing on p-values that could be no discovery; for p-values that are independent.

    Finds more than `LORD` where many hypotheses are false. A p-value above one half costs nothing.

    Parameters
    ----------
    alpha : float
        The false discovery rate that is kept, in (0, 1).

    Examples
    --------
    >>> control = SAFFRON(0.1)
    >>> [control.test(p) for p in (1e-6, 0.5, 0.0004, 0.9)]
    [True, False, True, False]

    References
    ----------
    Ramdas, Zrnic, Wainwright and Jordan, "SAFFRON: an adaptive algorithm for online control of the false discovery
    rate", ICML 2018.
    """

    _KIND = "saffron"
    _CANDIDATE = 0.5

    def _is_candidate(self, p_value: float) -> bool:
        return p_value <= self._CANDIDATE

    def level(self) -> float:
        """Level at which the next hypothesis is tested."""
        t, start = self._tests + 1, self.alpha / 2

        def after(at: int, candidates: int) -> int:
            """Tests since, less those that were candidates since, the discovery itself aside."""
            return t - at - (self._candidates - candidates)

        earned = [_gamma(after(at, candidates)) for at, candidates in self._found]
        later = sum(earned[1:])
        first = (self.alpha - start) * earned[0] if earned else 0.0
        level = start * _gamma(t - self._candidates) + first + self.alpha * later
        return min(self._CANDIDATE, (1 - self._CANDIDATE) * level)


class LOND(DiscoveryControl):
    """LOND with reshaped levels: holds however the p-values depend on one another, and finds less for it.

    The default where features are correlated and one batch serves many tests.

    Parameters
    ----------
    alpha : float
        The false discovery rate that is kept, in (0, 1).

    Examples
    --------
    >>> control = LOND(0.1)
    >>> [control.test(p) for p in (1e-6, 0.5, 0.0004, 0.9)]
    [True, False, True, False]

    References
    ----------
    Javanmard and Montanari, "Online rules for control of false discovery rate and false discovery exceedance", Annals
    of Statistics 46, 2018. Zrnic, Ramdas and Jordan, "Asynchronous online testing of multiple hypotheses", JMLR 22,
    2021.
    """

    _KIND = "lond"

    def level(self) -> float:
        """Level at which the next hypothesis is tested."""
        t = self._tests + 1
        return self.alpha * _gamma(t) / _harmonic(t) * (self._discoveries + 1)


_HARMONIC = [0.0]


def _harmonic(n: int) -> float:
    """Sum of 1/i for i of 1..n."""
    if n > 10_000:
        return math.log(n) + 0.5772156649015329 + 1 / (2 * n)
    while len(_HARMONIC) <= n:
        _HARMONIC.append(_HARMONIC[-1] + 1 / len(_HARMONIC))
    return _HARMONIC[n]


# Ramdas and others' weights, log(j) / (j exp(sqrt(log j))); the factor makes the sum over all j at most one.
_FACTOR = 0.07908


def _gamma(j: int) -> float:
    if j < 1:
        return 0.0
    return _FACTOR * math.log(max(j, 2)) / (j * math.exp(math.sqrt(math.log(j))))
