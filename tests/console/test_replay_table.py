"""Replaying a table: the same figures as from the rows themselves, in any order; what is wrong is named."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from mlmm.console.replay import TableColumns, WrongInput, replay_file, run_command
from mlmm.console.replay.run import columns_of, replay_table
from mlmm.console.replay.table import MOST_ROWS, read_table, records
from mlmm.events import Label, Prediction, decode_events
from mlmm.runtime.settings import Settings

START = pd.Timestamp("2026-03-01T00:00:00Z")
COLUMNS = TableColumns(
    model="m",
    output_column="pred",
    time_column="ts",
    label_column="y",
    score_column="p",
    label_time_column="known",
    id_column="order",
)


def _frame(rows=2000, seed=1) -> pd.DataFrame:
    """A binary model that is right in nine of ten rows; labels come half a minute later, some never."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    wrong = rng.random(rows) < 0.1
    ts = START + pd.to_timedelta(np.arange(rows) * 250, unit="ms")
    frame = pd.DataFrame(
        {
            "order": [f"o-{i}" for i in range(rows)],
            "ts": ts,
            "amount": rng.normal(size=rows),
            "count": rng.integers(0, 9, rows),
            "new": rng.random(rows) < 0.5,
            "country": rng.choice(["DE", "FR"], rows),
            "pred": np.where(wrong, 1 - truth, truth),
            "p": rng.random(rows),
            "y": pd.Series(truth, dtype="Int64"),
            "known": ts + pd.Timedelta("30s"),
        }
    )
    frame.loc[::10, "y"] = pd.NA
    frame.loc[5, "amount"] = np.nan
    return frame.sample(frac=1, random_state=seed)  # a table need not be sorted


def _events(path, columns=COLUMNS):
    table = read_table(path, columns)
    made = []
    for record in records(table, Settings().serving):
        headers = dict(record.headers)
        args = headers["ce_type"].decode(), headers["content-type"].decode(), record.value
        made += [(record.log_time, event) for event in decode_events(*args, key=record.key)]
    return made


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_rows_become_events_at_their_times(tmp_path, form):
    frame = _frame(50)
    path = tmp_path / f"t.{form}"
    frame.to_parquet(path) if form == "parquet" else frame.to_csv(path, index=False)
    events = _events(path)
    assert [log_time for log_time, _ in events] == sorted(log_time for log_time, _ in events)
    predictions = {event.prediction_id: event for _, event in events if isinstance(event, Prediction)}
    labels = {event.prediction_id: event for _, event in events if isinstance(event, Label)}
    assert len(predictions) == 50
    assert len(labels) == 45
    for row in frame.itertuples():
        event = predictions[row.order]
        missing = np.isnan(row.amount)
        assert event.features == {"amount": None if missing else row.amount, "count": row.count, "new": row.new}
        assert (event.output, event.score, event.time) == (row.pred, row.p, row.ts.value // 1000)
        if not pd.isna(row.y):
            assert (labels[row.order].value, labels[row.order].time) == (row.y, row.known.value // 1000)


def test_log_time_is_at_most_a_tenth_of_a_window_off_and_records_are_bounded(tmp_path):
    frame = _frame(4000)
    frame["ts"] = START + pd.to_timedelta(np.arange(4000), unit="ms")
    frame.to_parquet(tmp_path / "t.parquet")
    sizes = {}
    for log_time, event in _events(tmp_path / "t.parquet"):
        assert 0 <= log_time - event.time < 6_000_000
        sizes[log_time, type(event)] = sizes.get((log_time, type(event)), 0) + 1
    assert max(sizes.values()) == MOST_ROWS


def test_figures_are_those_of_the_rows(tmp_path):
    """Windows of a minute by label time: pairs and accuracy as pandas counts them, and none is left open."""
    frame = _frame()
    frame.to_parquet(tmp_path / "t.parquet")
    replay = replay_table(read_table(tmp_path / "t.parquet", COLUMNS), Settings())
    reports = [msgspec.json.decode(each.output.value) for each in replay.findings if "report" in each.output.type]
    found = {
        each["start"]: (each["figures"]["pairs"], each["figures"]["accuracy"])
        for each in reports
        if each["kind"] == "performance" and each["window"] == "60s"
    }
    labelled = frame[frame.y.notna()]
    right = (labelled.pred == labelled.y).astype(float)
    by_minute = right.groupby(labelled.known.dt.floor("min"))
    expected = {when.value // 1000: (len(each), each.mean()) for when, each in by_minute}
    assert found.keys() == expected.keys()
    for start, figures in expected.items():
        assert found[start] == pytest.approx(figures), start
    assert sum(each["events"] for each in reports if each["kind"] == "service") == len(frame)


def test_classes_that_are_strings_and_no_times_no_ids(tmp_path):
    frame = pd.DataFrame({"f": [1.0, 2.0, 3.0], "pred": ["a", "b", None], "y": ["a", "a", "a"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    columns = TableColumns(model="m", output_column="pred", label_column="y", positive="b")
    table = read_table(tmp_path / "t.csv", columns)
    assert (table.left_out, table.head.positive, table.classes) == (1, "b", ("a", "b"))
    events = [event for _, event in _events(tmp_path / "t.csv", columns)]
    assert [(event.prediction_id, event.output) for event in events if isinstance(event, Prediction)] == [
        ("0", "a"),
        ("1", "b"),
    ]
    assert events[1].time - events[0].time == 1_000_000


def _with(**changes):
    return msgspec.structs.replace(COLUMNS, **changes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            _with(output_column="prde"),
            r"no column 'prde' \(--output-column\). Did you mean 'pred'\? There are: order, ts",
        ),
        (_with(label_time_column="later"), r"no column 'later' \(--label-time-column\)"),
        (_with(time_column="count"), r"column 'count' \(--time-column\) holds numbers"),
        (_with(time_column="country"), r"column 'country' \(--time-column\)"),
        (_with(output_column="country", label_column=None), r"which class is positive\?.*--positive: 'DE', 'FR'"),
        (_with(output_column="country", label_column=None, positive="UK"), r"no class 'UK'.*'DE', 'FR'"),
        (_with(positive="yes"), r"--positive 'yes' is no number"),
    ],
)
def test_a_wrong_column_is_named_with_what_there_is(tmp_path, columns, message):
    path = tmp_path / "t.parquet"
    _frame(20).to_parquet(path)
    with pytest.raises(WrongInput, match=f"t.parquet: .*{message}"):
        read_table(path, columns)


def _broken(column, row, value):
    frame = _frame(20).reset_index(drop=True).astype({column: object})
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (_broken("ts", 3, None), "'ts' .* is empty in 1 rows, the first is row 3"),
        (_broken("ts", 3, "1999-01-01T00:00:00Z"), "'ts' .*row 3: 1999.* is not in the years 2000 to 2199"),
        (_broken("order", 3, None), "'order' .* is empty in 1 rows"),
        (_broken("order", 3, "x" * 600), "'order' .*1 to 512 bytes"),
        (_broken("pred", 3, "inf").astype({"pred": float}), "'pred', row 3: infinite"),
        (_frame(20).assign(pred=np.nan), "no row has a value in 'pred'"),
        (_frame(20).iloc[:0], "no rows"),
    ],
)
def test_a_cell_that_is_wrong_is_named(tmp_path, frame, message):
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(WrongInput, match=message):
        read_table(path, COLUMNS)


def test_a_label_that_never_came_needs_no_time(tmp_path):
    frame = _frame(20)
    frame.loc[frame.y.isna(), "known"] = pd.NaT
    frame.to_parquet(tmp_path / "t.parquet")
    assert len(read_table(tmp_path / "t.parquet", COLUMNS).label) == 18


def test_a_score_that_is_text_is_refused(tmp_path):
    frame = _frame(20)
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(WrongInput, match=r"'country' .*--score-column.* numbers"):
        read_table(tmp_path / "t.parquet", _with(score_column="country"))


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("t.txt", "x", COLUMNS, r"expected events \(.jsonl.* or a table \(.parquet"),
        ("t.csv", "a\n1\n", None, "a table needs --model and --output-column"),
        ("t.jsonl", "", COLUMNS, "holds events; --model and columns are for tables"),
        ("t.jsonl", "", None, "no records of serving or training, no line"),
        ("t.parquet", "not parquet", COLUMNS, "t.parquet"),
        ("t.csv", "", COLUMNS, "t.csv"),
    ],
)
def test_a_file_that_is_neither_is_refused(tmp_path, name, content, columns, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(WrongInput, match=message):
        replay_file(tmp_path / name, Settings(), tmp_path / "out", columns=columns)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def table(tmp_path):
    _frame(40).to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_an_empty_folder_is_filled_whole(table, tmp_path):
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    result = replay_file(table, Settings(), out, columns=COLUMNS)
    assert sorted(each.name for each in out.iterdir()) == ["commands.jsonl", "findings.jsonl", "incidents.jsonl"]
    assert [each.name for each in out.parent.iterdir()] == ["out"]
    assert len((out / "findings.jsonl").read_text().splitlines()) == sum(result.findings.values())
    assert result.rows == 40


def test_a_folder_that_is_not_empty_is_written_by_force_alone(table, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "findings.jsonl").write_text("old")
    (out / "mine.txt").write_text("stays")
    with pytest.raises(WrongInput, match="not empty; --force"):
        replay_file(table, Settings(), out, columns=COLUMNS)
    assert (out / "findings.jsonl").read_text() == "old"
    replay_file(table, Settings(), out, columns=COLUMNS, force=True)
    assert (out / "mine.txt").read_text() == "stays"
    assert (out / "findings.jsonl").read_text() != "old"


def test_a_file_in_place_of_the_folder_is_refused(table, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(WrongInput, match="is a file, a folder is expected"):
        replay_file(table, Settings(), tmp_path / "out", columns=COLUMNS, force=True)


def test_what_was_typed_makes_columns_or_none():
    assert columns_of({"model": None, "task": "binary", "output_column": None}) is None
    assert columns_of({"model": "m", "task": "binary", "output_column": "p"}) == TableColumns(
        model="m", output_column="p"
    )
    with pytest.raises(WrongInput, match="a table needs --output-column"):
        columns_of({"model": "m", "task": "binary", "output_column": None})


def test_the_command_shows_a_summary_or_one_json_object(table, tmp_path, capsys):
    options = {**msgspec.structs.asdict(COLUMNS), "positive": None}
    run_command(Settings(), table, tmp_path / "a", options)
    screen = capsys.readouterr().out
    assert "rows" in screen
    assert "40" in screen
    run_command(Settings(), table, tmp_path / "b", options, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    told = msgspec.json.decode(line)
    assert (told["rows"], told["incidents"], told["out"]) == (40, [], str(tmp_path / "b"))
