"""Cells: what a state is stored as, and what a damaged or foreign one is answered with."""

from hashlib import blake2b
from random import Random

import pytest

from mlmm.runtime.settings.sections import DetectorSettings
from mlmm.stream_processors.serving import ServingProcessor
from mlmm.stream_processors.serving import _fields as f

from .makers import bare, failure, label, packed, prediction, run, settings, tick


def stream(n=600, *, start=0):
    random = Random(11)
    for i in range(start, start + n):
        yield prediction(
            f"{i}", i / 20, i % 2, model="m" if i % 3 else "n#2", features={"x": random.random()}, latency=0.01
        )
        if i % 2:
            yield label(f"{i - 1}", i / 20, 1, model="m" if (i - 1) % 3 else "n#2")
    yield failure((start + n) / 20)


SMALL = settings(windows=(5.0, 20.0), last=50, detectors=DetectorSettings(baseline=50))

GOLDEN = {
    b"mm": "09765e8f6d3fcf0c",
    b"mn#2": "0c06ff1dfb0ab803",
    b"nm": "fc8462198dbfef1c",
    b"nn#2": "b96f63d6aefbe2b3",
    b"r\x00\x00\x00\x00\x00\x00\x00\x00m": "65ded619ab2f0360",
    b"r\x00\x00\x00\x00\x00\x00\x00\x00n#2": "adbfae814e9000ae",
    b"r\x00\x00\x00\x00\x00\x00\x00\x01m": "bef8a1d0bf91042d",
    b"r\x00\x00\x00\x00\x00\x00\x00\x01n#2": "6fb6dae09ab7ea78",
    b"r\x00\x00\x00\x00\x00\x00\x00\x02m": "6a0b924a66655990",
    b"s\x00\x00\x00\x00m": "b8661c28fcda381c",
    b"s\x00\x00\x00\x00n#2": "ddc8c20ca5092e1d",
}


def loaded(cells, given=SMALL):
    state = ServingProcessor(given).state()
    state.load(cells.items())
    return state


def test_a_state_goes_on_from_its_cells_as_if_nothing_had_been():
    records = packed(list(stream(1500)), Random(1))
    whole = ServingProcessor(SMALL).state()
    expected = whole.process(records)
    half = ServingProcessor(SMALL).state()
    first = half.process(records[:700])
    again = loaded(half.cells())
    assert bare([*first, *again.process(records[700:])]) == bare(expected)
    assert again.cells() == whole.cells()
    assert again.counters()["events"] == whole.counters()["events"]


def test_only_what_was_touched_is_written():
    state, _ = run(list(stream()), SMALL)
    state.changed()
    assert not state.changed()
    state.process([*packed([label("100", 31, 0, model="m")], Random(1))])
    kinds = sorted(name[:1] for name in state.changed())
    assert kinds == [b"m", b"r"]


def test_a_chunk_whose_rows_left_is_gone():
    state, _ = run([prediction("a", 0), prediction("b", 1)])
    (chunk,) = (name for name in state.changed() if name[:1] == b"r")
    state.process(packed([tick(500)], Random(1)))
    assert state.changed()[chunk] is None
    assert chunk not in state.cells()


def test_cells_of_an_empty_state_are_none():
    state = ServingProcessor(SMALL).state()
    assert not state.cells()
    assert not state.changed()
    assert state.deadline() is None
    assert state.process([]) == []


def test_an_unknown_layout_names_the_cell():
    state, _ = run(list(stream()), SMALL)
    for name, cell in state.cells().items():
        with pytest.raises(ValueError, match="layout 9") as caught:
            loaded({**state.cells(), name: b"\x09" + cell[1:]}).cells()
        assert repr(name) in str(caught.value)


def test_a_cell_of_no_known_kind_is_refused():
    with pytest.raises(ValueError, match="no known kind"):
        loaded({b"zm": b"\x01"}).cells()


def test_damaged_cells_are_refused_by_name_and_never_crash():
    state, _ = run(list(stream()), SMALL)
    cells = state.cells()
    random = Random(2)
    refused = 0
    for name, cell in cells.items():
        for _ in range(8):
            at = random.randrange(1, len(cell))
            cut = random.random() < 0.5
            damaged = cell[:at] if cut else cell[:at] + bytes([cell[at] ^ (1 << random.randrange(8))]) + cell[at + 1 :]
            try:
                loaded({**cells, name: damaged}).cells()
            except ValueError as error:
                assert "cell b'" in str(error)  # noqa: PT017 - damage may also lie in what no test can see
                refused += 1
            else:
                assert not cut, name
    assert refused


@pytest.mark.parametrize("kind", [b"m", b"n", b"s", b"r"])
def test_a_missing_cell_is_noticed(kind):
    state, _ = run(list(stream()), SMALL)
    cells = dict(state.cells())
    del cells[next(name for name in cells if name[:1] == kind)]
    if kind == b"s":  # series whose cell is gone begin anew: nothing says that they had one
        assert loaded(cells).cells().keys() >= cells.keys()
        return
    with pytest.raises(ValueError, match="cell"):
        loaded(cells).cells()


def test_windows_of_a_size_that_is_no_longer_set_are_given_up_and_others_kept():
    events = list(stream())
    state, _ = run(events, SMALL)
    other = settings(windows=(7.0, 20.0), last=50, detectors=SMALL.detectors)
    outputs = loaded(state.cells(), other).process(packed([tick(500)], Random(1)))
    assert {each.id.split(":")[3] for each in outputs} == {"20s"}


def test_a_shorter_lateness_keeps_the_windows_that_are_open():
    wide = settings(windows=(1.0,), allowed_lateness=60.0)
    state, _ = run([prediction(f"{i}", i + 0.5) for i in range(50)], wide)
    outputs = loaded(state.cells(), settings(windows=(1.0,), allowed_lateness=1.0)).process(
        packed([tick(500)], Random(1))
    )
    assert len(outputs) == 50


def test_another_number_of_last_pairs_begins_them_anew():
    events = [event for i in range(95) for event in (prediction(f"{i}", i / 10), label(f"{i}", i / 10, 0))]
    state, _ = run(events, settings(last=50))
    other = settings(last=20)
    again = loaded(state.cells(), other)
    more = [event for i in range(100, 130) for event in (prediction(f"{i}", i / 10), label(f"{i}", i / 10, 1))]
    outputs = again.process(packed([label("94", 9.9, 1), *more], Random(1)))
    events_of = [each for each in outputs if ":last 20:" in each.id]
    assert len(events_of) == 15
    assert again.counters()["pairs"] == 125
    assert loaded(again.cells(), other).cells() == again.cells()


def test_layout_1_is_what_it_was():
    """Other bytes are another layout: raise `LAYOUT`, and read this one still."""
    state, _ = run(list(stream(200)), SMALL)
    digests = {name: blake2b(cell, digest_size=8).hexdigest() for name, cell in state.cells().items()}
    assert digests == GOLDEN


@pytest.mark.parametrize("column", [f.M_WATERMARK, f.M_WATERMARK + 1, f.M_LAST_LOG, f.M_LAST_LOG + 1])
def test_a_time_beyond_all_times_is_refused(column):
    """A watermark past the end that stands for "no window is open" closed windows for ever, outside of the arrays."""
    cells = dict(run(list(stream()), SMALL)[0].cells())
    cell = bytearray(cells[b"mm"])
    cell[1 + 8 * column : 9 + 8 * column] = (f.ALWAYS + 1).to_bytes(8, "little", signed=True)
    state = loaded(cells | {b"mm": bytes(cell)})
    with pytest.raises(ValueError, match="a time that is none"):
        state.deadline()
