"""Many entries at once: what is true of one lease is true of each, for one pipeline."""

from typing import Any

import pytest

from cachedorm.store.entries.batch import unlink_matching
from cachedorm.store.protocol.entry import Miss, value_slot
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.slots import (
    Acquired,
    Filled,
    Granted,
    Held,
    Refused,
    Slots,
    Valid,
    Wanted,
)
from cachedorm.store.redis.slots import RedisSlots
from tests.fixtures.logs import RedisLog
from tests.support.contract.places import (
    DB,
    LEASE_MS,
    STATE_42,
    TEXT,
    TTL_MS,
    USER_42,
    USER_43,
    USERS,
    Place,
    slot_of,
    token,
)

USERS_MANY = [EntryKey(f"user:profile:{number}", (USERS,), TEXT) for number in range(300)]


def acquire(place: Place, *wanted: Wanted) -> list[Acquired]:
    return place.slots.acquire_many(DB, wanted, LEASE_MS, TTL_MS, server=place.server())


def leases(place: Place, *keys: EntryKey) -> list[Granted]:
    got = acquire(place, *(Wanted(key, token()) for key in keys))
    granted = [each for each in got if isinstance(each, Granted)]
    assert len(granted) == len(keys)
    return granted


def filled(key: EntryKey, lease: Granted, text: str) -> Filled:
    return Filled(key, lease.token, slot_of(key, lease, text), TTL_MS)


def test_each_is_leased_and_published(place: Place) -> None:
    """Every key gets a lease of its own and carries the same stamp."""
    granted = leases(place, *USERS_MANY)
    assert len({lease.token for lease in granted}) == len(USERS_MANY)
    assert len({lease.stamps for lease in granted}) == 1

    published = place.slots.publish_many(
        DB, [filled(key, lease, key) for key, lease in zip(USERS_MANY, granted, strict=True)]
    )

    assert all(published)
    assert [place.value(key) for key in USERS_MANY] == list(USERS_MANY)


def test_each_is_answered_for_itself(place: Place) -> None:
    """One is held, one is hidden by a writer, one is valid already, one is granted."""
    held = place.lease(USERS_MANY[0])
    place.intend(USERS_MANY[1], mine=token())
    place.fill(USERS_MANY[2], "Kim")

    got = acquire(place, *(Wanted(key, token()) for key in USERS_MANY[:4]))

    assert [type(each) for each in got] == [Held, Refused, Valid, Granted]
    assert place.raw(USERS_MANY[0]) == b"L" + held.token


def test_an_intent_on_a_stamp_refuses_all_that_carry_it(place: Place) -> None:
    """As for one."""
    place.intend(USERS, mine=token())

    assert acquire(place, Wanted(USER_42, token()), Wanted(STATE_42, token())) == [
        Refused(),
        Refused(),
    ]


def test_an_unusable_value_is_replaced_only_where_it_stands(place: Place) -> None:
    """What the caller saw and cannot use gives way; what came since does not."""
    place.fill(USER_42, "Kim")
    place.fill(USER_43, "Lee")
    seen = place.raw(USER_42)

    got = acquire(place, Wanted(USER_42, token(), seen), Wanted(USER_43, token(), seen))

    assert [type(each) for each in got] == [Granted, Valid]


def test_a_late_one_among_many_is_refused(place: Place) -> None:
    """A commit in between takes its own lease away, and no other."""
    first, second = leases(place, USER_42, USER_43)
    place.settle(USER_42, mine=token())

    done = place.slots.publish_many(
        DB, [filled(USER_42, first, "old"), filled(USER_43, second, "Lee")]
    )

    assert done == [False, True]
    assert place.value(USER_42) is Miss.EMPTY
    assert place.value(USER_43) == "Lee"


def test_a_stamp_that_went_in_between_makes_all_unservable(place: Place) -> None:
    """A bulk write touches the stamp alone; what was leased before is never served."""
    granted = leases(place, USER_42, USER_43)
    place.settle(USERS, mine=token())
    place.slots.publish_many(
        DB,
        [filled(key, lease, "old") for key, lease in zip((USER_42, USER_43), granted, strict=True)],
    )

    assert place.value(USER_42) is Miss.STAMP
    assert place.value(USER_43) is Miss.STAMP


def test_leases_are_given_up_together(place: Place) -> None:
    """Only one's own."""
    first, second = leases(place, USER_42, USER_43)
    place.slots.release_many(DB, [(USER_42, first.token), (USER_43, token())])

    assert place.raw(USER_42) is None
    assert place.raw(USER_43) == b"L" + second.token


def test_nothing_is_nothing(place: Place) -> None:
    """An empty batch asks nobody."""
    assert acquire(place) == []
    assert place.slots.publish_many(DB, []) == []
    place.slots.release_many(DB, [])


@pytest.mark.parametrize("slots", ["redis"], indirect=True)
def test_a_batch_is_one_send(
    slots: Slots, redis_log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All scripts of a batch travel together on one line, and the source at most once."""
    assert isinstance(slots, RedisSlots)
    server = slots.identity_again(DB)
    wanted = [Wanted(key, token()) for key in USERS_MANY]
    sends: list[bytes] = []
    exchange = slots._client._exchange

    def counted(db: int, packed: bytes, *args: Any) -> Any:
        sends.append(packed)
        return exchange(db, packed, *args)

    monkeypatch.setattr(slots._client, "_exchange", counted)
    slots.acquire_many(DB, wanted, LEASE_MS, TTL_MS, server=server)
    assert len(sends) == 2  # the server did not know the script
    slots.release_many(DB, [(each.key, each.token) for each in wanted])
    sends.clear()
    slots.acquire_many(DB, wanted, LEASE_MS, TTL_MS, server=server)

    assert len(sends) == 1
    assert redis_log.names().count("eval") == 2  # each script's source once


def test_a_pattern_ends_entries_and_leases_and_nothing_of_ours(place: Place) -> None:
    """Stamps and intents stay; a fill that had begun is refused."""
    place.fill(USER_42, "Kim")
    lease = place.lease(USER_43)
    place.fill(STATE_42, "level 3")
    place.intend(USERS_MANY[7], mine=token())

    assert unlink_matching(place.slots, DB, "*profile*") == 3
    assert not place.publish(USER_43, lease, "old")
    assert place.value(STATE_42) == "level 3"
    assert isinstance(place.acquire(USERS_MANY[7]), Refused)
    assert unlink_matching(place.slots, DB, "*") == 1
    assert place.raw(USERS) is not None


def test_a_pattern_of_another_alphabet(place: Place) -> None:
    """Keys are text, patterns too."""
    korean = EntryKey("info:search:종이", (USERS,), TEXT)
    place.fill(korean, "paper")

    assert unlink_matching(place.slots, DB, "info:search:종*") == 1
    assert place.value(korean) is Miss.EMPTY


def test_value_slot_is_what_is_published(place: Place) -> None:
    """The bytes are the caller's, to the last."""
    (lease,) = leases(place, USER_42)
    slot = value_slot(TEXT, lease.server, lease.stamps, b"", absent=True, created_ms=1)
    assert place.slots.publish_many(DB, [Filled(USER_42, lease.token, slot, TTL_MS)]) == [True]

    assert place.raw(USER_42) == slot
