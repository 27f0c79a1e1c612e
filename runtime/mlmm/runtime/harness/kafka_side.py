"""What the engine asks of Kafka, whoever answers: Faust's consumer, or a list in a test."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mlmm.runtime.claims import Log

__all__ = ["Input", "Place"]


class Place(NamedTuple):
    """A partition of an input topic (full name); equal to Faust's and aiokafka's named tuples."""

    topic: str
    partition: int


class Input(Protocol):
    """A consumer of the assigned partitions."""

    async def fetch(self, active: set[Place], seconds: float) -> Mapping[Any, Sequence[Any]]:
        """Whole polls of the active partitions, waiting for so long; empty while there is nothing or a rebalance."""

    async def seek(self, offsets: Mapping[Place, int]) -> None:
        """Fetch from these offsets next."""

    async def logs(self, places: Iterable[Place]) -> dict[Place, Log]:
        """Say what Kafka knows of these partitions."""

    async def first(self, place: Place) -> int:
        """Offset of the oldest record that is left, asked of Kafka."""

    async def advise(self, offsets: Mapping[Place, int]) -> None:
        """Tell Kafka the offsets, for lag tools; failures do not matter."""

    def end(self, place: Place) -> int | None:
        """End of the log as last heard, without asking."""
