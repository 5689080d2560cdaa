"""What observers are told of reads, fills and commits, in threads and greenlets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from cachedorm.observe import Observer, Stats
from cachedorm.store.entries.entries import NO_VALUE, Entries
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.entries.timed import TimedEntries
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.store import Store
from tests.fixtures.patience import patient_store
from tests.support.contract.places import TEXT, USERS, touching

MY = RegionSettings("my", db=2, ttl_ms=60_000)
USER = EntryKey("user:profile:42", (USERS,), TEXT)
OTHER = EntryKey("user:profile:43", (USERS,), TEXT)


class Ears(Observer):
    """Hears everything but single hits and misses."""

    def __init__(self) -> None:
        self.regions: list[tuple[str, int, str]] = []
        self.reads: list[tuple[str, int, int]] = []
        self.told: list[tuple[str, list[int], bool]] = []
        self.invalidated: list[tuple[int, int, int]] = []
        self.states: list[bool] = []
        self.loads: list[str] = []

    def region(self, region: str, db: int, server: str) -> None:
        self.regions.append((region, db, server))

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        assert seconds > 0
        self.reads.append((operation, hits, misses))

    def tell(self, moment: str, dbs: Sequence[int], seconds: float, done: bool) -> None:
        assert seconds > 0
        self.told.append((moment, list(dbs), done))

    def invalidate(self, db: int, entries: int, stamps: int) -> None:
        self.invalidated.append((db, entries, stamps))

    def breaker(self, is_open: bool) -> None:
        self.states.append(is_open)

    @contextmanager
    def loading(self, region: str, key: str) -> Iterator[None]:
        self.loads.append(f"{region} {key}")
        yield
        self.loads.append("done")


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def store(redis_url: str, ears: Ears) -> Iterator[Store]:
    """A store that the ears hear, with longer limits than in production: machines are busy."""
    made = patient_store(redis_url, observer=ears)
    yield made
    made.close()


@pytest.fixture
def closing(store: Store) -> Store:
    """Closed in the greenlet's loop."""
    return store


def loader(value: str, seen: list[str]) -> Callable[[], Loaded]:
    def load() -> Loaded:
        seen.append("load")
        return Loaded(value)

    return load


def test_a_region_is_introduced_once(store: Store, ears: Ears, redis_url: str) -> None:
    """With its database and its server, before anything is told of it."""
    store.region(MY)
    store.region(MY)
    port = urlsplit(redis_url).port
    assert [(region, db, urlsplit(url).port) for region, db, url in ears.regions] == [
        ("my", 2, port)
    ]


def test_no_observer_sees_credentials(ears: Ears) -> None:
    """A URL goes to metrics and traces, which many people read."""
    store = Store.connect("redis://kim:secret@127.0.0.1:1", observer=ears)
    store.region(MY)
    assert ears.regions == [("my", 2, "redis://127.0.0.1:1")]
    store.close()


def test_reads_are_timed(store: Store, ears: Ears) -> None:
    """What was found, and by how wide a read."""
    region = store.region(MY)
    assert region.get(USER) is NO_VALUE
    region.fill(USER, lambda: Loaded("kim"))
    assert region.get(USER) == "kim"
    region.entries.look((USER, OTHER))
    region.entries.look((USER,))
    assert ears.reads == [("get", 0, 1), ("get", 1, 0), ("get_many", 1, 1), ("get", 1, 0)]


def test_a_load_is_surrounded(store: Store, ears: Ears) -> None:
    """The database's part alone: between the two, nothing but the load."""
    region = store.region(MY)
    region.get(USER)
    region.fill(USER, loader("kim", ears.loads))
    assert ears.loads == ["my user:profile:42", "load", "done"]


def test_nobody_who_does_not_listen_is_timed(redis_url: str) -> None:
    """The way of a hit is the same as without observers."""
    store = patient_store(redis_url, observer=Stats())
    assert type(store.region(MY).entries) is Entries
    store.close()
    store = patient_store(redis_url, observer=Ears())
    assert type(store.region(MY).entries) is TimedEntries
    store.close()


def test_both_moments_of_a_commit_are_told(store: Store, ears: Ears) -> None:
    """With the databases concerned."""
    store.region(MY)
    store.settle(store.intend(touching("a", USERS)))
    assert ears.told == [("intend", [2], True), ("settle", [2], True)]
    assert ears.invalidated == [(2, 1, 1)]


def test_a_cleared_region_is_counted(store: Store, ears: Ears) -> None:
    """By the stamps that its entries are ended with."""
    region = store.region(MY)
    region.watch([USERS])
    region.clear()
    assert ears.invalidated == [(2, 0, 2)]


def test_redis_away(ears: Ears) -> None:
    """Reads found nothing and missed nothing; the breaker opens once; then nobody is told."""
    store = Store.connect("redis://127.0.0.1:1", observer=ears)
    region = store.region(MY)
    for _ in range(3):
        assert region.get(USER) is NO_VALUE
    region.entries.look((USER, OTHER))
    assert ears.reads == [("get", 0, 0)] * 3 + [("get_many", 0, 0)]
    assert ears.states == [True]
    store.settle(store.intend(touching("a")))
    assert ears.told == []
    store.close()


def test_redis_gone_at_a_commit(ears: Ears) -> None:
    """What could not be told is told of as such."""
    store = Store.connect("redis://127.0.0.1:1", observer=ears)
    store.settle(store.intend(touching("a")))
    assert ears.told == [("intend", [2], False), ("settle", [2], False)]
    store.close()


class Faulty(Observer):
    """An observer with a bug wherever a reader comes by."""

    def region(self, region: str, db: int, server: str) -> None:
        raise ZeroDivisionError

    def hit(self, region: str, key: str) -> None:
        raise ZeroDivisionError

    def miss(self, region: str, key: str, reason: str) -> None:
        raise ZeroDivisionError

    def fill(self, region: str, key: str, seconds: float, size_bytes: int, published: bool) -> None:
        raise ZeroDivisionError

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        raise ZeroDivisionError

    def breaker(self, is_open: bool) -> None:
        raise ZeroDivisionError


def test_an_observers_fault_never_reaches_a_reader(redis_url: str) -> None:
    """Nor does it keep anything out of the cache."""
    for url in (redis_url, "redis://127.0.0.1:1"):
        store = patient_store(url, observer=Faulty())
        region = store.region(MY)
        for _ in range(4):
            if region.get(USER) is NO_VALUE:
                assert region.fill(USER, lambda: Loaded("kim")) == "kim"
        store.close()
