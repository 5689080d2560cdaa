"""What only Redis can do to the protocol: evict, hold other types, fail over, forget scripts."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
import redis
from dogpile.cache import make_region

import cachedorm.store.backend  # noqa: F401 - a checkout has no entry points
from cachedorm.observe import Stats
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.changes import Offer
from cachedorm.store.protocol.entry import Miss, value_slot
from cachedorm.store.protocol.keys import EntryKey, intents_key
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Granted, Held, Refused, Slots
from cachedorm.store.redis.client import RedisClient
from cachedorm.store.redis.slots import RedisSlots
from examples.servers import PrivateRedis
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import PATIENCE, eventually
from tests.support.contract import places
from tests.support.contract.places import (
    DB,
    INTENT_MS,
    LEASE_MS,
    STATE_42,
    TEXT,
    TTL_MS,
    USER_42,
    USERS,
    Place,
    slot_of,
    token,
    touching,
)

db_client = places.db_client


@pytest.fixture
def slots(redis_url: str) -> Iterator[RedisSlots]:
    slots = RedisSlots(RedisClient(redis_url, PATIENCE, PATIENCE))
    yield slots
    slots.close()


@pytest.fixture
def place(slots: RedisSlots) -> Place:
    return Place(slots)


def test_counted_intents_evicted_the_slot_still_refuses(
    place: Place, db_client: "redis.Redis"
) -> None:
    """Either witness of a writer is enough."""
    writer = token()
    place.intend(USER_42, mine=writer)
    db_client.delete(intents_key(USER_42))

    assert isinstance(place.acquire(USER_42), Refused)
    empty = value_slot(TEXT, place.server(), (), b"", created_ms=1)
    assert not place.slots.put(DB, USER_42, empty[:-1] + b"\1", b"plain", TTL_MS, TTL_MS)


def test_counted_intents_evicted_the_slot_still_spoils_a_write_through(
    place: Place, db_client: "redis.Redis"
) -> None:
    """The second of two writers sees the first one's slot."""
    place.intend(USER_42, mine=token())
    db_client.delete(intents_key(USER_42))
    offer = Offer(DB, USER_42)

    assert not place.slots.intend(touching(USER_42), (offer,), token(), INTENT_MS)[offer].clean


def test_values_of_another_type_count_as_nothing(place: Place, db_client: "redis.Redis") -> None:
    """Somebody's list at our keys is a miss, and is overwritten; never an error."""
    keys = (USER_42, USERS, intents_key(USER_42), intents_key(USERS))

    def spoil() -> None:
        db_client.delete(*keys)
        for key in keys[:2]:
            db_client.rpush(key, "a", "b")
        for key in keys[2:]:
            db_client.set(key, "no sorted set")

    spoil()
    assert place.value(USER_42) is Miss.EMPTY
    place.fill(USER_42, "Kim")
    assert place.value(USER_42) == "Kim"

    spoil()
    offer, writer = Offer(DB, USER_42), token()
    fixed = place.slots.intend(touching(USER_42), (offer,), writer, INTENT_MS)[offer]
    assert isinstance(place.acquire(USER_42), Refused)
    slot = value_slot(TEXT, fixed.server, fixed.stamps, b"new", created_ms=1)
    place.slots.settle(touching(USER_42), writer, {offer: (slot, TTL_MS)})
    assert place.value(USER_42) == "new"

    spoil()
    place.settle(USER_42, USERS, mine=token())
    assert not db_client.exists(USER_42, USERS)
    spoil()
    assert not place.publish(USER_42, Granted(token(), (token(),), place.server()), "late")
    assert not place.slots.release(DB, USER_42, token())
    empty = value_slot(TEXT, place.server(), (), b"", created_ms=1)
    assert place.slots.put(DB, USER_42, empty[:-1] + b"\1", b"plain", TTL_MS, TTL_MS)
    assert place.value(USER_42) == "plain"


def test_every_key_has_a_hard_ttl(place: Place, db_client: "redis.Redis") -> None:
    """Whatever stops half-way, Redis forgets it in the end."""

    def ttls() -> dict[object, int]:
        keys = db_client.keys()
        return {key: db_client.pttl(key) for key in keys}

    def assert_bounded() -> None:
        assert ttls()
        assert all(ttl > 0 for ttl in ttls().values()), ttls()

    lease = place.lease(STATE_42)
    assert_bounded()
    assert ttls()[STATE_42.encode()] <= LEASE_MS
    assert place.publish(STATE_42, lease, "Kim")
    assert_bounded()
    offer, writer = Offer(DB, USER_42), token()
    place.slots.intend(touching(USERS, STATE_42), (), writer, INTENT_MS)
    place.settle(USERS, STATE_42, mine=writer)
    fixed = place.slots.intend(touching(USER_42), (offer,), writer, INTENT_MS)[offer]
    assert_bounded()
    slot = value_slot(TEXT, fixed.server, fixed.stamps, b"new", created_ms=1)
    place.slots.settle(touching(USER_42), writer, {offer: (slot, TTL_MS)})
    assert_bounded()
    assert len(ttls()) == 3


def test_stamps_live_as_long_as_what_carries_them(place: Place, db_client: "redis.Redis") -> None:
    """The longest entry counts, and a shorter one shortens nothing."""
    lease = place.lease(USER_42)
    long = 10 * TTL_MS
    assert place.slots.publish(DB, USER_42, lease.token, slot_of(USER_42, lease, "Kim"), long)
    assert db_client.pttl(USERS) > long - 5000
    place.fill(places.USER_43, "Lee")
    offer, writer = Offer(DB, STATE_42), token()
    fixed = place.slots.intend(touching(), (offer,), writer, INTENT_MS)[offer]
    slot = value_slot(TEXT, fixed.server, fixed.stamps, b"new", created_ms=1)
    assert db_client.pttl(USERS) > long - 5000
    place.slots.settle(touching(), writer, {offer: (slot, 20 * TTL_MS)})

    assert [db_client.pttl(key) > 19 * TTL_MS for key in (STATE_42, *STATE_42.stamps)] == [True] * 3


def test_a_lease_without_an_end_gets_one(place: Place, db_client: "redis.Redis") -> None:
    """Somebody's PERSIST must not hold an entry for ever."""
    place.lease(USER_42)
    db_client.persist(USER_42)

    assert isinstance(place.acquire(USER_42), Held)
    assert 0 < db_client.pttl(USER_42) <= LEASE_MS


def test_forgotten_scripts_are_sent_again(place: Place, db_client: "redis.Redis") -> None:
    """SCRIPT FLUSH between any two steps goes unnoticed."""
    lease = place.lease(USER_42)
    db_client.script_flush()
    assert place.publish(USER_42, lease, "Kim")
    db_client.script_flush()
    writer = token()
    place.intend(USER_42, mine=writer)
    db_client.script_flush()
    place.settle(USER_42, mine=writer)

    assert place.value(USER_42) is Miss.EMPTY


def test_command_budget(slots: RedisSlots, redis_log: RedisLog) -> None:
    """A hit is one command, an uncontended miss three; a commit is two, a database each."""
    region = CachedRegion(RegionSettings("my", DB, TTL_MS), slots, Stats())
    assert region.get(STATE_42) is NO_VALUE
    # Once, because a server that never saw a script is sent its text.
    writer = token()
    slots.intend(touching(STATE_42), (), writer, INTENT_MS)
    slots.settle(touching(STATE_42), writer, {})
    region.fill(STATE_42, lambda: Loaded("level 3"))
    redis_log.clear()

    assert region.get(STATE_42) == "level 3"
    assert redis_log == ["mget"]
    redis_log.clear()
    assert region.get(USER_42) is NO_VALUE
    region.fill(USER_42, lambda: Loaded("Kim"))
    assert redis_log == ["mget", "acquire", "publish"]
    redis_log.clear()

    touched = touching(USER_42, *STATE_42.stamps)
    slots.intend(touched, (Offer(DB, USER_42),), writer, INTENT_MS)
    slots.settle(touched, writer, {})
    assert redis_log == ["intend", "settle"]


def test_deleting_nothing_is_no_command(slots: RedisSlots, redis_log: RedisLog) -> None:
    """No keys are no reason to ask Redis."""
    slots.delete(DB, ())
    assert redis_log == []


@pytest.fixture
def servers_of_two(private_redis: PrivateRedis) -> Iterator[tuple[Place, Place, "redis.Redis"]]:
    """A master, its replica (soon a master too), and a client on the replica."""
    host, port = "127.0.0.1", str(private_redis.port)
    with redis.Redis.from_url(private_redis.url) as master:
        # Else it waits five seconds for more replicas.
        master.config_set("repl-diskless-sync-delay", 0)
    with PrivateRedis(options=("--replicaof", host, port)) as replica:
        replica.start()
        wires = [RedisClient(server.url, PATIENCE, PATIENCE) for server in (private_redis, replica)]
        client: redis.Redis = redis.Redis.from_url(replica.url, db=DB)
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
        yield Place(RedisSlots(wires[0])), Place(RedisSlots(wires[1])), client
        client.close()
        for wire in wires:
            wire.close()


def promote(master: PrivateRedis, replica: "redis.Redis") -> None:
    """Let the replica catch up, and make it a master of its own."""
    with redis.Redis.from_url(master.url) as client:
        assert client.wait(1, 60_000) == 1
    replica.replicaof("NO", "ONE")


def test_a_replicated_lease_makes_no_servable_entry_elsewhere(
    private_redis: PrivateRedis, servers_of_two: tuple[Place, Place, "redis.Redis"]
) -> None:
    """A writer's delete may have been lost in the failover that the lease survived: what is
    published on the promoted server belongs to the old one, and is not served."""
    old, new, client = servers_of_two
    lease = old.lease(USER_42)
    promote(private_redis, client)

    assert new.publish(USER_42, lease, "old")
    assert new.value(USER_42) is Miss.FOREIGN
    assert isinstance(new.acquire(USER_42), Granted)


def test_a_replicated_value_is_not_valid_elsewhere(
    private_redis: PrivateRedis, servers_of_two: tuple[Place, Place, "redis.Redis"]
) -> None:
    """A reader whose MGET was answered by the old master and whose ACQUIRE goes to the new one
    is not told "valid" for what the new one only inherited."""
    old, new, client = servers_of_two
    old.fill(USER_42, "old")
    promote(private_redis, client)

    got = new.slots.acquire(
        DB, USER_42, token(), LEASE_MS, TTL_MS, server=old.server(), replace=None
    )
    assert isinstance(got, Granted)
    assert got.server == new.server() != old.server()


def test_a_fill_across_a_failover_is_not_servable(
    private_redis: PrivateRedis, servers_of_two: tuple[Place, Place, "redis.Redis"]
) -> None:
    """A fill whose lease came from one server and whose PUBLISH goes to another, with all that
    the library itself does in between."""
    old, new, client = servers_of_two
    both = Moving(old.slots, new.slots)
    region = CachedRegion(RegionSettings("my", DB, TTL_MS), cast("Slots", both), Stats())

    def load() -> Loaded:
        promote(private_redis, client)
        both.move()
        return Loaded("old")

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, load) == "old"
    assert new.value(USER_42) is Miss.FOREIGN
    assert region.get(USER_42) is NO_VALUE


class Moving:
    """The slots of one server until it has failed over, then those of the other."""

    def __init__(self, old: Slots, new: Slots) -> None:
        self._new = new
        self._now = old

    def move(self) -> None:
        self._now = self._new

    def read(self, db: int, keys: Sequence[str]) -> tuple[Sequence[bytes | None], bytes]:
        return self._now.read(db, keys)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)


def test_a_write_through_across_a_failover_is_not_servable(
    private_redis: PrivateRedis, servers_of_two: tuple[Place, Place, "redis.Redis"]
) -> None:
    """INTEND on one server, SETTLE on another: the value belongs to the first."""
    old, new, client = servers_of_two
    offer, writer = Offer(DB, USER_42), token()
    fixed = old.slots.intend(touching(USER_42), (offer,), writer, INTENT_MS)[offer]
    promote(private_redis, client)
    slot = value_slot(TEXT, fixed.server, fixed.stamps, b"new", created_ms=1)
    new.slots.settle(touching(USER_42), writer, {offer: (slot, TTL_MS)})

    assert isinstance(new.value(USER_42), Miss)


def test_a_server_that_changed_its_name_keeps_its_entries() -> None:
    """A master whose replication id changed while connections live: an old connection asks again
    before it refuses what a new one stored."""
    with PrivateRedis(options=("--enable-debug-command", "local")).start() as server:
        wire, other = (
            RedisClient(server.url, PATIENCE, PATIENCE),
            RedisClient(server.url, PATIENCE, PATIENCE),
        )
        stats = Stats()
        region = CachedRegion(RegionSettings("my", DB, TTL_MS), RedisSlots(wire), stats)
        assert region.get(USER_42) is NO_VALUE
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("DEBUG", "CHANGE-REPL-ID")
        Place(RedisSlots(other)).fill(USER_42, "Kim")

        assert region.get(USER_42) == "Kim"
        assert stats.misses == {("my", "empty"): 1}
        for each in (wire, other):
            each.close()


def test_a_foreign_entry_is_refilled(private_redis: PrivateRedis) -> None:
    """What another server stored (and this one loaded from its file) is a miss, once."""
    wire = RedisClient(private_redis.url, PATIENCE, PATIENCE)
    stats = Stats()
    region = CachedRegion(RegionSettings("my", DB, TTL_MS), RedisSlots(wire), stats)
    region.fill(USER_42, lambda: Loaded("old"))
    key = EntryKey(USER_42, USER_42.stamps, TEXT)
    with redis.Redis.from_url(private_redis.url, db=DB) as client:
        slot = bytearray(client.get(USER_42) or b"")
        slot[10:18] = b"another!"
        client.set(USER_42, bytes(slot), px=TTL_MS)

    assert region.get(key) is NO_VALUE
    assert stats.misses["my", "foreign"] == 1
    assert region.fill(key, lambda: Loaded("new")) == "new"
    assert region.get(key) == "new"
    wire.close()


def test_without_redis_the_database_answers(private_redis: PrivateRedis) -> None:
    """Reads load, nothing raises, everything is counted."""
    wire = RedisClient(private_redis.url, PATIENCE, PATIENCE)
    stats = Stats()
    region = CachedRegion(RegionSettings("my", DB, TTL_MS), RedisSlots(wire), stats)
    private_redis.kill()

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, lambda: Loaded("Kim")) == "Kim"
    assert region.get_or_create("plain", lambda: 1) == 1
    region.set("plain", 1)
    region.delete("plain")
    region.invalidate()
    assert region.get("plain") is NO_VALUE
    assert region.get_multi(["plain"]) == [NO_VALUE]
    assert stats.errors == {"read": 4, "set": 1, "delete": 1, "clear": 1}
    assert stats.refused == {"my": 2}
    wire.close()


def test_a_delete_that_redis_missed_is_told_before_the_next_read(
    private_redis: PrivateRedis,
) -> None:
    """A plain dogpile user's deletion is not lost with the connection: the old value is not
    served again, and the key works on afterwards."""
    arguments = {"url": private_redis.url, "connect_timeout": 60, "operation_timeout": 2}
    region: Any = make_region().configure("cachedorm.redis", arguments=arguments)
    region.set("k", "old")
    assert region.get("k") == "old"
    private_redis.pause()
    region.delete("k")
    private_redis.resume()

    def works() -> bool:
        found = region.get("k")
        assert found in (NO_VALUE, "new")
        region.set("k", "new")
        return bool(found == "new")

    eventually(works)
    region.backend.close()
