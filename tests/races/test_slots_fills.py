"""Readers against writers at one entry, step by step, wherever entries are kept."""

from cachedorm.store.protocol.changes import Offer
from cachedorm.store.protocol.entry import Miss
from cachedorm.store.protocol.keys import EntryKey, stamp_key
from cachedorm.store.protocol.slots import Granted, Refused
from tests.support.contract import places
from tests.support.contract.places import (
    DB,
    INTENT_MS,
    MISSIONS_OF_42,
    STATE_42,
    USER_42,
    USERS,
    Place,
    slot_of,
    token,
    touching,
)

slots, place = places.slots, places.place


def test_late_fill_loses_to_a_commit(place: Place) -> None:
    """A row read before a commit is never stored after it."""
    lease = place.lease(USER_42)
    writer = token()
    place.intend(USER_42, mine=writer)
    place.settle(USER_42, mine=writer)

    assert not place.publish(USER_42, lease, "old")
    assert place.value(USER_42) is Miss.EMPTY


def test_late_fill_loses_to_a_writer_that_only_settles(place: Place) -> None:
    """A region without intents deletes after the commit: the lease goes with it."""
    lease = place.lease(USER_42)
    place.settle(USER_42, mine=token())

    assert not place.publish(USER_42, lease, "old")


def test_late_fill_loses_to_the_next_one(place: Place) -> None:
    """A lease taken after the commit is not the reader's from before it."""
    early = place.lease(USER_42)
    place.settle(USER_42, mine=token())
    late = place.lease(USER_42)

    assert not place.publish(USER_42, early, "old")
    assert place.publish(USER_42, late, "new")
    assert place.value(USER_42) == "new"


def test_no_fill_begins_across_a_commit(place: Place) -> None:
    """Between intent and settle a reader may see the row of before or of after: it stores
    neither."""
    writer = token()
    place.intend(USER_42, mine=writer)

    assert isinstance(place.acquire(USER_42), Refused)
    place.settle(USER_42, mine=writer)
    assert place.value(USER_42) is Miss.EMPTY


def test_no_fill_of_a_query_begins_across_a_commit(place: Place) -> None:
    """The same for an entry whose own key the writer does not know: its tag is intended."""
    writer = token()
    place.intend(MISSIONS_OF_42, mine=writer)

    assert isinstance(place.acquire(STATE_42), Refused)
    place.settle(MISSIONS_OF_42, mine=writer)
    assert isinstance(place.acquire(STATE_42), Granted)


def test_a_query_read_before_a_commit_is_stored_unservable(place: Place) -> None:
    """Its stamps were fixed before the database was read, and one is gone since."""
    lease = place.lease(STATE_42)
    writer = token()
    place.intend(MISSIONS_OF_42, mine=writer)
    place.settle(MISSIONS_OF_42, mine=writer)
    place.lease(EntryKey("another", STATE_42.stamps, STATE_42.form))

    # The lease of the entry itself is nobody's business: the new stamp is what refuses.
    assert place.publish(STATE_42, lease, "old")
    assert place.value(STATE_42) is Miss.STAMP


def test_a_settle_ends_what_was_stored_across_a_lost_intent(place: Place) -> None:
    """Should an intent have been lost, a reader fixes the stamp before the COMMIT and stores an
    old row; the settle deletes the stamp once more."""
    lease = place.lease(STATE_42)
    assert place.publish(STATE_42, lease, "old")
    place.settle(MISSIONS_OF_42, mine=token())

    assert place.value(STATE_42) is Miss.STAMP


def test_a_settle_ends_an_entry_stored_across_a_lost_intent(place: Place) -> None:
    """The same for the entry itself."""
    place.fill(USER_42, "old")
    place.settle(USER_42, mine=token())

    assert place.value(USER_42) is Miss.EMPTY


def test_an_evicted_entry_costs_a_miss(place: Place) -> None:
    """Nothing else depends on it being there."""
    place.fill(USER_42, "Kim")
    place.slots.delete(DB, (USER_42,))

    assert isinstance(place.acquire(USER_42), Granted)


def test_an_evicted_stamp_never_matches_again(place: Place) -> None:
    """The one made in its place is another: entries of before stay unservable."""
    place.fill(USER_42, "of before")
    place.slots.clear(DB, (USERS,))
    place.lease(places.USER_43)

    assert place.value(USER_42) is Miss.STAMP
    assert isinstance(place.acquire(USER_42), Granted)


def test_an_evicted_lease_refuses_its_holder(place: Place) -> None:
    """Whoever lost its lease cannot know what happened since."""
    lease = place.lease(USER_42)
    place.slots.delete(DB, (USER_42,))

    assert not place.publish(USER_42, lease, "maybe old")


def test_an_evicted_intent_slot_still_refuses(place: Place) -> None:
    """Intents are counted beside the entry: eviction of the slot uncovers nothing."""
    writer = token()
    place.intend(USER_42, mine=writer)
    place.slots.delete(DB, (USER_42,))

    assert isinstance(place.acquire(USER_42), Refused)


def test_a_bulk_writer_in_between_spoils_a_write_through(place: Place) -> None:
    """The stamps were fixed at intend: a wildcard killed since is not the one now."""
    offer, mine, bulk = Offer(DB, USER_42), token(), token()
    fixed = place.slots.intend(touching(USER_42), (offer,), mine, INTENT_MS)[offer]
    assert fixed.clean
    place.intend(USERS, mine=bulk)
    place.settle(USERS, mine=bulk)
    lease = Granted(mine, fixed.stamps, fixed.server)
    place.slots.settle(touching(USER_42), mine, {offer: (slot_of(USER_42, lease, "mine"), 1000)})

    assert isinstance(place.value(USER_42), Miss)
    assert isinstance(place.acquire(USER_42), Granted)


def test_a_wildcard_ends_everything_over_the_table(place: Place) -> None:
    """A write of which nobody knows the rows ends entries and queries alike."""
    place.fill(USER_42, "old")
    place.fill(STATE_42, "old")
    assert stamp_key("my_db.users") == USERS
    writer = token()
    place.intend(USERS, mine=writer)

    assert place.value(USER_42) is Miss.STAMP
    assert place.value(STATE_42) is Miss.STAMP
