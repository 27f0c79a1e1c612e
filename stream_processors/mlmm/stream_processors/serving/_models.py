"""Which models a partition has, and which series their features: names to slots in the arrays."""

from collections.abc import Iterator, Sequence

import numpy as np

from mlmm.events import MalformedEvent, PredictionHead

from ._arrays import grown
from ._fields import GROUP
from ._store import Store

__all__ = ["Growing", "Model", "Models"]

_KEPT = 1 << 19
"""Series of heads, and heads, that are kept between polls, so that equal heads are looked up once."""
_KEPT_CHARACTERS = 8 << 20
"""Characters of names in the heads that are kept: each may have thousands of long ones."""


class Growing:
    """A growing table of int64 that kernels see as an array."""

    def __init__(self) -> None:
        self._values = np.zeros(64, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, values: Sequence[int]) -> None:
        """Append values."""
        end = self._count + len(values)
        if end > len(self._values):
            self._values = grown(self._values, 2 * end)
        self._values[self._count : end] = values
        self._count = end

    def array(self) -> np.ndarray:
        """All values."""
        return self._values[: self._count]


class Model:
    """One island of the partition: a record key, its slot and its features.

    Parameters
    ----------
    key : bytes
        The record key: the model's name, or ``name#shard``.
    name : str
        The model's name.
    slot : int
        Its row in the arrays.
    """

    __slots__ = ("features", "groups", "heads", "key", "name", "named", "series", "slot")

    def __init__(self, key: bytes, name: str, slot: int) -> None:
        self.key = key
        self.name = name
        self.slot = slot
        self.features: dict[str, int] = {}
        """Feature → series."""
        self.series: dict[int, str] = {}
        """Series → feature."""
        self.groups: list[int] = []
        self.heads: dict[PredictionHead, int] = {}
        """Head → its number among those that are known."""
        self.named = False
        """Whether its feature names are in a cell as they are."""


class Models:
    """All models of a partition.

    Parameters
    ----------
    store : Store
        Where their rows lie.
    max_models : int
        Models that may be; records of more are malformed.
    max_features : int
        Features a model that have a series; more are counted and left out.
    watch : bool
        Whether features are watched at all.
    """

    def __init__(self, store: Store, max_models: int, max_features: int, *, watch: bool) -> None:
        self._store = store
        self._max_models = max_models
        self._max_features = max_features
        self._watch = watch
        self._by_key: dict[bytes, Model] = {}
        self.by_slot: list[Model] = []
        self.table = Growing()
        """Series of each feature of each head that is known, -1 where it is left out."""
        self.described = Growing()
        """Of each head that is known: task, code of the positive class, first index into ``table``, features a row."""
        self.by_group: list[tuple[Model, int]] = []
        """Group → its model and its number there."""
        self.get = self._by_key.get
        self._characters = 0

    def __iter__(self) -> Iterator[Model]:
        return iter(self.by_slot)

    def make(self, key: bytes, name: str) -> Model:
        """Make a model.

        Raises
        ------
        MalformedEvent
            Where there are as many as may be.
        """
        if len(self.by_slot) >= self._max_models:
            raise MalformedEvent(
                f"{name!r} is one model too many: {self._max_models} a partition are monitored (serving.max_models)",
                field="head.model",
            )
        return self.restore(key, name)

    def restore(self, key: bytes, name: str) -> Model:
        """Make a model, whatever the bound: it was there before."""
        model = Model(key, name, self._store.add_model())
        self._by_key[key] = model
        self.by_slot.append(model)
        return model

    def head(self, model: Model, head: PredictionHead, task: int, positive: int) -> int:
        """Number a head of a model, with what its blocks need to know."""
        start = len(self.table)
        width = len(head.features) if self._watch else 0
        self.table.extend([self.feature(model, name) for name in head.features[:width]])
        number = model.heads[head] = len(self.described) // 4
        self._characters += sum(map(len, (*head.features, *head.categories, *head.segments)))
        self.described.extend((task, positive, start, width))
        return number

    def feature(self, model: Model, name: str) -> int:
        """Series of a feature, made where it is new; -1 beyond the bound."""
        series = model.features.get(name)
        if series is None:
            if len(model.features) >= self._max_features:
                return -1
            series = self.restore_feature(model, name)
        return series

    def restore_feature(self, model: Model, name: str) -> int:
        """Make the series of a feature, whatever the bound."""
        number = len(model.features)
        if number % GROUP == 0:
            group = self._store.add_group()
            self.by_group.append((model, len(model.groups)))
            model.groups.append(group)
        group = model.groups[-1]
        series = self._store.add_series(group)
        self._store.series.members[group, number % GROUP] = series
        self._store.series.touched[group] = 1
        model.features[name] = series
        model.series[series] = name
        model.named = False
        return series

    def forget(self) -> None:
        """Let go of the heads when they have become many: they are looked up anew."""
        if len(self.table) > _KEPT or len(self.described) > _KEPT or self._characters > _KEPT_CHARACTERS:
            self._characters = 0
            self.table = Growing()
            self.described = Growing()
            for model in self.by_slot:
                model.heads.clear()
