"""Writers against writers: intents are counted, and a write-through is for one who is alone."""

from functools import partial

from cachedorm.store.protocol.changes import Fixed, Offer
from cachedorm.store.protocol.entry import Miss, value_slot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted, Refused
from cachedorm.store.runtime import concurrency
from tests.fixtures.patience import eventually
from tests.support.contract import places
from tests.support.contract.places import (
    DB,
    INTENT_MS,
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

slots, place = places.slots, places.place

OFFER = Offer(DB, USER_42)


def offering(place: Place, mine: bytes) -> Fixed:
    return place.slots.intend(touching(USER_42), (OFFER,), mine, INTENT_MS)[OFFER]


def settle_with(place: Place, mine: bytes, fixed: Fixed, text: str) -> None:
    slot = value_slot(TEXT, fixed.server, fixed.stamps, text.encode(), created_ms=1)
    place.slots.settle(touching(USER_42), mine, {OFFER: (slot, TTL_MS)})


def test_the_first_to_settle_does_not_uncover_the_second(place: Place) -> None:
    """Two writers of one tag overlap: readers stay away until both are done."""
    first, second = token(), token()
    place.intend(USERS, mine=first)
    place.intend(USERS, mine=second)
    place.settle(USERS, mine=first)

    assert isinstance(place.acquire(USER_42), Refused)
    place.settle(USERS, mine=second)
    assert isinstance(place.acquire(USER_42), Granted)


def test_the_second_to_settle_does_not_uncover_the_first(place: Place) -> None:
    """The same the other way round, at an entry."""
    first, second = token(), token()
    place.intend(USER_42, mine=first)
    place.intend(USER_42, mine=second)
    place.settle(USER_42, mine=second)

    assert isinstance(place.acquire(USER_42), Refused)
    place.settle(USER_42, mine=first)
    assert isinstance(place.acquire(USER_42), Granted)


def test_a_settle_leaves_another_writers_intent_in_place(place: Place) -> None:
    """The slot of a writer that is still committing is not the settled one's to delete."""
    first, second = token(), token()
    place.intend(USER_42, mine=first)
    place.intend(USER_42, mine=second)
    place.settle(USER_42, mine=first)

    assert place.raw(USER_42) == b"I" + second


def acquired(place: Place, key: EntryKey) -> bool:
    """Whether nothing refuses a fill."""
    return not isinstance(place.acquire(key), Refused)


def test_a_dead_writer_hides_its_keys_until_its_intent_expires(place: Place) -> None:
    """Killed between COMMIT and settle: never an old value, and not hidden for ever."""
    place.fill(USER_42, "old")
    place.fill(STATE_42, "old")
    place.intend(USER_42, USERS, mine=token(), intent_ms=2000)
    assert isinstance(place.acquire(USER_42), Refused)
    assert isinstance(place.acquire(STATE_42), Refused)

    for key in (USER_42, STATE_42):
        eventually(partial(acquired, place, key), pause=concurrency.sleep)
        assert isinstance(place.value(key), Miss)


def test_an_expired_intent_does_not_count(place: Place) -> None:
    """A dead writer of long ago neither refuses nor spoils a write-through, though the counted
    intents live on for the sake of a longer one."""
    dead, alive = token(), token()
    place.intend(USER_42, mine=alive)
    # Last, for each intent sweeps away what has expired before it.
    place.intend(USER_42, mine=dead, intent_ms=1)
    place.settle(USER_42, mine=alive)
    concurrency.sleep(0.02)

    lease = place.lease(USER_42)
    assert place.slots.release(DB, USER_42, lease.token)
    assert offering(place, token()).clean


def test_a_renewed_intent_outlives_its_first_time(place: Place) -> None:
    """The outcome of a COMMIT is not known: the keys stay hidden until it is."""
    writer = token()
    place.intend(USER_42, USERS, mine=writer, intent_ms=1)
    place.slots.renew(touching(USER_42, USERS), writer, INTENT_MS)
    concurrency.sleep(0.01)

    assert isinstance(place.acquire(USER_42), Refused)
    assert isinstance(place.acquire(STATE_42), Refused)


def test_a_short_intent_does_not_shorten_a_long_one(place: Place) -> None:
    """Writers of regions with other settings overlap: each intent lives its own time."""
    place.intend(USER_42, USERS, mine=token(), intent_ms=INTENT_MS)
    place.intend(USERS, mine=token(), intent_ms=1)
    concurrency.sleep(0.01)

    assert isinstance(place.acquire(STATE_42), Refused)


def test_overlapping_writers_put_nothing(place: Place) -> None:
    """Their rows share no lock: whichever settles last need not have committed last."""
    first, second = token(), token()
    of_first, of_second = offering(place, first), offering(place, second)
    assert of_first.clean
    assert not of_second.clean
    settle_with(place, first, of_first, "first's")
    assert isinstance(place.value(USER_42), Miss)
    settle_with(place, second, Fixed(False, of_first.stamps, of_first.server), "second's")

    assert place.raw(USER_42) != b"I" + second


def test_a_writer_blind_to_another_would_put_an_old_value(place: Place) -> None:
    """The second writer computed its value before the first committed: that the first has
    settled by now does not make it true."""
    first, second = token(), token()
    place.intend(USER_42, mine=first)
    of_second = offering(place, second)
    place.settle(USER_42, mine=first)

    # The store puts only what is clean; nothing else distinguishes this settle from a good one.
    assert not of_second.clean


def test_a_writer_whose_intent_was_replaced_puts_nothing(place: Place) -> None:
    """Another writer came after it, and its slot stands there now."""
    first, second = token(), token()
    fixed = offering(place, first)
    place.intend(USER_42, mine=second)
    place.settle(USER_42, mine=second)
    settle_with(place, first, fixed, "first's")

    assert isinstance(place.value(USER_42), Miss)
    assert isinstance(place.acquire(USER_42), Granted)


def test_a_writer_puts_nothing_while_another_is_committing(place: Place) -> None:
    """The other's intent lives at the entry, whatever stands in the slot."""
    first, second = token(), token()
    stamps = place.lease(USER_43).stamps
    place.intend(USER_42, mine=second)
    # Whoever comes last stands in the slot, as does who renews its intent.
    assert not offering(place, first).clean
    settle_with(place, first, Fixed(True, stamps, place.server()), "first's")

    assert isinstance(place.value(USER_42), Miss)
    assert isinstance(place.acquire(USER_42), Refused)


def test_a_late_settle_puts_nothing_over_a_fill(place: Place) -> None:
    """The intent expired, a reader stored the row since: it is deleted, not overwritten."""
    writer = token()
    fixed = offering(place, writer)
    place.settle(USER_42, mine=writer)
    place.fill(USER_42, "read since")
    settle_with(place, writer, fixed, "late")

    assert place.value(USER_42) is Miss.EMPTY


def test_a_deletion_in_between_spoils_a_write_through(place: Place) -> None:
    """Whoever took the intent's slot away (a relay, a user) had a reason."""
    writer = token()
    fixed = offering(place, writer)
    place.slots.delete(DB, (USER_42,))
    settle_with(place, writer, fixed, "mine")

    assert place.value(USER_42) is Miss.EMPTY


def test_a_rolled_back_writer_leaves_nothing(place: Place) -> None:
    """Rollback is a settle without values: the next reader fills."""
    writer = token()
    offering(place, writer)
    place.slots.settle(touching(USER_42), writer, {})

    assert place.value(USER_42) is Miss.EMPTY
    assert isinstance(place.acquire(USER_42), Granted)
