"""A processor as plain as can be: counts and sums per key, speaks up after every k events and at deadlines.

A value is a msgpack list of integers, or ``{"arm": n}``: then a deadline is due n microseconds of log time later.
Layout 1 of a cell is three numbers; layout 2 has its number before them.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from mlmm.events.errors import MalformedEvent
from mlmm.runtime.deadletters import dead_letter
from mlmm.runtime.processor import Output, Record
from mlmm.runtime.ticks import is_tick

_CELL = struct.Struct("<qqq")


class CountingState:
    def __init__(self, every: int, layout: int = 1, layouts: Sequence[int] = (1,)) -> None:
        self.every, self.layout, self.layouts = every, layout, layouts
        self.sums: dict[bytes, list[int]] = {}
        self._touched: set[bytes] = set()
        self._events = 0

    def load(self, cells: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in cells:
            layout = 1 if len(value) == _CELL.size else value[0]
            if layout not in self.layouts:
                raise ValueError(f"cell {key!r}: layout {layout}, this version reads {self.layouts}")
            self.sums[key] = list(_CELL.unpack(value[-_CELL.size :]))

    def _cell(self, key: bytes) -> bytes:
        return (b"" if self.layout == 1 else bytes([self.layout])) + _CELL.pack(*self.sums[key])

    def process(self, records: Sequence[Record]) -> list[Output]:
        outputs: list[Output] = []
        for record in records:
            if is_tick(record):
                self._fire(record, outputs)
                continue
            try:
                values = msgspec.msgpack.decode(record.value)
            except msgspec.DecodeError as error:
                outputs.append(dead_letter(record, MalformedEvent(str(error), field="value")))
                continue
            cell = self.sums.setdefault(record.key, [0, 0, 0])
            self._touched.add(record.key)
            if isinstance(values, dict):
                cell[2] = record.log_time + values["arm"]
                continue
            self._events += len(values)
            for value in values:
                cell[0] += 1
                cell[1] += value
                if cell[0] % self.every == 0:
                    outputs.append(self._output(record, record.key, f"{cell[0]}", cell, record.log_time))
        return outputs

    def _fire(self, record: Record, outputs: list[Output]) -> None:
        for key in sorted(self.sums):
            cell = self.sums[key]
            if cell[2] and cell[2] <= record.log_time:
                due, cell[2] = cell[2], 0
                self._touched.add(key)
                outputs.append(self._output(record, key, "due", cell, due))

    @staticmethod
    def _output(record: Record, key: bytes, what: str, cell: list[int], time: int) -> Output:
        body = {"count": cell[0], "sum": cell[1]}
        return Output(
            topic="findings",
            key=key,
            type="mlmm.report.v1",
            id=f"{key.decode()}:{what}",
            time=time,
            value=msgspec.json.encode(body),
            offset=record.offset,
        )

    def changed(self) -> Mapping[bytes, bytes | None]:
        changed = {key: self._cell(key) for key in self._touched}
        self._touched = set()
        return changed

    def cells(self) -> Mapping[bytes, bytes]:
        return {key: self._cell(key) for key in self.sums}

    def deadline(self) -> int | None:
        return min((cell[2] for cell in self.sums.values() if cell[2]), default=None)

    def counters(self) -> Mapping[str, int]:
        return {"events": self._events}


class Counting:
    """Reads ``serving`` unless told otherwise."""

    def __init__(
        self,
        name: str = "counting",
        input: str = "serving",  # noqa: A002 - the door's name
        every: int = 10,
        layouts: Sequence[int] = (1,),
    ) -> None:
        self.name, self.input, self.every, self.layouts = name, input, every, tuple(layouts)

    def state(self, layout: int | None = None) -> CountingState:
        return CountingState(self.every, layout or self.layouts[-1], self.layouts)

    def key_of(self, cell: bytes) -> bytes:
        return cell
