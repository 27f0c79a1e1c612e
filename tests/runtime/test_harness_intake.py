"""What is made of Kafka's records before a processor sees them."""

import subprocess
import sys
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmm.events.headers import cloudevents_headers, header
from mlmm.events.placement import partition_of
from mlmm.runtime.deadletters import place
from mlmm.runtime.harness.intake import GapRule, Placement, records_of
from mlmm.runtime.ticks import tick


class Fetched(NamedTuple):
    offset: int
    timestamp: int = 1_700_000_000_000
    key: bytes | None = b"m"
    value: bytes | None = b"v"
    headers: tuple[tuple[str, bytes], ...] = ()


def fetched(*offsets: int) -> list[Fetched]:
    return [Fetched(offset) for offset in offsets]


def test_what_replay_uses_loads_neither_kafka_nor_redis_nor_faust():
    code = "import sys, mlmm.runtime.harness.intake; print({'faust', 'aiokafka', 'kafka', 'redis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_log_time_is_microseconds_and_never_decreases():
    """A new leader's clock may be behind: the log's time does not go back with it."""
    came = [Fetched(0, 5), Fetched(1, 4), Fetched(2, 6)]
    assert [record.log_time for record in records_of(came, 0)] == [5000, 5000, 6000]
    assert [record.log_time for record in records_of(came, 5500)] == [5500, 5500, 6000]


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=30), st.integers(1, 30))
def test_log_times_do_not_depend_on_how_the_log_is_cut_into_polls(times: list[int], cut: int):
    came = [Fetched(n, time) for n, time in enumerate(times)]
    one = records_of(came, 0)
    head = records_of(came[:cut], 0)
    assert [*head, *records_of(came[cut:], head[-1].log_time)] == one


def test_missing_keys_and_values_are_empty():
    record = records_of([Fetched(3, 1, None, None)], 0)[0]
    assert (record.offset, record.key, record.value, record.headers) == (3, b"", b"", ())


# --- the gap rule ----------------------------------------------------------------------------------------------------


def test_without_a_gap_all_is_accepted():
    accepted = GapRule().accept(fetched(4, 5, 6), 4)
    assert (len(accepted.fetched), accepted.seek, accepted.gap) == (3, False, 0)


def test_at_a_gap_it_seeks_once_more():
    accepted = GapRule().accept(fetched(4, 5, 9), 4)
    assert ([each.offset for each in accepted.fetched], accepted.seek, accepted.gap) == ([4, 5], True, 0)


def test_the_same_gap_again_is_the_brokers_truth_counted():
    rule = GapRule()
    rule.accept(fetched(4, 5, 9), 4)
    accepted = rule.accept(fetched(9, 10), 6)
    assert ([each.offset for each in accepted.fetched], accepted.seek, accepted.gap) == ([9, 10], False, 3)


def test_another_gap_is_looked_at_again():
    rule = GapRule()
    rule.accept(fetched(9), 4)
    accepted = rule.accept(fetched(7, 9), 4)
    assert (list(accepted.fetched), accepted.seek) == ([], True)
    accepted = rule.accept(fetched(7, 9), 4)
    assert ([each.offset for each in accepted.fetched], accepted.seek, accepted.gap) == ([7], True, 3)


def test_a_gap_that_was_not_true_is_forgotten():
    rule = GapRule()
    rule.accept(fetched(9), 4)
    rule.accept(fetched(4, 5, 6, 7, 8), 4)
    assert rule.accept(fetched(12), 9).seek


def test_offsets_from_before_are_not_processed_again():
    accepted = GapRule().accept(fetched(3, 4, 5), 4)
    assert (list(accepted.fetched), accepted.seek, accepted.lower) == ([], True, True)


@given(st.sets(st.integers(0, 60), min_size=1), st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_whatever_the_log_lacks_each_record_is_accepted_once_in_order(kept: set[int], cuts: list[int]):
    """A broker that has some offsets only, and answers each fetch with a few records from where it is asked."""
    log, rule, taken, expected, missing, position = sorted(kept), GapRule(), [], 0, 0, 0
    for turn in range(1000):
        answer = [Fetched(offset) for offset in log if offset >= position][: cuts[turn % len(cuts)]]
        if not answer:
            break
        position = answer[-1].offset + 1
        accepted = rule.accept(answer, expected)
        taken += [each.offset for each in accepted.fetched]
        missing += accepted.gap
        expected = taken[-1] + 1 if accepted.fetched else expected
        position = expected if accepted.seek else position
    assert taken == log
    assert missing == log[-1] + 1 - len(log)


# --- placement -------------------------------------------------------------------------------------------------------


def wrong_key(partition: int, partitions: int) -> bytes:
    return next(key for n in range(99) if partition_of(key := b"m%d" % n, partitions) != partition)


def test_what_lies_in_the_wrong_partition_is_a_dead_letter():
    """librdkafka's default agrees with murmur2 on 12 of 100 keys: predictions would miss their labels in silence."""
    key = wrong_key(1, 3)
    records = records_of([Fetched(7, 1, key, b"v", (("ce_id", b"x"), ("ce_type", b"t")))], 0)
    right, letters = Placement(1, 3).split(records)
    assert right == []
    (letter,) = letters
    assert (letter.topic, letter.key, letter.value, letter.offset, letter.id) == ("dead-letters", key, b"v", 7, "x")
    headers = place(letter, "serving", 1)
    assert headers[:2] == (("ce_id", b"x"), ("ce_type", b"t"))
    assert b"murmur2" in (header(headers, "mlmm_error") or b"")
    assert [header(headers, f"mlmm_{name}") for name in ("topic", "partition", "offset")] == [b"serving", b"1", b"7"]


def test_what_lies_right_is_untouched():
    keys = [b"m%d" % n for n in range(50) if partition_of(b"m%d" % n, 3) == 2]
    records = records_of([Fetched(n, 1, key) for n, key in enumerate(keys)], 0)
    placement = Placement(2, 3)
    for _ in range(2):
        right, letters = placement.split(records)
        assert right is records
        assert letters == []


def test_a_tick_may_stand_in_any_partition_and_nothing_else_without_a_key():
    ticking = tick("serving", "s", 5)
    headers = tuple(cloudevents_headers("mlmm.labels.v1", "i", "s", 0, "application/json"))
    came = [Fetched(0, 1, ticking.key, ticking.value, tuple(ticking.headers)), Fetched(1, 1, None, b"v", headers)]
    for partition in range(3):
        right, letters = Placement(partition, 3).split(records_of(came, 0))
        assert [record.offset for record in right] == [0]
        assert [letter.offset for letter in letters] == [1]
        assert b"needs a key" in (header(letters[0].headers, "mlmm_error") or b"")


@pytest.mark.parametrize("count", [1, 100_001])
def test_what_placement_remembers_is_bounded(count: int):
    placement = Placement(0, 1)
    placement.split(records_of([Fetched(n, 1, b"k%d" % n) for n in range(count)], 0))
    placement.split(records_of([Fetched(0, 1, b"other")], 0))
    assert len(placement._right) <= max(2, 100_000)
