"""What every place does with leases, stamps, intents and values, whoever calls it."""

from cachedorm.store.protocol.changes import Offer, Touched
from cachedorm.store.protocol.entry import Miss, new_token, value_slot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import Granted, Held, Refused, Valid
from tests.support.contract.places import (
    DB,
    INTENT_MS,
    LEASE_MS,
    MISSIONS_OF_42,
    STATE_42,
    TEXT,
    TTL_MS,
    USER_42,
    USER_43,
    USERS,
    Place,
    slot_of,
    token,
    touching,
)


def test_nothing_stands_at_first(place: Place) -> None:
    """A read of keys that nobody wrote finds nothing, one answer a key."""
    values, server = place.slots.read(DB, (USER_42, USERS))

    assert list(values) == [None, None]
    assert len(server) == 8


def test_a_lease_is_granted_once(place: Place) -> None:
    """One caller may fill; the next is told for how long."""
    lease = place.lease(USER_42)
    held = place.acquire(USER_42)

    assert isinstance(held, Held)
    assert 0 < held.remaining_ms <= LEASE_MS
    assert place.raw(USER_42) == b"L" + lease.token


def test_asking_again_for_ones_own_lease_grants_it(place: Place) -> None:
    """A reply that was lost is asked for again: the caller does not wait for itself."""
    mine = token()
    first, second = place.lease(USER_42, mine), place.lease(USER_42, mine)

    assert first == second


def test_a_lease_whose_stamp_is_gone_holds_nobody_up(place: Place) -> None:
    """What it publishes cannot be served, so the next caller gets a lease of its own."""
    doomed = place.lease(STATE_42)
    place.settle(MISSIONS_OF_42, mine=token())
    lease = place.lease(STATE_42)

    assert not place.publish(STATE_42, doomed, "old")
    assert place.publish(STATE_42, lease, "new")
    assert place.value(STATE_42) == "new"


def test_a_granted_lease_fixes_the_stamps(place: Place) -> None:
    """The stamps are made when the lease is granted, and are the ones that are stored."""
    lease = place.lease(STATE_42)

    assert [place.raw(key) for key in STATE_42.stamps] == list(lease.stamps)
    assert [len(stamp) for stamp in lease.stamps] == [16, 16]
    assert lease.stamps[0] != lease.stamps[1]


def test_stamps_are_shared_and_kept(place: Place) -> None:
    """A second entry carries the stamp that the first one made."""
    assert place.lease(USER_42).stamps == place.lease(USER_43).stamps


def test_stamps_are_random(place: Place) -> None:
    """A stamp made again never equals the one that was deleted."""
    before = place.lease(USER_42).stamps
    place.slots.clear(DB, (USERS,))

    assert place.lease(USER_43).stamps != before


def test_a_malformed_stamp_is_made_anew(place: Place) -> None:
    """Bytes that are no stamp are no stamp to anybody."""
    short = EntryKey(USERS, (), TEXT)
    lease = place.lease(short)
    assert place.slots.publish(DB, short, lease.token, b"short", TTL_MS)

    stamps = place.lease(USER_42).stamps

    assert len(stamps[0]) == 16
    assert place.raw(USERS) == stamps[0]


def test_a_published_value_is_served(place: Place) -> None:
    """What was published under the lease is what readers get."""
    place.fill(USER_42, "Kim")

    assert place.value(USER_42) == "Kim"


def test_a_servable_value_ends_an_acquire(place: Place) -> None:
    """Who comes too late for the lease gets the value instead."""
    place.fill(USER_42, "Kim")
    got = place.acquire(USER_42)

    assert isinstance(got, Valid)
    assert got.slot == place.raw(USER_42)
    assert got.server == place.server()


def test_a_value_of_another_form_is_replaced(place: Place) -> None:
    """Values of another schema are no values to this one."""
    place.fill(USER_42, "Kim")
    newer = EntryKey(USER_42, USER_42.stamps, type(TEXT)(b"text\0\0\0\2", TEXT.encode, TEXT.decode))

    assert isinstance(place.acquire(newer), Granted)


def test_a_value_with_other_stamps_is_replaced(place: Place) -> None:
    """A value whose stamp is gone, or that carries another number of them, is filled again."""
    place.fill(USER_42, "Kim")
    assert isinstance(place.acquire(EntryKey(USER_42, STATE_42.stamps, TEXT)), Granted)

    place.fill(STATE_42, "level 3")
    assert isinstance(place.acquire(EntryKey(STATE_42, (USERS,), TEXT)), Granted)

    place.fill(USER_43, "Lee")
    place.slots.clear(DB, (USERS,))
    assert isinstance(place.acquire(USER_43), Granted)


def test_a_value_of_another_server_is_replaced(place: Place) -> None:
    """What another server's connection stored is filled again."""
    lease = place.lease(USER_42)
    foreign = value_slot(TEXT, b"another!", lease.stamps, b"old", created_ms=1)
    assert place.slots.publish(DB, USER_42, lease.token, foreign, TTL_MS)

    assert place.value(USER_42) is Miss.FOREIGN
    assert isinstance(place.acquire(USER_42), Granted)


def test_an_unusable_value_is_replaced_only_if_it_still_stands(place: Place) -> None:
    """A reader that cannot decode a value names it; a newer one is safe from it."""
    place.fill(USER_42, "undecodable")
    seen = place.raw(USER_42)
    assert isinstance(place.acquire(USER_42, replace=b"V something else"), Valid)
    lease = place.acquire(USER_42, replace=seen)
    assert isinstance(lease, Granted)
    assert place.publish(USER_42, lease, "newer")

    assert isinstance(place.acquire(USER_42, replace=seen), Valid)


def test_garbage_is_overwritten(place: Place) -> None:
    """Bytes that are no slot count as nothing, whatever letter they begin with."""
    for garbage in (b"", b"L", b"Lover", b"I", b"Index of all", b"V", b"V\1short", b"\0" * 17):
        lease = place.acquire(USER_42, replace=place.raw(USER_42))
        assert isinstance(lease, Granted), garbage
        assert place.slots.publish(DB, USER_42, lease.token, garbage, TTL_MS)

    assert isinstance(place.acquire(USER_42), Granted)


def test_another_lease_does_not_publish(place: Place) -> None:
    """Only the holder's token publishes."""
    place.lease(USER_42)
    stranger = Granted(token(), (token(),), place.server())

    assert not place.publish(USER_42, stranger, "stolen")
    assert place.value(USER_42) is Miss.LEASE


def test_a_lease_publishes_once(place: Place) -> None:
    """After publishing the lease is gone."""
    lease = place.lease(USER_42)

    assert place.publish(USER_42, lease, "Kim")
    assert not place.publish(USER_42, lease, "Kim again")


def test_releasing_makes_room(place: Place) -> None:
    """A lease given up can be had at once; a second release finds nothing."""
    lease = place.lease(USER_42)

    assert place.slots.release(DB, USER_42, lease.token)
    assert not place.slots.release(DB, USER_42, lease.token)
    assert isinstance(place.acquire(USER_42), Granted)


def test_releasing_leaves_others_alone(place: Place) -> None:
    """A stale release takes neither another's lease nor a value away."""
    lease = place.lease(USER_42)
    assert not place.slots.release(DB, USER_42, token())
    assert place.publish(USER_42, lease, "Kim")

    assert not place.slots.release(DB, USER_42, lease.token)
    assert place.value(USER_42) == "Kim"


def test_an_intent_hides_the_entry(place: Place) -> None:
    """Between intent and settle there is neither a value nor a lease."""
    place.fill(USER_42, "old")
    mine = token()
    place.intend(USER_42, mine=mine)

    assert place.value(USER_42) is Miss.INTENT
    assert isinstance(place.acquire(USER_42), Refused)
    place.settle(USER_42, mine=mine)
    assert place.value(USER_42) is Miss.EMPTY
    assert isinstance(place.acquire(USER_42), Granted)


def test_an_intent_on_a_stamp_hides_all_that_carry_it(place: Place) -> None:
    """Touching a tag ends every entry under it, and no new one begins before settle."""
    place.fill(STATE_42, "level 3")
    mine = token()
    place.intend(MISSIONS_OF_42, mine=mine)

    assert place.value(STATE_42) is Miss.STAMP
    assert isinstance(place.acquire(STATE_42), Refused)
    assert isinstance(place.acquire(USER_42), Granted)
    place.settle(MISSIONS_OF_42, mine=mine)
    assert isinstance(place.acquire(STATE_42), Granted)


def test_a_refused_reader_makes_no_stamp(place: Place) -> None:
    """Between intent and settle nobody creates the stamp."""
    mine = token()
    place.intend(USERS, mine=mine)
    place.acquire(USER_42)

    assert place.raw(USERS) is None


def test_settling_twice_or_late_costs_a_miss_only(place: Place) -> None:
    """Settle is deletion: again, and after a fill, it does no harm."""
    mine = token()
    place.intend(USER_42, USERS, mine=mine)
    place.settle(USER_42, USERS, mine=mine)
    place.fill(USER_42, "new")
    place.settle(USER_42, USERS, mine=mine)

    assert place.value(USER_42) is Miss.EMPTY
    place.fill(USER_42, "newer")
    assert place.value(USER_42) == "newer"


def test_settling_what_was_never_intended_deletes_it(place: Place) -> None:
    """Invalidation without an intent is a settle alone."""
    place.fill(USER_42, "old")
    place.fill(STATE_42, "old")
    place.settle(USER_42, MISSIONS_OF_42, mine=token())

    assert place.value(USER_42) is Miss.EMPTY
    assert place.value(STATE_42) is Miss.STAMP


def test_renewing_keeps_hiding(place: Place) -> None:
    """A renewed intent still refuses, and one settle still ends it."""
    mine = token()
    place.intend(USER_42, USERS, mine=mine)
    place.slots.renew(touching(USER_42, USERS), mine, INTENT_MS)

    assert isinstance(place.acquire(USER_42), Refused)
    place.settle(USER_42, USERS, mine=mine)
    assert isinstance(place.acquire(USER_42), Granted)


def test_an_offer_is_put_at_settle(place: Place) -> None:
    """A writer alone at its row puts the new value in place of its own intent."""
    place.fill(USER_42, "old")
    offer, mine = Offer(DB, USER_42), token()
    fixed = place.slots.intend(touching(USER_42), (offer,), mine, INTENT_MS)[offer]
    assert fixed.clean
    assert fixed.server == place.server()
    slot = value_slot(TEXT, fixed.server, fixed.stamps, b"new", created_ms=1)
    place.slots.settle(touching(USER_42), mine, {offer: (slot, TTL_MS)})

    assert place.value(USER_42) == "new"
    assert isinstance(place.acquire(USER_42), Valid)


def test_an_offer_alone_counts_as_touched(place: Place) -> None:
    """What is offered is hidden too, though nobody listed it."""
    offer, mine = Offer(DB, USER_42), token()
    place.slots.intend(Touched(), (offer,), mine, INTENT_MS)

    assert isinstance(place.acquire(USER_42), Refused)


def test_an_offer_makes_missing_stamps(place: Place) -> None:
    """The stamps a new value will carry are fixed by intend, as acquire would."""
    offer = Offer(DB, STATE_42)
    fixed = place.slots.intend(Touched(), (offer,), token(), INTENT_MS)[offer]

    assert [place.raw(key) for key in STATE_42.stamps] == list(fixed.stamps)


def test_an_offer_is_not_clean_while_its_stamp_is_intended(place: Place) -> None:
    """Another writer at a tag of the entry, or the same one, means no write-through."""
    offer, other, mine = Offer(DB, USER_42), token(), token()
    place.intend(USERS, mine=other)
    assert not place.slots.intend(Touched(), (offer,), mine, INTENT_MS)[offer].clean
    assert place.raw(USERS) is None
    place.settle(USERS, mine=other)

    assert not place.slots.intend(touching(USERS), (offer,), mine, INTENT_MS)[offer].clean


def test_several_databases_are_one_intend(place: Place) -> None:
    """A commit over two regions is told in one call each, and each keeps to its database."""
    touched = touching(USER_42)
    touched.add_entries(DB + 1, [USER_42])
    touched.add_stamps(DB + 2, [USERS])
    mine = token()
    place.slots.intend(touched, (), mine, INTENT_MS)
    intent = b"I" + mine
    assert [place.slots.read(db, (USER_42,))[0][0] for db in (DB, DB + 1, DB + 2)] == [
        intent,
        intent,
        None,
    ]
    place.slots.settle(touched, mine, {})
    assert [place.slots.read(db, (USER_42,))[0][0] for db in (DB, DB + 1)] == [None, None]


def test_a_bulk_write_is_told_whole(place: Place) -> None:
    """Thousands of keys and an offer: all hidden, all settled."""
    entries = [f"user:profile:{n}" for n in range(2500)]
    stamps = [f"~s:my_db.users.id={n}" for n in range(1500)]
    touched, offer, mine = touching(*entries, *stamps), Offer(DB, STATE_42), token()
    fixed = place.slots.intend(touched, (offer,), mine, INTENT_MS)[offer]
    values, _ = place.slots.read(DB, entries)
    assert set(values) == {b"I" + mine}

    slot = value_slot(TEXT, fixed.server, fixed.stamps, b"new", created_ms=1)
    place.slots.settle(touched, mine, {offer: (slot, TTL_MS)})
    values, _ = place.slots.read(DB, entries)
    assert set(values) == {None}
    assert place.value(STATE_42) == "new"


def test_a_put_value_is_served(place: Place) -> None:
    """A plain store needs no lease, and makes the stamps it carries."""
    assert _put(place, STATE_42, b"kept")

    assert place.value(STATE_42) == "kept"
    assert _put(place, STATE_42, b"kept again")
    assert place.value(STATE_42) == "kept again"


def test_a_put_overtakes_a_fill(place: Place) -> None:
    """What the caller says now is newer than what a filler read before."""
    lease = place.lease(USER_42)

    assert _put(place, USER_42, b"said")
    assert not place.publish(USER_42, lease, "read before")
    assert place.value(USER_42) == "said"


def test_a_put_is_refused_while_a_writer_commits(place: Place) -> None:
    """Nothing is stored under an intent, on the entry or on its stamp."""
    for touched in (USER_42, USERS):
        mine = token()
        place.intend(touched, mine=mine)
        assert not _put(place, USER_42, b"too early")
        place.settle(touched, mine=mine)
        assert _put(place, USER_42, b"now")


def _put(place: Place, key: EntryKey, payload: bytes) -> bool:
    empty = value_slot(TEXT, place.server(), (), b"", created_ms=1)
    head = empty[:-1] + bytes([len(key.stamps)])
    return place.slots.put(DB, key, head, payload, TTL_MS, TTL_MS)


def test_deleting_takes_a_lease_too(place: Place) -> None:
    """After a delete, what a filler read before is not stored."""
    lease = place.lease(USER_42)
    place.slots.delete(DB, (USER_42, "nobody"))

    assert not place.publish(USER_42, lease, "late")


def test_deleting_nothing_is_nothing(place: Place) -> None:
    """No keys, no error; what stands there stays."""
    place.fill(USER_42, "Kim")
    place.slots.delete(DB, ())
    assert place.value(USER_42) == "Kim"


def test_clearing_ends_entries_and_fills(place: Place) -> None:
    """Without its stamp neither a value nor what a filler publishes later is servable."""
    place.fill(USER_42, "old")
    lease = place.lease(USER_43)
    place.slots.clear(DB, (USERS,))

    assert place.value(USER_42) is Miss.STAMP
    place.publish(USER_43, lease, "late")
    assert place.value(USER_43) is Miss.STAMP


def test_tokens_of_any_bytes_are_kept_whole(place: Place) -> None:
    """Tokens and stamps are raw bytes: none of them is special."""
    for mine in (b"\0" * 16, b"\r\n" * 8, b"\xff" * 16, b"L" * 16):
        lease = place.lease(USER_42, mine)
        assert place.publish(USER_42, lease, "Kim")
        place.intend(USER_42, mine=mine)
        assert isinstance(place.acquire(USER_42), Refused)
        place.settle(USER_42, mine=mine)
        assert isinstance(place.acquire(USER_43, new_token()), Granted)
        place.slots.delete(DB, (USER_42, USER_43))


def test_a_slot_is_kept_to_the_byte(place: Place) -> None:
    """Every place stores the same bytes."""
    lease = place.lease(USER_42)
    slot = slot_of(USER_42, lease, "Kim")
    assert place.slots.publish(DB, USER_42, lease.token, slot, TTL_MS)

    assert place.raw(USER_42) == slot
