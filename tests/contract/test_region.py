"""What a declared region serves and fills, wherever its entries are kept."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from cachedorm.errors import NotCacheable
from cachedorm.observe import Stats
from cachedorm.store.codec import UndecodableError
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.entry import ABSENT, Format, value_slot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Slots
from cachedorm.store.runtime import concurrency
from tests.fixtures.patience import PATIENCE, eventually
from tests.support.contract.colours import together
from tests.support.contract.places import (
    DB,
    INTENT_MS,
    LEASE_MS,
    STATE_42,
    TEXT,
    TTL_MS,
    USER_42,
    USER_43,
    USERS,
    Place,
    token,
    touching,
)

MY = RegionSettings("my", DB, ttl_ms=TTL_MS, lease_ms=3000, wait_ms=100)


class Database:
    """What the loads of a test answer, and how often they were asked."""

    def __init__(self) -> None:
        self.value: object = "Kim"
        self.queries = 0

    def load(self) -> Loaded:
        self.queries += 1
        return Loaded(self.value)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def region(slots: Slots, stats: Stats) -> CachedRegion:
    return CachedRegion(replace(MY, lease_ms=LEASE_MS), slots, stats, [USERS])


def test_a_miss_is_loaded_and_then_served(
    region: CachedRegion, database: Database, stats: Stats
) -> None:
    """One query, whoever reads afterwards."""
    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, database.load) == "Kim"

    assert region.get(USER_42) == "Kim"
    assert database.queries == 1
    assert stats.misses == {("my", "empty"): 1}
    assert stats.hits == {"my": 1}
    assert stats.fills == {"my": 1}


def test_filling_without_having_read_is_a_read(region: CachedRegion, database: Database) -> None:
    """A caller that goes straight to fill gets what is cached."""
    region.fill(USER_42, database.load)
    database.value = "Lee"

    assert region.fill(USER_42, database.load) == "Kim"
    assert database.queries == 1


def test_absence_is_remembered(region: CachedRegion, database: Database) -> None:
    """A row that does not exist is asked for once."""
    database.value = ABSENT
    region.fill(USER_42, database.load)

    assert region.get(USER_42) is ABSENT
    assert region.fill(USER_42, database.load) is ABSENT
    assert database.queries == 1


def test_an_answer_for_its_reader_alone_is_not_kept(
    region: CachedRegion, database: Database
) -> None:
    """A load that says so is not published, and leaves no lease behind."""
    assert region.fill(USER_42, lambda: Loaded("mine", publish=False)) == "mine"

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, database.load) == "Kim"
    assert region.get(USER_42) == "Kim"


def test_a_row_whose_time_is_over_is_not_kept(region: CachedRegion, place: Place) -> None:
    """A time to live of nothing means: do not publish."""
    for loaded in (Loaded("old", ttl_ms=0), Loaded("old", ttl_ms=-5)):
        assert region.fill(USER_42, partial(replace, loaded)) == "old"
        assert place.raw(USER_42) is None


def test_a_value_that_cannot_be_stored_is_still_the_answer(
    region: CachedRegion, place: Place, stats: Stats
) -> None:
    """The caller gets its row; nobody waits for a lease."""

    def refuse(value: object) -> bytes:
        raise NotCacheable("no such kind")

    key = EntryKey("odd", (USERS,), Format(b"odd\0\0\0\0\1", refuse, bytes.decode))
    assert region.fill(key, lambda: Loaded("odd")) == "odd"

    assert place.raw(key) is None
    assert stats.errors == {"encode": 1}


def test_a_failing_load_leaves_no_lease(
    region: CachedRegion, place: Place, database: Database
) -> None:
    """The error is the caller's; the next reader need not wait."""

    def fail() -> Loaded:
        raise LookupError("the database is away")

    with pytest.raises(LookupError):
        region.fill(USER_42, fail)

    assert place.raw(USER_42) is None
    assert region.fill(USER_42, database.load) == "Kim"


def test_undecodable_bytes_are_a_counted_miss_and_replaced(
    region: CachedRegion, place: Place, database: Database, stats: Stats
) -> None:
    """Whatever bytes stand there, they are never an exception, and do not stay."""

    def decode(payload: bytes) -> str:
        if payload.startswith(b"\xff"):
            raise UndecodableError("not text")
        return payload.decode()

    key = EntryKey(USER_42, USER_42.stamps, Format(TEXT.fingerprint, str.encode, decode))
    lease = place.lease(key)
    slot = value_slot(key.form, lease.server, lease.stamps, b"\xff\xfe", created_ms=1)
    assert place.slots.publish(DB, key, lease.token, slot, TTL_MS)

    assert region.get(key) is NO_VALUE
    assert stats.misses == {("my", "undecodable"): 1}
    assert region.fill(key, database.load) == "Kim"
    assert region.get(key) == "Kim"
    assert database.queries == 1


def test_an_unknown_flag_is_a_miss_and_replaced(
    region: CachedRegion, place: Place, database: Database, stats: Stats
) -> None:
    """A value flagged as nobody of this version flags it is loaded again."""
    lease = place.lease(USER_42)
    slot = bytearray(value_slot(TEXT, lease.server, lease.stamps, b"?", created_ms=1))
    slot[18] = 0x40
    assert place.slots.publish(DB, USER_42, lease.token, bytes(slot), TTL_MS)

    assert region.get(USER_42) is NO_VALUE
    assert stats.misses == {("my", "garbage"): 1}
    assert region.fill(USER_42, database.load) == "Kim"
    assert region.get(USER_42) == "Kim"


def test_every_reason_for_a_miss_is_named(region: CachedRegion, place: Place, stats: Stats) -> None:
    """Observers learn why a read was no hit."""
    region.get(USER_42)
    place.lease(USER_42)
    region.get(USER_42)
    place.intend(USER_42, mine=token())
    region.get(USER_42)
    place.fill(USER_43, "Lee")
    place.slots.clear(DB, (USERS,))
    region.get(USER_43)
    region.get(EntryKey(USER_43, (USERS,), Format(b"newer\0\0\0", str.encode, bytes.decode)))

    assert [reason for _, reason in stats.misses] == ["empty", "lease", "intent", "stamp", "schema"]


def test_behind_an_intent_the_database_answers(
    region: CachedRegion, place: Place, database: Database, stats: Stats
) -> None:
    """A reader does not wait for a writer, and publishes nothing."""
    place.intend(USER_42, mine=token())

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, database.load) == "Kim"
    assert region.get(USER_42) is NO_VALUE
    assert stats.bypasses == {("my", "intent"): 1}
    assert stats.refused == {"my": 1}


def test_another_holder_is_waited_for_so_long_only(
    region: CachedRegion, place: Place, database: Database, stats: Stats
) -> None:
    """A lease whose holder died costs its readers wait_ms, not their answer."""
    lease = place.lease(USER_42)

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, database.load) == "Kim"
    assert place.raw(USER_42) == b"L" + lease.token
    assert stats.bypasses == {("my", "lease"): 1}
    assert stats.waits == {"my": 1}


def test_a_fill_takes_over_from_a_holder_that_gives_up(
    slots: Slots, place: Place, database: Database
) -> None:
    """Whoever waits gets the lease that another gave up, and publishes."""
    region = CachedRegion(replace(MY, wait_ms=5000), slots, Stats())
    lease = place.lease(USER_42)
    assert region.get(USER_42) is NO_VALUE

    filled, _ = together(
        lambda: region.fill(USER_42, database.load),
        lambda: place.slots.release(DB, USER_42, lease.token),
    )

    assert filled == "Kim"
    assert region.get(USER_42) == "Kim"


def test_a_fill_takes_what_the_holder_publishes(
    slots: Slots, place: Place, database: Database
) -> None:
    """Whoever waits gets the value that another published, without a query."""
    region = CachedRegion(replace(MY, wait_ms=5000), slots, Stats())
    lease = place.lease(USER_42)
    assert region.get(USER_42) is NO_VALUE

    filled, published = together(
        lambda: region.fill(USER_42, database.load), lambda: place.publish(USER_42, lease, "Park")
    )

    assert (filled, published) == ("Park", True)
    assert database.queries == 0


def test_a_load_that_outlives_its_lease_is_counted(
    slots: Slots, place: Place, stats: Stats
) -> None:
    """A query slower than its region's lease is never cached, and somebody should see that."""
    region = CachedRegion(replace(MY, lease_ms=1), slots, stats)

    def slow() -> Loaded:
        eventually(lambda: place.raw(USER_42) is None, pause=concurrency.sleep)
        # The server's clock may be ahead of ours by a part of a millisecond.
        concurrency.sleep(0.002)
        return Loaded("slow")

    assert region.fill(USER_42, slow) == "slow"
    assert region.get(USER_42) is NO_VALUE
    assert region.outlived == 1
    assert stats.bypasses["my", "outlived"] == 1


def test_a_fill_refused_by_a_commit_does_not_count_as_slow(
    region: CachedRegion, place: Place
) -> None:
    """Refusals are the protocol at work; only lateness is counted."""

    def interrupted() -> Loaded:
        place.settle(USER_42, mine=token())
        return Loaded("old")

    assert region.fill(USER_42, interrupted) == "old"
    assert region.get(USER_42) is NO_VALUE
    assert region.outlived == 0


class Crowd:
    """Forty readers, and a load that lasts until every one of them has missed."""

    def __init__(self, region: CachedRegion, database: Database) -> None:
        self.region, self.database = region, database
        self.missed: list[bool] = []

    def read(self) -> object:
        found = self.region.get(USER_42)
        self.missed.append(found is NO_VALUE)
        return self.region.fill(USER_42, self.load) if found is NO_VALUE else found

    def load(self) -> Loaded:
        eventually(lambda: len(self.missed) >= 40, pause=concurrency.sleep)
        return self.database.load()

    def answers(self) -> list[object]:
        return together(*[self.read] * 40)


def test_forty_readers_make_one_query(region: CachedRegion, database: Database) -> None:
    """A cold key is loaded once for all who ask at once."""
    crowd = Crowd(region, database)

    assert crowd.answers() == ["Kim"] * 40
    assert all(crowd.missed)
    assert database.queries == 1


def test_forty_readers_behind_an_intent_make_two_queries_at_most(
    region: CachedRegion, place: Place, database: Database
) -> None:
    """Where nothing can be published, flights follow each other, one at a time."""
    place.intend(USER_42, mine=token())
    crowd = Crowd(region, database)

    assert crowd.answers() == ["Kim"] * 40
    assert database.queries <= 2


def test_followers_get_values_of_their_own(region: CachedRegion) -> None:
    """A mutable value that one reader changes is not another reader's."""
    form = Format(
        b"list\0\0\0\1", lambda rows: ",".join(rows).encode(), lambda b: b.decode().split(",")
    )
    key = EntryKey("list", (USERS,), form)

    def load() -> Loaded:
        flights = region.entries.filler.flights._flying
        eventually(
            lambda: any(each.followers for each in [*flights.values()]),
            pause=concurrency.sleep,
        )
        return Loaded(["a", "b"])

    first, second = together(*[lambda: region.fill(key, load)] * 2)
    first.append("c")

    assert second == ["a", "b"]
    assert region.get(key) == ["a", "b"]


def test_clearing_ends_entries_and_plain_ones(region: CachedRegion, database: Database) -> None:
    """Everything in the region carries a stamp that clearing takes away."""
    region.fill(USER_42, database.load)
    region.set("plain", [1, 2])
    region.clear()

    assert region.get(USER_42) is NO_VALUE
    assert region.get("plain") is NO_VALUE


def test_a_region_can_be_told_more_stamps_to_clear(slots: Slots, database: Database) -> None:
    """Tables that are declared later are cleared too."""
    region = CachedRegion(MY, slots, Stats())
    region.fill(USER_42, database.load)
    region.clear()
    assert region.get(USER_42) == "Kim"

    region.watch([USERS])
    region.clear()
    assert region.get(USER_42) is NO_VALUE


def test_entries_of_several_tables_are_one_read(region: CachedRegion, database: Database) -> None:
    """Each stamp counts: whichever is touched ends the entry."""
    for stamp in STATE_42.stamps:
        region.fill(STATE_42, database.load)
        assert region.get(STATE_42) == "Kim"
        mine = token()
        region.entries.slots.intend(touching(stamp), (), mine, INTENT_MS)
        region.entries.slots.settle(touching(stamp), mine, {})
        assert region.get(STATE_42) is NO_VALUE


def test_a_nested_fill_of_the_same_key_does_not_wait_for_itself(
    region: CachedRegion, database: Database
) -> None:
    """A load that reads its own entry is answered by the database in the end."""

    def load() -> Loaded:
        inner = region.fill(USER_42, database.load)
        return Loaded(f"outer {inner}")

    assert region.fill(USER_42, load) == "outer Kim"
    assert region.get(USER_42) == "outer Kim"


@pytest.fixture
def flights(region: CachedRegion) -> Iterator[str]:
    """Fails a test that leaves a flight behind."""
    yield ""
    assert repr(region.entries.filler.flights) == "Flights(0 in the air)"


def test_loads_that_need_each_other_do_not_wait_for_ever(
    region: CachedRegion, flights: str
) -> None:
    """Two leaders whose loads read each other's entry both get an answer."""
    both_load = [concurrency.signal(), concurrency.signal()]

    def leader(mine: int, own: EntryKey, other: EntryKey) -> object:
        def load() -> Loaded:
            both_load[mine].set()
            both_load[1 - mine].wait(PATIENCE)
            return Loaded(region.fill(other, lambda: Loaded("inner")))

        return region.fill(own, load)

    answers = together(lambda: leader(0, USER_42, USER_43), lambda: leader(1, USER_43, USER_42))

    assert answers == ["inner", "inner"]


def test_reprs_say_what_they_are(region: CachedRegion, slots: Slots) -> None:
    """Whoever debugs at night sees the state."""
    assert repr(region) == "<CachedRegion 'my' db=2 ttl=60s>"
    assert repr(region.entries) == "Entries('my', db=2, Flights(0 in the air))"
    assert repr(slots).startswith(("RedisSlots(", "MemorySlots("))
