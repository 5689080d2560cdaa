"""Soft expiry: refreshed ahead of its end, served through an outage, wherever entries are kept."""

import time
from dataclasses import replace
from functools import partial

import pytest

from cachedorm.store.codec import UndecodableError
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.changes import Offer, Touched
from cachedorm.store.protocol.entry import ABSENT, Format, Miss, describe, kept_slot
from cachedorm.store.protocol.keys import EntryKey, refresh_key
from cachedorm.store.protocol.slots import Granted
from cachedorm.store.runtime import concurrency
from cachedorm.store.runtime.clock import now_ms
from cachedorm.store.store import Store
from tests.fixtures.patience import eventually
from tests.support.contract.colours import together
from tests.support.contract.places import DB, TEXT, TTL_MS, USER_42, USERS, Place, token
from tests.support.contract.soft import (
    AHEAD,
    BOTH,
    HARD,
    SOON_MS,
    STALE,
    Database,
    DownError,
    region_of,
    stand,
)

REFRESHING = refresh_key(USER_42)


def test_nothing_is_soft_unless_the_region_says_so(place: Place) -> None:
    """By default an entry has no moment but the end of its key."""
    region, _ = region_of(place, HARD)
    region.fill(USER_42, Database().load)

    stored = describe(place.raw(USER_42))
    assert (stored.soft_ms, stored.outlives) == (0, False)


def test_before_it_is_due_a_value_is_a_hit_like_any_other(place: Place) -> None:
    """Nobody asks for a refresh lease."""
    region, stats = region_of(place, AHEAD)
    stand(place, USER_42, "old", up_ms=TTL_MS)

    assert region.get(USER_42) == "old"
    assert place.raw(REFRESHING) is None
    assert not stats.misses


def test_one_reader_refreshes_while_the_others_are_served(place: Place) -> None:
    """The first to see that a value is due reads the database; nobody else does, or waits."""
    region, stats = region_of(place, AHEAD)
    elsewhere, _ = region_of(place, AHEAD)
    database = Database()
    stand(place, USER_42, "old", up_ms=SOON_MS)

    assert region.get(USER_42) is NO_VALUE
    assert [region.get(USER_42), elsewhere.get(USER_42), elsewhere.get(USER_42)] == ["old"] * 3
    assert region.fill(USER_42, database.load) == "new"

    assert [region.get(USER_42), elsewhere.get(USER_42)] == ["new", "new"]
    assert database.queries == 1
    assert stats.misses == {("my", "refresh"): 1}
    assert place.raw(REFRESHING) is None


def test_of_many_readers_at_once_one_refreshes(place: Place) -> None:
    """Whoever else sees the due value is answered without the database."""
    regions = [region_of(place, AHEAD)[0] for _ in range(4)]
    stand(place, USER_42, "old", up_ms=SOON_MS)

    found = together(*(partial(region.get, USER_42) for region in regions))

    assert sorted(map(str, found)) == sorted([str(NO_VALUE), "old", "old", "old"])


def test_a_refreshed_value_has_its_whole_time_again(place: Place) -> None:
    """It is due when it was to be due, counted from now, and a little earlier at most."""
    region, _ = region_of(place, AHEAD)
    stand(place, USER_42, "old", up_ms=SOON_MS)
    began = now_ms()
    assert region.get(USER_42) is NO_VALUE
    region.fill(USER_42, Database().load)

    stored = describe(place.raw(USER_42))
    assert stored.payload == b"new"
    assert began + TTL_MS * 0.9 <= stored.soft_ms <= now_ms() + TTL_MS
    assert stored.created_ms >= began


def test_an_absence_is_refreshed_too(place: Place) -> None:
    """A row that was not there may be there by now, written by somebody we do not follow."""
    region, _ = region_of(place, AHEAD)
    stand(place, USER_42, None, up_ms=SOON_MS)

    assert region.get(USER_42) is NO_VALUE
    assert region.get(USER_42) is ABSENT
    assert region.fill(USER_42, Database().load) == "new"
    assert region.get(USER_42) == "new"


def test_in_the_first_half_of_its_life_no_value_is_due(place: Place) -> None:
    """What lives for less than the region refreshes ahead is not refreshed by every read."""
    region, stats = region_of(place, AHEAD)
    stand(place, USER_42, "old", up_ms=SOON_MS, age_ms=SOON_MS // 2)

    assert region.get(USER_42) == "old"
    assert not stats.misses


def test_a_refresh_that_fails_costs_nobody_the_old_value(place: Place) -> None:
    """The error is its caller's; this process tries once in a lease's time."""
    region, _ = region_of(place, AHEAD)
    stand(place, USER_42, "old", up_ms=SOON_MS)

    assert region.get(USER_42) is NO_VALUE
    with pytest.raises(LookupError):
        region.fill(USER_42, Database(LookupError("no such column")).load)

    assert [region.get(USER_42), region.get(USER_42)] == ["old", "old"]
    assert place.raw(REFRESHING) is None


def test_a_refresh_in_an_outage_is_answered_with_the_old_value(place: Place) -> None:
    """It is as good as it was for everybody else a moment ago."""
    region, stats = region_of(place, AHEAD)
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, Database(DownError()).load) == "old"

    assert place.raw(USER_42) == seen
    assert stats.errors == {"database": 1}


def test_a_refresh_in_an_outage_is_no_way_around_an_invalidation(place: Place) -> None:
    """What a commit ended while the refresher was trying is not served to it."""
    region, _ = region_of(place, AHEAD)
    stand(place, USER_42, "old", up_ms=SOON_MS)

    def load() -> Loaded:
        place.settle(USER_42, mine=token())
        raise DownError

    assert region.get(USER_42) is NO_VALUE
    with pytest.raises(DownError):
        region.fill(USER_42, load)


def test_an_answer_for_its_reader_alone_refreshes_nothing(place: Place) -> None:
    """A reader on a replica leaves the value to others, and frees the lease."""
    region, _ = region_of(place, AHEAD)
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, lambda: Loaded("mine", publish=False)) == "mine"

    assert place.raw(USER_42) == seen
    assert place.raw(REFRESHING) is None


def test_a_refresh_that_outlives_its_lease_is_not_stored(place: Place) -> None:
    """As with a fill, somebody else may be at it by then, with what the database says now."""
    region, _ = region_of(place, replace(AHEAD, lease_ms=50))
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)

    def slow() -> Loaded:
        began = time.monotonic()
        eventually(
            lambda: place.raw(REFRESHING) is None and time.monotonic() - began >= 0.05,
            pause=concurrency.sleep,
        )
        return Loaded("slow")

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, slow) == "slow"

    assert place.raw(USER_42) == seen
    assert region.outlived == 1


def test_a_lost_reply_is_asked_for_again(place: Place) -> None:
    """Asking again for one's own refresh lease grants it."""
    seen, mine = stand(place, USER_42, "old", up_ms=SOON_MS), token()

    for _ in range(2):
        assert isinstance(place.slots.refresh(DB, USER_42, mine, 3000, seen=seen), Granted)


def test_a_value_that_outlives_its_time_is_a_miss_after_it(place: Place) -> None:
    """Its key lives on for outages; readers with another setting, or none, do not serve it."""
    for settings in (STALE, HARD, AHEAD):
        region, stats = region_of(place, settings)
        stand(place, USER_42, "old", up_ms=-1, outlives=True)

        assert region.get(USER_42) is NO_VALUE
        assert stats.misses == {("my", "expired"): 1}
        assert region.fill(USER_42, Database().load) == "new"
        assert region.get(USER_42) == "new"
        place.slots.delete(DB, (USER_42,))


def test_a_value_is_kept_for_outages_where_the_region_says_so(place: Place) -> None:
    """Its time is up when it was to be up; its key lives on."""
    region, _ = region_of(place, STALE)
    began = now_ms()
    region.fill(USER_42, Database().load)

    stored = describe(place.raw(USER_42))
    assert stored.outlives
    assert began + TTL_MS * 0.95 <= stored.soft_ms <= now_ms() + TTL_MS


def test_in_an_outage_the_old_value_is_served(place: Place) -> None:
    """By whoever finds the database down, and for one lease's time by everybody."""
    region, stats = region_of(place, STALE)
    elsewhere, _ = region_of(place, STALE)
    database = Database(DownError())
    stand(place, USER_42, "old", up_ms=-1, outlives=True)

    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, database.load) == "old"
    assert [region.get(USER_42), elsewhere.get(USER_42)] == ["old", "old"]

    assert database.queries == 1
    assert stats.errors == {"database": 1}
    kept = describe(place.raw(USER_42))
    assert kept.kept
    assert now_ms() < kept.soft_ms <= now_ms() + STALE.lease_ms
    assert place.raw(REFRESHING) is None


def test_after_an_outage_the_database_answers(place: Place) -> None:
    """What was kept is a miss again when its little while is over, and is replaced."""
    region, _ = region_of(place, replace(STALE, lease_ms=20))
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    assert region.fill(USER_42, Database(DownError()).load) == "old"

    found: list[object] = []

    def is_over() -> bool:
        found.append(region.get(USER_42))
        return found[-1] is NO_VALUE

    eventually(is_over, pause=concurrency.sleep)
    assert set(found) <= {"old", NO_VALUE}
    assert region_of(place, STALE)[0].fill(USER_42, Database().load) == "new"
    assert region.get(USER_42) == "new"


def test_what_is_kept_in_an_outage_is_not_refreshed_ahead(place: Place) -> None:
    """Its readers would else be sent to the database that is down."""
    region, stats = region_of(place, BOTH)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    assert region.fill(USER_42, Database(DownError()).load) == "old"

    assert region.get(USER_42) == "old"
    assert ("my", "refresh") not in stats.misses


def test_an_absence_is_served_in_an_outage_too(place: Place) -> None:
    """A row that was not there is still not there, as far as anybody knows."""
    region, _ = region_of(place, STALE)
    stand(place, USER_42, None, up_ms=-1, outlives=True)

    assert region.fill(USER_42, Database(DownError()).load) is ABSENT


def test_another_error_is_the_callers(place: Place) -> None:
    """A statement that the database refuses is no outage."""
    region, _ = region_of(place, STALE)
    seen = stand(place, USER_42, "old", up_ms=-1, outlives=True)

    with pytest.raises(LookupError):
        region.fill(USER_42, Database(LookupError("no such column")).load)

    assert place.raw(USER_42) == seen
    assert place.raw(REFRESHING) is None


def test_without_the_setting_an_outage_is_the_callers(place: Place) -> None:
    """Though the value stands there, kept by a process with the setting."""
    region, _ = region_of(place, HARD)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)

    with pytest.raises(DownError):
        region.fill(USER_42, Database(DownError()).load)


@pytest.mark.parametrize("touched", [USER_42, USERS])
def test_what_a_commit_has_ended_is_not_served_in_an_outage(place: Place, touched: str) -> None:
    """Neither by its key nor by its tag, neither while the commit is at it nor after it."""
    region, _ = region_of(place, STALE)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    writer = token()
    place.intend(touched, mine=writer)
    with pytest.raises(DownError):
        region.fill(USER_42, Database(DownError()).load)

    place.settle(touched, mine=writer)
    with pytest.raises(DownError):
        region.fill(USER_42, Database(DownError()).load)


@pytest.mark.parametrize("touched", [USER_42, USERS])
def test_what_a_commit_ends_during_the_load_is_not_served(place: Place, touched: str) -> None:
    """The value is looked at again after the load has failed."""
    region, _ = region_of(place, STALE)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)

    def load() -> Loaded:
        place.settle(touched, mine=token())
        raise DownError

    with pytest.raises(DownError):
        region.fill(USER_42, load)
    assert place.value(USER_42) in (Miss.EMPTY, Miss.STAMP)


def test_a_connection_that_hangs_outlives_the_lease_and_the_value_is_kept(place: Place) -> None:
    """The outage is known late, and others need not find it out for themselves all the same."""
    region, _ = region_of(place, replace(STALE, lease_ms=50))
    stand(place, USER_42, "old", up_ms=-1, outlives=True)

    def hang() -> Loaded:
        eventually(lambda: place.raw(REFRESHING) is None, pause=concurrency.sleep)
        raise DownError

    assert region.fill(USER_42, hang) == "old"
    assert describe(place.raw(USER_42)).kept


def test_whoever_waits_for_another_process_is_served_in_an_outage(place: Place) -> None:
    """A reader that has no lease finds the old value where it stands."""
    region, stats = region_of(place, STALE)
    seen = stand(place, USER_42, "old", up_ms=-1, outlives=True)
    assert isinstance(place.slots.refresh(DB, USER_42, token(), 3000, seen=seen), Granted)

    assert region.fill(USER_42, Database(DownError()).load) == "old"
    assert stats.bypasses == {("my", "lease"): 1}
    assert place.raw(USER_42) == seen


def test_whoever_waits_for_another_process_gets_what_it_puts_there(place: Place) -> None:
    """Without a query of its own."""
    region, _ = region_of(place, replace(STALE, wait_ms=5000))
    database = Database("mine")
    seen, lease = stand(place, USER_42, "old", up_ms=-1, outlives=True), token()
    assert isinstance(place.slots.refresh(DB, USER_42, lease, 3000, seen=seen), Granted)
    assert region.get(USER_42) is NO_VALUE
    new = kept_slot(seen, now_ms() + TTL_MS)

    filled, put = together(
        lambda: region.fill(USER_42, database.load),
        lambda: place.slots.replace(DB, USER_42, lease, new, TTL_MS, seen=seen),
    )

    assert (filled, put) == ("old", True)
    assert database.queries == 0


def test_a_row_that_says_when_it_ends_ends_then(place: Place) -> None:
    """An expired token is not served, whatever is down; a declared time to live is stretched."""
    region, _ = region_of(place, STALE)
    region.fill(USER_42, lambda: Loaded("token", ttl_ms=5000))
    assert not describe(place.raw(USER_42)).outlives

    declared = EntryKey("user:short:42", (USERS,), TEXT, 5000)
    region.fill(declared, lambda: Loaded("profile", ttl_ms=5000))
    assert describe(place.raw(declared)).outlives


def test_a_value_written_through_lives_like_one_that_was_read(place: Place) -> None:
    """It too is refreshed ahead, and kept for outages."""
    store = Store(place.slots)
    store.region(BOTH)
    offer = Offer(DB, USER_42)
    intent = store.intend(Touched(), [offer])
    store.settle(intent, {offer: ("written", TTL_MS)})

    stored = describe(place.raw(USER_42))
    assert stored.payload == b"written"
    assert stored.outlives
    assert now_ms() < stored.soft_ms <= now_ms() + TTL_MS


def test_undecodable_bytes_are_not_served_in_an_outage(place: Place) -> None:
    """Whatever bytes stand there, the caller gets the database's own error."""
    key = EntryKey(USER_42, USER_42.stamps, Format(TEXT.fingerprint, str.encode, _undecodable))
    region, _ = region_of(place, STALE)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)

    with pytest.raises(DownError):
        region.fill(key, Database(DownError()).load)


def _undecodable(payload: bytes) -> str:
    raise UndecodableError("not text")
