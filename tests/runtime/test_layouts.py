"""Layouts of state: who may claim what, and how all cells move on in one step."""

from collections.abc import Iterator

import pytest
import redis as redis_library

from mlmm.runtime import claims
from mlmm.runtime.commits import Commit, commit
from mlmm.runtime.errors import Fenced, StateRefused
from mlmm.runtime.harness.claimer import Claimer
from mlmm.runtime.harness.kafka_side import Place
from mlmm.runtime.harness.partition import Partition
from mlmm.runtime.harness.patience import Patience
from mlmm.runtime.metrics import Metrics
from mlmm.runtime.staging import Staging
from mlmm.runtime.store import Keys, iter_hash, read_cells, request_layout
from tests.runtime.counting import Counting
from tests.services import unique

LOG = claims.Log("t", 0, "id", 1, 0, 1000)


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_library.Redis]:
    client = redis_library.Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def name() -> str:
    return unique("layouts")


def claim(redis: redis_library.Redis, name: str, *layouts: int) -> Partition:
    claimer = Claimer(
        {"t": Counting(layouts=layouts)},
        deployment=name,
        redis=redis,
        patience=Patience(5, "here", lambda _: None),
        metrics=Metrics(),
    )
    return claimer.claim(Place("t", 0), LOG)


def keep(redis: redis_library.Redis, partition: Partition, cells: dict[bytes, bytes]) -> None:
    at = partition.claim.offset
    change = Commit(id=f"c{at}", expected=at, offset=at + 1, log_time=1, cells=cells)
    commit(redis, partition.keys, partition.claim, change)


def cell(layout: int, count: int) -> bytes:
    state = Counting(layouts=(1, 2)).state(layout)
    state.sums[b"k"] = [count, 0, 0]
    return state.cells()[b"k"]


def sizes(redis: redis_library.Redis, name: str) -> set[int]:
    return {len(value) for value in read_cells(redis, name, "counting", 0)[1].values()}


def test_a_new_state_gets_the_newest_layout_and_an_old_one_keeps_its_own(redis, name):
    claim(redis, name, 1, 2)
    assert redis.hget(Keys.of(name, "counting", 0).meta, "state_layout") == b"2"
    other = f"{name}-b"
    claim(redis, other, 1)
    newer = claim(redis, other, 1, 2)
    assert newer.state.layout == 1, "what it writes, the version before can read"


def test_a_state_of_before_layouts_were_told_is_of_layout_1(redis, name):
    keys = Keys.of(name, "counting", 0)
    redis.hset(keys.meta, mapping={"offset": 5, "partitions": 1})
    assert claim(redis, name, 1, 2).state.layout == 1


def test_whoever_is_too_old_is_refused_and_fences_nobody(redis, name):
    owner = claim(redis, name, 2, 3)
    with pytest.raises(StateRefused, match=r"layout 3, this version reads 1 and 2: the worker is too old.*mlmm state"):
        claim(redis, name, 1, 2)
    assert claims.renew(redis, owner.keys, owner.claim) == 0


def test_whoever_is_too_new_is_refused(redis, name):
    claim(redis, name, 1)
    with pytest.raises(StateRefused, match=r"layout 1, this version reads 2 and 3: the worker is too new"):
        claim(redis, name, 2, 3)


def test_an_upgrade_fences_the_owner_and_the_next_one_rewrites_every_cell(redis, name):
    older = claim(redis, name, 1)
    keep(redis, older, {b"k%d" % n: cell(1, n) for n in range(2500)})
    assert sizes(redis, name) == {24}
    keys = older.keys
    assert request_layout(redis, keys, 2) == 1
    with pytest.raises(Fenced):
        claims.renew(redis, keys, older.claim)
    with pytest.raises(StateRefused, match="too old"):
        claim(redis, name, 1)
    newer = claim(redis, name, 1, 2)
    offset, cells = read_cells(redis, name, "counting", 0)
    assert offset == 1
    assert sizes(redis, name) == {25}
    again = Counting(layouts=(2,)).state()
    again.load(cells.items())
    assert {key: value[0] for key, value in again.sums.items()} == {b"k%d" % n: n for n in range(2500)}
    keep(redis, newer, {b"k1": newer.state.cells()[b"k1"]})
    assert not list(redis.scan_iter(f"*{name}*:new*"))


def test_an_upgrade_that_was_made_already_is_none(redis, name):
    held = claim(redis, name, 1, 2)
    assert request_layout(redis, held.keys, 2) == 2
    claims.renew(redis, held.keys, held.claim)
    with pytest.raises(StateRefused, match="newer version"):
        request_layout(redis, held.keys, 1)
    assert request_layout(redis, Keys.of(name, "counting", 7), 2) is None, "there is no state"


def test_a_damaged_state_is_refused_and_named(redis, name):
    held = claim(redis, name, 1)
    keep(redis, held, {b"k": b"\x09" + cell(1, 1)})
    with pytest.raises(StateRefused, match=r"cells: cell b'k': layout 9.*snapshot"):
        claim(redis, name, 1)


def test_what_is_staged_takes_the_place_of_what_stood_once_or_not_at_all(redis, name):
    held = claim(redis, name, 1)
    keep(redis, held, {b"old": cell(1, 1)})
    keys = held.keys
    staging = Staging(redis, keys, "one")
    staging.cells([(b"new", b"1")])
    with pytest.raises(Fenced):
        staging.swap("another's token", {}, whole=False)
    assert set(read_cells(redis, name, "counting", 0)[1]) == {b"old"}
    for _ in range(2):  # the second is a try whose first answer was lost
        staging.swap(held.claim.token, {"offset": 9}, whole=False)
        assert dict(pair for chunk in iter_hash(redis, keys.cells) for pair in chunk) == {b"new": b"1"}
    assert redis.hget(keys.meta, "offset") == b"9"


def test_what_was_swapped_in_is_done_though_a_worker_claimed_it_since(redis, name):
    """Whoever finishes what another began finds partitions that work again already."""
    held = claim(redis, name, 1)
    staging = Staging(redis, held.keys, "one")
    staging.cells([(b"k", cell(1, 1))])
    staging.swap(held.claim.token, {"offset": 9}, whole=False)
    keep(redis, claim(redis, name, 1), {b"k": cell(1, 2)})
    staging.swap(held.claim.token, {"offset": 9}, whole=False)
    assert read_cells(redis, name, "counting", 0) == (10, {b"k": cell(1, 2)})


def test_one_that_was_fenced_while_it_staged_adds_nothing_to_what_another_stages(redis, name):
    """Both under one name: a slow owner that writes an upgrade, and the one that claimed from it."""
    held = claim(redis, name, 1)
    keep(redis, held, {b"old": cell(1, 1)})
    slow = Staging(redis, held.keys, "layout-2", held.claim.token)
    slow.clear()
    slow.cells([(b"slow", cell(2, 1))])
    newer = claim(redis, name, 1)
    staging = Staging(redis, newer.keys, "layout-2", newer.claim.token)
    staging.clear()
    staging.cells([(b"new", cell(2, 2))])
    slow.cells([(b"later", cell(2, 3))])
    with pytest.raises(Fenced):
        slow.swap(held.claim.token, {"state_layout": 2}, whole=False)
    staging.swap(newer.claim.token, {"state_layout": 2}, whole=False)
    assert set(read_cells(redis, name, "counting", 0)[1]) == {b"new"}
    assert set(redis.scan_iter(f"*{name}*:new:*")) == {f"{held.keys.cells}:new:{held.claim.token}".encode()}
    staging.clear()
    assert not list(redis.scan_iter(f"*{name}*:new:*"))
