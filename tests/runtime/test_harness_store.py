"""Claims, commits and the outbox on a real Redis: the rules that keep the harness exact."""

import threading
from collections.abc import Iterator

import msgspec
import pytest
import redis as redis_library
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlmm.events.errors import MlmmError
from mlmm.events.headers import header
from mlmm.events.signing import SIGNATURE
from mlmm.runtime import claims, outbox, store
from mlmm.runtime.commits import ARGUMENT_LIMIT, Commit, commit
from mlmm.runtime.errors import Fenced, LogChanged, SettingsError, StateRefused
from mlmm.runtime.processor import Output
from mlmm.runtime.sequence import encode
from mlmm.runtime.store import Keys, adopt, read_cells, refuse_eviction
from tests.runtime.counting import CountingState
from tests.services import unique


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_library.Redis]:
    client = redis_library.Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def keys() -> Keys:
    return Keys.of(unique("store"), "counting", 0)


def log(end: int = 1000, first: int = 0, topic_id: str = "id-1", partitions: int = 3) -> claims.Log:
    return claims.Log("t", 0, topic_id, partitions, first, end)


def change(expected: int, offset: int, name: str = "", **given: object) -> Commit:
    given.setdefault("cells", {})
    return Commit(id=name or unique("c"), expected=expected, offset=offset, log_time=0, **given)  # type: ignore[arg-type]


def entry(offset: int, value: bytes = b"{}", index: int = 0, **given: object) -> bytes:
    made = Output(
        **{
            "topic": "findings",
            "key": b"m",
            "type": "mlmm.report.v1",
            "id": "i",
            "time": 1,
            "value": value,
            "offset": offset,
        }
        | given
    )
    return outbox.encode(encode(0, offset, index), made, "serving", 2)


# --- claims ----------------------------------------------------------------------------------------------------------


def test_a_claim_draws_a_token_and_raises_rev(redis, keys):
    one, two = claims.claim(redis, keys, log()), claims.claim(redis, keys, log())
    assert (one.rev, two.rev) == (1, 2)
    assert one.token != two.token


def test_a_state_without_an_offset_begins_at_the_first_record(redis, keys):
    assert claims.claim(redis, keys, log(first=17)).offset == 17
    assert claims.claim(redis, keys, log(first=20)).offset == 17, "the offset is stored by the claim"


def test_a_claim_stores_topic_id_and_partition_count(redis, keys):
    claims.claim(redis, keys, log())
    assert redis.hmget(keys.meta, "topic_id", "partitions", "epoch") == [b"id-1", b"3", b"0"]


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (log(topic_id="id-2"), "mlmm topics adopt t"),
        (log(partitions=4), "made from 3 partitions.*mlmm topics repartition t"),
        (log(end=9), "the log ends at offset 9, before 10.*mlmm topics adopt t"),
    ],
)
def test_a_log_that_changed_is_refused_and_says_what_to_run(redis, keys, now, says):
    held = claims.claim(redis, keys, log())
    commit(redis, keys, held, change(0, 10))
    with pytest.raises(LogChanged, match=says):
        claims.claim(redis, keys, now)
    with pytest.raises(LogChanged, match=says):
        claims.check(redis, keys, now)
    assert claims.renew(redis, keys, held) == 10, "a refused claim fences nobody"


def test_a_broker_that_tells_no_topic_id_does_not_change_the_log(redis, keys):
    claims.claim(redis, keys, log())
    claims.claim(redis, keys, log(topic_id=""))
    with pytest.raises(LogChanged):
        claims.claim(redis, keys, log(topic_id="id-2"))


def test_a_newer_layout_is_refused(redis, keys):
    claims.claim(redis, keys, log())
    redis.hset(keys.meta, "layout", store.LAYOUT + 1)
    with pytest.raises(StateRefused, match="run a newer version"):
        claims.claim(redis, keys, log())


def test_adopting_raises_the_epoch_and_fences(redis, keys):
    held = claims.claim(redis, keys, log())
    commit(redis, keys, held, change(0, 500, cells={b"a": b"1"}))
    assert adopt(redis, keys, topic_id="id-2", partitions=3, offset=0) == 1
    with pytest.raises(Fenced):
        commit(redis, keys, held, change(500, 501))
    again = claims.claim(redis, keys, log(topic_id="id-2", end=3))
    assert (again.offset, again.epoch) == (0, 1)
    assert redis.hgetall(keys.cells) == {b"a": b"1"}


def test_loading_goes_in_chunks_and_claiming_does_not_read_the_state(redis, keys):
    """`HGETALL` of a million fields stopped Redis for a second."""
    pipe = redis.pipeline()
    for n in range(20_000):
        pipe.hset(keys.cells, b"k%d" % n, bytes(24))
    pipe.execute()
    asked: list[str] = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(redis, name)

        def execute_command(self, *args: object) -> object:
            asked.append(str(args[0]))
            return redis.execute_command(*args)

    claims.claim(Spy(), keys, log())
    assert not asked
    state = CountingState(10)
    claims.load(Spy(), keys, state)
    assert set(asked) == {"HSCAN"}
    assert len(asked) >= 10
    assert len(state.sums) == 20_000


# --- commits ---------------------------------------------------------------------------------------------------------


def test_a_commit_carries_cells_offset_outputs_and_sequences_seen(redis, keys):
    held = claims.claim(redis, keys, log())
    commit(redis, keys, held, change(0, 5, cells={b"a": b"1", b"b": b"2"}, outputs=[entry(3)], seen={b"s": b"9"}))
    commit(redis, keys, held, change(5, 7, cells={b"a": None, b"c": b""}, outputs=[entry(6)]))
    assert redis.hgetall(keys.cells) == {b"b": b"2", b"c": b""}
    assert outbox.read(redis, keys) == [entry(3), entry(6)]
    assert redis.hgetall(keys.seen) == {b"s": b"9"}
    assert claims.claim(redis, keys, log()).offset == 7


def test_a_commit_is_fenced_by_whoever_claimed_later(redis, keys):
    zombie = claims.claim(redis, keys, log())
    claims.claim(redis, keys, log())
    with pytest.raises(Fenced, match="someone else claimed"):
        commit(redis, keys, zombie, change(0, 5, cells={b"a": b"1"}))
    assert not redis.exists(keys.cells)


def test_the_fence_holds_though_rev_comes_round_again(redis, keys):
    """A Redis that comes back older deals out the same `rev` once more: the token tells the two apart."""
    zombie = claims.claim(redis, keys, log())
    redis.delete(keys.meta)
    owner = claims.claim(redis, keys, log())
    assert owner.rev == zombie.rev
    with pytest.raises(Fenced):
        commit(redis, keys, zombie, change(0, 5))


def test_a_commit_names_the_offset_that_it_continues_from(redis, keys):
    """Same claim, and Redis came back to an older offset: memory is not the state any more."""
    held = claims.claim(redis, keys, log())
    commit(redis, keys, held, change(0, 5))
    redis.hset(keys.meta, "offset", 2)
    with pytest.raises(Fenced, match="came back older"):
        commit(redis, keys, held, change(5, 9, cells={b"a": b"1"}))
    assert not redis.exists(keys.cells)


def test_a_commit_whose_id_is_the_last_one_applied_is_done(redis, keys):
    """A reply that was lost on the way: the retry must neither fail nor apply twice."""
    held = claims.claim(redis, keys, log())
    one = change(0, 5, "c-1", outputs=[entry(1)])
    assert commit(redis, keys, held, one) is True
    assert commit(redis, keys, held, one) is False
    assert redis.llen(keys.outbox) == 1


def test_a_retried_commit_is_fenced_when_someone_claimed_meanwhile(redis, keys):
    held = claims.claim(redis, keys, log())
    one = change(0, 5, "c-1")
    commit(redis, keys, held, one)
    claims.claim(redis, keys, log())
    with pytest.raises(Fenced):
        commit(redis, keys, held, one)


@pytest.mark.parametrize("at", ["cells", "outbox", "seen"])
def test_nothing_is_written_where_a_check_fails(redis, keys, at):
    """Redis scripts do not roll back: all that may fail is looked at before the first write."""
    held = claims.claim(redis, keys, log())
    redis.set(getattr(keys, at), "not ours")
    with pytest.raises(MlmmError, match="commit refused: type"):
        commit(redis, keys, held, change(0, 5, cells={b"a": b"1"}, outputs=[entry(1)], seen={b"s": b"1"}))
    others = {"cells", "outbox", "seen"} - {at}
    assert not any(redis.exists(getattr(keys, name)) for name in others)
    assert claims.renew(redis, keys, held) == 0


def test_a_commit_of_many_values_goes_in_loops(redis, keys):
    """`unpack` of a Redis script fails beyond 8,000 values."""
    held = claims.claim(redis, keys, log())
    cells = {b"c%d" % n: b"v%d" % n for n in range(30_001)}
    commit(redis, keys, held, change(0, 9, cells=cells, outputs=[entry(n) for n in range(9_001)]))
    assert redis.hlen(keys.cells) == 30_001
    assert len(outbox.read(redis, keys)) == 9_001
    commit(redis, keys, held, change(9, 10, cells=dict.fromkeys(cells)))
    assert not redis.exists(keys.cells)


def test_a_commit_beyond_redis_limit_of_arguments_says_so(redis, keys):
    held = claims.claim(redis, keys, log())
    with pytest.raises(MlmmError, match=r"lower worker\.poll_records"):
        commit(redis, keys, held, change(0, 5, outputs=[b""] * ARGUMENT_LIMIT))


def test_a_redis_that_forgot_its_scripts_is_taught_again(redis, keys):
    claims.claim(redis, keys, log())
    redis.script_flush()
    held = claims.claim(redis, keys, log())
    redis.script_flush()
    assert commit(redis, keys, held, change(0, 1))


def test_all_keys_of_a_partition_share_a_hash_tag():
    tags = {key[key.index("{") : key.index("}") + 1] for key in Keys.of("d", "serving", 12)}
    assert tags == {"{d:serving:12}"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["claim", "commit", "retry", "pop"])), max_size=30))
def test_only_the_last_claimant_writes_whatever_the_order(redis, steps):
    """Two workers claim, commit, retry and pop in any order: the log of commits is what the owners alone wrote."""
    keys = Keys.of(unique("order"), "counting", 0)
    held: dict[str, claims.Claim] = {}
    last: dict[str, Commit] = {}
    owner, applied, expected = "", 0, 0
    for who, step in steps:
        if step == "claim":
            held[who] = claims.claim(redis, keys, log())
            owner = who
        elif who in held and step == "commit":
            one = change(expected, expected + 1, outputs=[entry(expected)], cells={b"n": b"%d" % expected})
            if who == owner:
                assert commit(redis, keys, held[who], one) is True
                last[who] = one
                expected, applied = expected + 1, applied + 1
            else:
                with pytest.raises(Fenced):
                    commit(redis, keys, held[who], one)
        elif who in last and step == "retry":
            if who == owner and last[who].offset == expected:
                assert commit(redis, keys, held[who], last[who]) is False
            else:
                with pytest.raises(Fenced):
                    commit(redis, keys, held[who], last[who])
        elif who in held and step == "pop":
            waiting = outbox.read(redis, keys)
            if who == owner:
                outbox.pop(redis, keys, held[who], waiting)
            elif waiting:
                with pytest.raises(Fenced):
                    outbox.pop(redis, keys, held[who], waiting)
    stored, cells = (int(redis.hget(keys.meta, "offset") or 0), redis.hgetall(keys.cells))
    assert stored == applied
    assert cells == ({b"n": b"%d" % (applied - 1)} if applied else {})


# --- outbox ----------------------------------------------------------------------------------------------------------


def test_the_outbox_pops_by_sequence_what_was_acknowledged(redis, keys):
    held = claims.claim(redis, keys, log())
    entries = [entry(n) for n in range(5)]
    commit(redis, keys, held, change(0, 5, outputs=entries))
    outbox.pop(redis, keys, held, entries[:2])
    assert outbox.read(redis, keys) == entries[2:]
    outbox.pop(redis, keys, held, entries[:2])
    assert outbox.read(redis, keys) == entries[2:], "a retry whose first try was applied pops nothing more"
    outbox.pop(redis, keys, held, entries[2:])
    assert outbox.read(redis, keys) == []
    outbox.pop(redis, keys, held, entries[2:])


def test_a_zombie_pops_nothing(redis, keys):
    zombie = claims.claim(redis, keys, log())
    commit(redis, keys, zombie, change(0, 5, outputs=[entry(0)]))
    claims.claim(redis, keys, log())
    with pytest.raises(Fenced):
        outbox.pop(redis, keys, zombie, [entry(0)])
    assert outbox.read(redis, keys) == [entry(0)]


def test_an_outbox_changed_by_hand_is_not_popped(redis, keys):
    held = claims.claim(redis, keys, log())
    commit(redis, keys, held, change(0, 5, outputs=[entry(0), entry(1), entry(2)]))
    redis.lpop(keys.outbox)
    with pytest.raises(MlmmError, match="changed by hand"):
        outbox.pop(redis, keys, held, [entry(0), entry(1)])
    assert redis.llen(keys.outbox) == 2


def test_a_message_carries_cloudevents_headers_source_and_sequence():
    made = outbox.message(entry(7, b'{"a":1}', 3, causation="cause"), "d/serving/t/0", None)
    assert (made.topic, made.key, made.value) == ("findings", b"m", b'{"a":1}')
    assert made.headers[0] == ("ce_type", b"mlmm.report.v1")
    assert made.headers[1] == ("content-type", b"application/json")
    found = {name: header(made.headers, name) for name in ("ce_source", "ce_sequence", "ce_causationid", SIGNATURE)}
    assert found == {
        "ce_source": b"d/serving/t/0",
        "ce_sequence": encode(0, 7, 3),
        "ce_causationid": b"cause",
        SIGNATURE: None,
    }


def test_commands_are_signed_when_they_are_drained():
    def sign(key: bytes, type_: str, id_: str, value: bytes) -> bytes:
        return b"|".join([key, type_.encode(), id_.encode(), value])

    made = outbox.message(entry(1, b"v", type="mlmm.command.v1", signed=True), "s", sign)
    assert header(made.headers, SIGNATURE) == b"m|mlmm.command.v1|i|v"
    unsigned = outbox.message(entry(1, b"v"), "s", sign)
    assert header(unsigned.headers, SIGNATURE) is None


def test_a_dead_letter_is_told_where_it_was_read():
    headers = (("ce_type", b"x"), ("mlmm_error", b"bad"))
    made = outbox.message(entry(5, b"raw", topic="dead-letters", type="", headers=headers), "s", None)
    told = [("mlmm_topic", b"serving"), ("mlmm_partition", b"2")]
    assert made.headers == [*headers, *told, ("mlmm_sequence", encode(0, 5, 0)), ("mlmm_source", b"s")]
    assert (made.topic, made.value) == ("dead-letters", b"raw")


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_redis_that_evicts_is_refused(redis_url):
    client = redis_library.Redis.from_url(redis_url)
    refuse_eviction(client)
    client.close()

    class Evicting:
        def execute_command(self, *_: object) -> dict[str, str]:
            return {"maxmemory_policy": "allkeys-lru"}

    with pytest.raises(SettingsError, match=r"allkeys-lru.*must be 'noeviction'"):
        refuse_eviction(Evicting())


def test_cells_are_read_back_with_their_offset(redis):
    deployment = unique("read")
    assert read_cells(redis, deployment, "p", 1) == (None, {})
    keys = Keys.of(deployment, "p", 1)
    commit(redis, keys, claims.claim(redis, keys, log()), change(0, 4, cells={b"a": b"1"}))
    assert read_cells(redis, deployment, "p", 1) == (4, {b"a": b"1"})


def test_two_threads_with_one_claim_commit_one_after_the_other(redis, keys):
    held = claims.claim(redis, keys, log())
    outcomes: list[str] = []

    def write(name: str) -> None:
        try:
            commit(redis, keys, held, change(0, 1, name))
            outcomes.append("ok")
        except Fenced:
            outcomes.append("fenced")

    threads = [threading.Thread(target=write, args=(f"c{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["fenced"] * 7 + ["ok"]


def test_entries_are_compact():
    assert len(entry(1)) < 33 + 60
    assert msgspec.msgpack.decode(entry(1)[33:])[0] == "findings"
