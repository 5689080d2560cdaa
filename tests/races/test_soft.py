"""Refreshers against writers and each other, step by step, wherever entries are kept."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

import pytest
import redis

from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.memory.slots import MemorySlots
from cachedorm.store.protocol.entry import Miss, describe, value_slot
from cachedorm.store.protocol.keys import EntryKey, refresh_key
from cachedorm.store.protocol.slots import Granted, Held, Refused
from tests.fixtures.patience import PATIENCE as WAIT
from tests.fixtures.patience import eventually
from tests.races.test_slots_flights import Query
from tests.support.contract import places
from tests.support.contract.places import (
    DB,
    MISSIONS_OF_42,
    STATE_42,
    TTL_MS,
    USER_42,
    USERS,
    Place,
    token,
)
from tests.support.contract.soft import AHEAD, SOON_MS, STALE, Database, region_of, stand

slots, place, db_client = places.slots, places.place, places.db_client

Write: TypeAlias = Callable[[Place, str], None]
LEASE_MS = 60_000


def commits(place: Place, touched: str) -> None:
    """A whole commit, from intent to settle."""
    writer = token()
    place.intend(touched, mine=writer)
    place.settle(touched, mine=writer)


def is_about_to_commit(place: Place, touched: str) -> None:
    """A writer between intent and settle."""
    place.intend(touched, mine=token())


def only_settles(place: Place, touched: str) -> None:
    """A writer of a region without intents, or an invalidation by hand."""
    place.settle(touched, mine=token())


def refresh(place: Place, key: EntryKey, seen: bytes) -> bytes:
    """A refresh lease on what was seen."""
    mine = token()
    assert isinstance(place.slots.refresh(DB, key, mine, LEASE_MS, seen=seen), Granted)
    return mine


def newer(seen: bytes, text: str) -> bytes:
    """What a refresher would put over it: the same stamps, another payload."""
    old = describe(seen)
    return value_slot(
        old.fingerprint, old.server, old.stamps, text.encode(), created_ms=old.created_ms + 1
    )


def put(place: Place, key: EntryKey, lease: bytes, seen: bytes, text: str) -> bool:
    return place.slots.replace(DB, key, lease, newer(seen, text), TTL_MS, seen=seen)


@pytest.mark.parametrize("touched", [STATE_42, USERS, MISSIONS_OF_42])
@pytest.mark.parametrize("writes", [commits, is_about_to_commit, only_settles])
def test_a_late_refresh_loses_to_a_writer(place: Place, writes: Write, touched: str) -> None:
    """What was read before a commit is never put where the commit has ended the old value."""
    seen = stand(place, STATE_42, "old", up_ms=SOON_MS)
    lease = refresh(place, STATE_42, seen)
    writes(place, touched)

    assert not put(place, STATE_42, lease, seen, "read before the commit")
    assert isinstance(place.value(STATE_42), Miss)


@pytest.mark.parametrize("touched", [STATE_42, USERS, MISSIONS_OF_42])
def test_a_late_refresh_loses_to_the_fill_that_followed_the_commit(
    place: Place, touched: str
) -> None:
    """The entry is whole again, and so are its stamps, but they are others."""
    seen = stand(place, STATE_42, "old", up_ms=SOON_MS)
    lease = refresh(place, STATE_42, seen)
    commits(place, touched)
    place.slots.delete(DB, (STATE_42,))
    place.fill(STATE_42, "of the commit")

    assert not put(place, STATE_42, lease, seen, "read before the commit")
    assert place.value(STATE_42) == "of the commit"


def test_a_stamp_that_is_another_ends_a_refresh_though_the_value_stands(place: Place) -> None:
    """A commit by tag leaves the bytes of the entry alone, and a fill of another entry makes the
    stamp anew: the old value is not servable, and what its refresher read is not put there."""
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)
    lease = refresh(place, USER_42, seen)
    commits(place, USERS)
    place.fill(places.USER_43, "another entry of the table")
    assert place.raw(USER_42) == seen

    assert not put(place, USER_42, lease, seen, "read before the commit")
    assert place.raw(USER_42) == seen


@pytest.mark.parametrize("touched", [USER_42, USERS])
def test_a_living_intent_alone_ends_a_refresh(
    place: Place, db_client: "redis.Redis", touched: str
) -> None:
    """Value and stamps have come back though a writer is about to commit (a server that lost what
    it was told last, but not all): no value is stored while an intent lives."""
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)
    stamp = place.raw(USERS)
    lease = refresh(place, USER_42, seen)
    place.intend(touched, mine=token())
    for key, held in ((USER_42, seen), (USERS, stamp)):
        assert held is not None
        if isinstance(place.slots, MemorySlots):
            place.slots._set(DB, key, held, TTL_MS)
        else:
            db_client.set(key, held, px=TTL_MS)

    assert not put(place, USER_42, lease, seen, "read before the commit")
    assert place.raw(USER_42) == seen


def test_an_invalidation_ends_what_is_served_while_it_is_refreshed(place: Place) -> None:
    """A reader beside the refresher is served the old value until a commit, and not after it."""
    region, _ = region_of(place, AHEAD)
    stand(place, USER_42, "old", up_ms=SOON_MS)
    assert region.get(USER_42) is NO_VALUE
    assert region.get(USER_42) == "old"

    commits(place, USERS)
    assert region.get(USER_42) is NO_VALUE
    assert region.fill(USER_42, Database("of the commit").load) == "of the commit"


def test_two_refreshers_of_one_value_are_one(place: Place) -> None:
    """The second is told that somebody is at it, and for how long."""
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)
    refresh(place, USER_42, seen)

    held = place.slots.refresh(DB, USER_42, token(), LEASE_MS, seen=seen)
    assert isinstance(held, Held)
    assert 0 < held.remaining_ms <= LEASE_MS


def test_who_read_before_a_refresh_ended_does_not_refresh_again(place: Place) -> None:
    """One that was paused between its read and its asking is told that the value is gone."""
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)
    assert put(place, USER_42, refresh(place, USER_42, seen), seen, "new")

    assert isinstance(place.slots.refresh(DB, USER_42, token(), LEASE_MS, seen=seen), Refused)


def test_a_slow_refresher_loses_to_the_next_one(place: Place) -> None:
    """Whose lease has ended has read the database too early: another may have read it since."""
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)
    slow = refresh(place, USER_42, seen)
    place.slots.delete(DB, (refresh_key(USER_42),))  # as its end does
    quick = refresh(place, USER_42, seen)

    assert not put(place, USER_42, slow, seen, "of the slow one")
    assert put(place, USER_42, quick, seen, "of the quick one")
    assert place.value(USER_42) == "of the quick one"


def test_a_refresher_whose_value_was_replaced_puts_nothing(place: Place) -> None:
    """It holds a lease still, but the value it saw has gone, and no one knows why."""
    seen = stand(place, USER_42, "old", up_ms=SOON_MS)
    lease = refresh(place, USER_42, seen)
    place.slots.delete(DB, (USER_42,))
    stand(place, USER_42, "newer", up_ms=TTL_MS)

    assert not put(place, USER_42, lease, seen, "of the refresher")
    assert place.value(USER_42) == "newer"


def test_the_database_is_read_under_the_refresh_lease(place: Place) -> None:
    """And not before it: what a commit between the two changed would be missing from the value."""
    for settings, up_ms in ((AHEAD, SOON_MS), (STALE, -1)):
        region, _ = region_of(place, settings)
        stand(place, USER_42, "old", up_ms=up_ms, outlives=True)
        seen: list[bytes | None] = []

        def load(seen: list[bytes | None] = seen) -> Loaded:
            seen.append(place.raw(refresh_key(USER_42)))
            return Loaded("new")

        assert region.get(USER_42) is NO_VALUE
        assert region.fill(USER_42, load) == "new"
        assert (seen[0] or b"")[:1] == b"L"
        place.slots.delete(DB, (USER_42,))


def test_a_refreshed_entry_outlives_its_old_end(place: Place, db_client: "redis.Redis") -> None:
    """Its key and its stamps live for the new value's time, and have an end."""
    seen = stand(place, STATE_42, "old", up_ms=SOON_MS)
    lease = refresh(place, STATE_42, seen)
    assert place.slots.replace(DB, STATE_42, lease, newer(seen, "new"), 10 * TTL_MS, seen=seen)

    if not isinstance(place.slots, MemorySlots):
        for key in (STATE_42, *STATE_42.stamps):
            assert 9 * TTL_MS < db_client.pttl(key) <= 10 * TTL_MS
    assert place.value(STATE_42) == "new"


def test_what_is_kept_in_an_outage_ends_when_it_was_to_end(
    place: Place, db_client: "redis.Redis"
) -> None:
    """However often it is kept: its key's end stays where its publisher has put it."""
    region, _ = region_of(place, STALE)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    if not isinstance(place.slots, MemorySlots):
        db_client.pexpire(USER_42, 30_000)
    assert region.fill(USER_42, Database(ConnectionError("down")).load) == "old"

    assert describe(place.raw(USER_42)).kept
    if isinstance(place.slots, MemorySlots):
        assert place.slots._left_ms(DB, USER_42) <= TTL_MS
    else:
        assert 0 < db_client.pttl(USER_42) <= 30_000


def test_memory_keeps_the_end_of_what_is_kept_too() -> None:
    """By a clock that the test turns."""
    now = 1000.0
    here = Place(MemorySlots(clock=lambda: now))
    region, _ = region_of(here, STALE)
    stand(here, USER_42, "old", up_ms=-1, outlives=True)
    now += TTL_MS / 1000 - 1
    assert region.fill(USER_42, Database(ConnectionError("down")).load) == "old"
    assert describe(here.raw(USER_42)).kept

    now += 1
    assert here.raw(USER_42) is None


def test_who_sees_the_old_value_standing_follows_its_loader(place: Place) -> None:
    """A reader that comes while the database is asked need not ask too: nothing has been
    committed since, or the old value would be gone."""
    region, _ = region_of(place, replace(STALE, wait_ms=0))
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    query, other = Query("new"), Database("of another query")
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(region.fill, USER_42, query.load)
        assert query.began.wait(WAIT)
        follower = pool.submit(region.fill, USER_42, other.load)
        flights = region.entries.filler.flights._flying
        eventually(lambda: follower.done() or any(each.followers for each in [*flights.values()]))
        assert not follower.done()
        query.go_on.set()
        assert [leader.result(WAIT), follower.result(WAIT)] == ["new", "new"]
    assert other.queries == 0


def test_who_sees_another_stamp_does_not_follow_a_loader(place: Place) -> None:
    """The old bytes stand, but a commit by tag came since the loader began: its answer may lack
    that commit."""
    region, _ = region_of(place, replace(STALE, wait_ms=0))
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    query, other = Query("read before the commit"), Database("of the commit")
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(region.fill, USER_42, query.load)
        assert query.began.wait(WAIT)
        commits(place, USERS)
        assert pool.submit(region.fill, USER_42, other.load).result(WAIT) == "of the commit"
        query.go_on.set()
        assert leader.result(WAIT) == "read before the commit"
    assert place.value(USER_42) == "of the commit"


def test_followers_of_a_loader_that_finds_the_database_down_are_served(place: Place) -> None:
    """All of them, by what the first one has kept for them, and with no query more."""
    region, _ = region_of(place, STALE)
    stand(place, USER_42, "old", up_ms=-1, outlives=True)
    query, other = Query(ConnectionError("down")), Database("never asked")
    with ThreadPoolExecutor(5) as pool:
        leader = pool.submit(region.fill, USER_42, query.load)
        assert query.began.wait(WAIT)
        followers = [pool.submit(region.fill, USER_42, other.load) for _ in range(4)]
        flights = region.entries.filler.flights._flying
        eventually(lambda: sum(each.followers for each in [*flights.values()]) == 4)
        assert not any(each.done() for each in followers)
        query.go_on.set()
        assert [each.result(WAIT) for each in (leader, *followers)] == ["old"] * 5
    assert other.queries == 0
