"""The places whose contract is tested, and words for what the tests do to them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from cachedorm.store.memory.slots import MemorySlots
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.protocol.entry import Format, judge, prefix, value_slot
from cachedorm.store.protocol.keys import EntryKey, stamp_key
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.protocol.slots import Granted, Slots
from cachedorm.store.redis.client import RedisClient
from cachedorm.store.redis.slots import RedisSlots
from cachedorm.store.store import Store
from tests.fixtures.patience import PATIENCE, patient_store

DB = 2
LEASE_MS = 60_000
TTL_MS = 60_000
MY = RegionSettings("my", db=DB, ttl_ms=3_600_000)
INTENT_MS = 30_000

TEXT = Format(b"text\0\0\0\1", str.encode, bytes.decode)
USERS = stamp_key("my_db.users")
MISSIONS_OF_42 = stamp_key("character_db.missions.user_id=42")
USER_42 = EntryKey("user:profile:42", (USERS,), TEXT)
USER_43 = EntryKey("user:profile:43", (USERS,), TEXT)
STATE_42 = EntryKey("character:state:42", (USERS, MISSIONS_OF_42), TEXT)


def token() -> bytes:
    return os.urandom(16)


@dataclass(frozen=True)
class Place:
    """Slots, spoken to in the words of the tests."""

    slots: Slots

    def server(self) -> bytes:
        return self.slots.identity_again(DB)

    def raw(self, key: str) -> bytes | None:
        return self.slots.read(DB, (key,))[0][0]

    def value(self, key: EntryKey) -> object:
        """What a reader would be served: text, ABSENT or the Miss."""
        values, server = self.slots.read(DB, (key, *key.stamps))
        verdict = judge(values[0], prefix(key.form, server), values[1:])
        return verdict.decode() if isinstance(verdict, bytes) else verdict

    def acquire(
        self, key: EntryKey, mine: bytes | None = None, *, replace: bytes | None = None
    ) -> object:
        return self.slots.acquire(
            DB, key, mine or token(), LEASE_MS, TTL_MS, server=self.server(), replace=replace
        )

    def lease(self, key: EntryKey, mine: bytes | None = None) -> Granted:
        granted = self.acquire(key, mine)
        assert isinstance(granted, Granted)
        return granted

    def publish(self, key: EntryKey, lease: Granted, text: str) -> bool:
        return self.slots.publish(DB, key, lease.token, slot_of(key, lease, text), TTL_MS)

    def fill(self, key: EntryKey, text: str) -> None:
        assert self.publish(key, self.lease(key), text)

    def intend(self, *touched: str, mine: bytes, intent_ms: int = INTENT_MS) -> None:
        self.slots.intend(touching(*touched), (), mine, intent_ms)

    def settle(self, *touched: str, mine: bytes) -> None:
        self.slots.settle(touching(*touched), mine, {})


def slot_of(key: EntryKey, lease: Granted, text: str) -> bytes:
    return value_slot(key.form, lease.server, lease.stamps, text.encode(), created_ms=1)


def touching(*keys: str) -> Touched:
    touched = Touched()
    touched.add_stamps(DB, [key for key in keys if key.startswith("~s:")])
    touched.add_entries(DB, [key for key in keys if not key.startswith("~s:")])
    return touched


@pytest.fixture(params=["redis", "memory"])
def slots(request: pytest.FixtureRequest) -> Iterator[Slots]:
    """Every place that keeps the contract, empty."""
    made: Slots = (
        MemorySlots()
        if request.param == "memory"
        # Longer than in production: this machine runs other things too.
        else RedisSlots(RedisClient(request.getfixturevalue("redis_url"), PATIENCE, PATIENCE))
    )
    yield made
    made.close()


@pytest.fixture
def place(slots: Slots) -> Place:
    """The same, with the tests' words."""
    return Place(slots)


@pytest.fixture
def db_client(redis_url: str) -> Iterator["redis.Redis"]:
    """A plain client on the database that these tests use."""
    with redis.Redis.from_url(redis_url, db=DB) as client:
        yield client


@pytest.fixture(params=["redis", "memory"])
def closing(request: pytest.FixtureRequest, colour: str) -> Iterator[Store]:
    """A store on either place, with one region."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    store = patient_store(url)
    store.region(MY)
    yield store
    store.close()


@pytest.fixture
def store(closing: Store) -> Store:
    """The same, by the name that tests use."""
    return closing
