"""The store: what a commit does to Redis, and to this process's memory."""

import pytest
import redis

from cachedorm.errors import ConfigurationError, NotCacheable
from cachedorm.observe import Observer, Stats
from cachedorm.store.protocol.changes import Offer, Touched
from cachedorm.store.protocol.entry import Format, Miss, describe, judge, prefix, value_slot
from cachedorm.store.protocol.keys import EntryKey, stamp_key
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.store import Store
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import patient_store
from tests.support.contract.places import MY

CHAT = RegionSettings("chat", db=4, ttl_ms=60_000, intents=False)
TEXT = Format(b"text\0\0\0\1", str.encode, bytes.decode)
USERS = stamp_key("my_db.users")
USER = EntryKey("user:profile:42", (USERS,), TEXT)


def touched(db: int = 2) -> Touched:
    return Touched({db: {str(USER)}}, {db: {USERS}})


def fill(store: Store, value: str) -> None:
    """An ordinary reader's fill."""
    server = store.slots.identity_again(2)
    lease = store.slots.acquire(2, USER, b"t" * 16, 3000, 60_000, server=server)
    assert isinstance(lease, Granted)
    slot = value_slot(TEXT, server, lease.stamps, value.encode(), created_ms=1)
    assert store.slots.publish(2, USER, b"t" * 16, slot, 60_000)


def seen(store: Store, db: int = 2) -> object:
    """What a reader would be served: text, or the reason why not."""
    values, server = store.slots.read(db, (USER, *USER.stamps))
    verdict = judge(values[0], prefix(TEXT, server), values[1:])
    return verdict.decode() if isinstance(verdict, bytes) else verdict


def test_a_commit_hides_and_then_ends_what_it_touched(store: Store) -> None:
    """Old until INTEND, nothing between, empty after SETTLE."""
    fill(store, "old")
    assert seen(store) == "old"
    intent = store.intend(touched())
    assert intent.placed
    assert seen(store) is Miss.INTENT
    store.settle(intent)
    assert seen(store) is Miss.EMPTY


def test_a_commit_is_two_sends_whatever_the_databases(
    redis_url: str, redis_log: RedisLog, colour: str
) -> None:
    """One INTEND and one SETTLE for each database, all on one connection."""
    store = patient_store(redis_url)
    many = Touched({db: {f"k{n}" for n in range(50)} for db in (2, 3, 7)}, {2: {USERS}})
    for _ in range(2):  # at first the scripts are not known
        redis_log.clear()
        store.settle(store.intend(many))
    commands = redis_log.commands(handshakes=True)
    names = [c.name for c in commands if c.client != "lua"]
    assert [name for name in names if name != "select"] == ["intend"] * 3 + ["settle"] * 3
    assert len({c.client for c in commands}) == 1
    store.close()


def test_nothing_touched_is_nothing_sent(redis_url: str, redis_log: RedisLog) -> None:
    store = patient_store(redis_url)
    store.settle(store.intend(Touched()))
    store.invalidate(Touched())
    assert redis_log == []
    store.close()


def test_write_through_puts_the_new_value(store: Store) -> None:
    """The writer's intent is its lease."""
    fill(store, "old")
    offer = Offer(2, USER)
    intent = store.intend(Touched({2: {str(USER)}}), [offer])
    store.settle(intent, {offer: ("new", 60_000)})
    assert seen(store) == "new"


def test_an_offer_counts_as_touched(store: Store) -> None:
    """Even if its value is not put in the end."""
    fill(store, "old")
    store.settle(store.intend(Touched(), [Offer(2, USER)]))
    assert seen(store) is Miss.EMPTY


@pytest.mark.parametrize("case", ["meddled", "expired", "uncacheable"])
def test_write_through_that_may_not_be_put_invalidates(store: Store, case: str) -> None:
    """Another writer meanwhile, a row that has expired, a value the codec refuses."""

    def refuse(value: object) -> bytes:
        raise NotCacheable("no")

    form = Format(TEXT.fingerprint, refuse, bytes.decode) if case == "uncacheable" else TEXT
    offer = Offer(2, EntryKey(str(USER), (USERS,), form))
    fill(store, "old")
    other = store.intend(touched()) if case == "meddled" else None
    intent = store.intend(Touched({2: {str(USER)}}), [offer])
    if other is not None:
        # Nobody knows which of the two committed last.
        store.settle(other)
    store.settle(intent, {offer: ("new", 0 if case == "expired" else 60_000)})
    assert seen(store) is Miss.EMPTY


def test_regions_without_intents_are_only_settled(
    redis_url: str, redis_log: RedisLog, colour: str
) -> None:
    """Half the cost, and after a crash a TTL of staleness: the region's own choice."""
    store = patient_store(redis_url)
    store.region(MY)
    store.region(CHAT)
    both = touched(2)
    both.update(touched(4))
    for _ in range(2):  # the first time brings the scripts
        redis_log.clear()
        store.settle(store.intend(both, [Offer(4, USER)]))
    said = [(c.name, c.db) for c in redis_log.commands() if c.name in ("intend", "settle")]
    assert said == [("intend", 2), ("settle", 2), ("settle", 4)]
    redis_log.clear()
    store.settle(store.intend(touched(4)))
    assert redis_log == ["settle"]
    store.close()


def test_invalidate_ends_entries_now(store: Store) -> None:
    fill(store, "old")
    store.invalidate(touched())
    assert seen(store) is Miss.EMPTY


def test_clear_ends_what_carries_the_stamps(store: Store) -> None:
    fill(store, "old")
    store.clear(2, [USERS])
    assert seen(store) is Miss.STAMP


def test_a_region_is_one_object(store: Store) -> None:
    """And a name used twice with different settings is an error that shows both."""
    assert store.region(MY) is store.region(RegionSettings("my", db=2, ttl_ms=3_600_000))
    with pytest.raises(ConfigurationError, match="'my' is declared twice"):
        store.region(RegionSettings("my", db=3, ttl_ms=3_600_000))


def test_check_names_the_region_and_what_the_server_has(redis_url: str) -> None:
    """Before the first request, not in it."""
    store = patient_store(redis_url)
    store.region(MY)
    store.check()
    store.region(RegionSettings("far", db=16, ttl_ms=1000))
    with pytest.raises(ConfigurationError, match=r"'far' is in database 16, .* 16 \(0 to 15\)"):
        store.check()
    store.close()


def test_observers_are_told_of_every_commit(redis_url: str) -> None:
    """Entries and stamps, per database."""
    stats = Stats()
    store = patient_store(redis_url, observer=stats)
    store.settle(store.intend(Touched({2: {"a", "b"}, 3: {"c"}}, {2: {USERS}})))
    assert dict(stats.invalidated) == {2: 3, 3: 1}
    store.close()


class Faulty(Observer):
    """An observer with a bug."""

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        raise ZeroDivisionError

    def error(self, what: str, error: BaseException) -> None:
        raise ZeroDivisionError


def test_an_observers_fault_never_fails_a_commit(redis_url: str) -> None:
    """Inside a commit it would look like the database's."""
    for url in (redis_url, "redis://127.0.0.1:1"):
        store = patient_store(url, observer=Faulty())
        store.settle(store.intend(touched()))
        store.close()


def test_a_closed_store_never_raises_at_a_commit(store: Store) -> None:
    """A session may outlive its Cache."""
    store.close()
    store.settle(store.intend(touched()))
    store.invalidate(touched())


def test_repr_shows_the_state(redis_url: str) -> None:
    store = patient_store(redis_url)
    assert repr(store) == (
        f"<Store <RedisClient {redis_url} 0 idle connections> <CircuitBreaker closed failures=0>"
        " <Journal pending keys per database: none> kept=0 <RetryThread idle>>"
    )
    store.close()


def test_what_a_commit_leaves_behind(
    redis_url: str, redis_client: "redis.Redis", colour: str
) -> None:
    """Nothing: no intent outlives its settle."""
    store = patient_store(redis_url)
    store.settle(store.intend(Touched({0: {"a", "b"}}, {0: {USERS}})))
    assert redis_client.keys("*") == []
    intent = store.intend(Touched({0: {"a"}}))
    raw = redis_client.get("a")
    assert isinstance(raw, bytes)
    assert describe(raw).token == intent.token
    store.close()
