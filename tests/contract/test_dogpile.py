"""What a plain dogpile.cache user gets, who knows nothing of leases and stamps."""

import datetime as dt
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE, CachedValue
from dogpile.cache.proxy import ProxyBackend

from cachedorm.errors import ArgumentError
from cachedorm.observe import Stats
from cachedorm.store.backend import StoreBackend
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.runtime import concurrency
from tests.fixtures.patience import PATIENCE, eventually
from tests.support.contract.colours import together
from tests.support.contract.places import DB, LEASE_MS

KINDS = ["redis", "memory", "cached-redis", "cached-memory"]
# Two regions of a test share their entries on a server only.
SHARED = pytest.mark.parametrize("closing", ["redis", "cached-redis"], indirect=True)


class Region:
    """Makes the region under test, as often as a test wants one over the same entries."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.kind = request.param
        self.made: list[StoreBackend] = []
        self.url = request.getfixturevalue("redis_url") if "redis" in self.kind else ""
        self.stats = Stats()

    # Any, because dogpile leaves some of its methods untyped.
    def __call__(self, wait: float = PATIENCE, **options: Any) -> Any:
        if self.kind.startswith("cached"):
            return self._cached(wait)
        arguments: dict[str, Any] = {
            "observer": self.stats,
            "wait": wait,
            "lease": PATIENCE,
            **self._redis(),
        }
        region: Any = make_region(**options).configure(
            f"cachedorm.{self.kind}", arguments=arguments
        )
        return self._keep(region)

    def _cached(self, wait: float) -> Any:
        base: Any = make_region().configure(
            f"cachedorm.{self.kind.removeprefix('cached-')}", arguments=self._redis()
        )
        slots = self._keep(base).backend.entries.slots
        settings = RegionSettings(
            "plain", DB, ttl_ms=600_000, lease_ms=LEASE_MS, wait_ms=int(wait * 1000)
        )
        return CachedRegion(settings, slots, self.stats)

    def _redis(self) -> dict[str, Any]:
        if not self.url:
            return {}
        # Longer than in production: this machine runs other things too.
        return {"url": self.url, "db": DB, "connect_timeout": 60, "operation_timeout": 60}

    def _keep(self, region: Any) -> Any:
        self.made.append(region.backend)
        return region

    def close(self) -> None:
        for backend in self.made:
            backend.close()


@pytest.fixture(params=KINDS)
def closing(request: pytest.FixtureRequest) -> Iterator[Region]:
    """Makes regions, and closes what they opened (in the loop of the test, if it has one)."""
    made = Region(request)
    yield made
    made.close()


@pytest.fixture
def region(closing: Region) -> Any:
    return closing()


def test_it_is_a_dogpile_region(region: Any) -> None:
    """Everything that takes a CacheRegion takes ours."""
    assert isinstance(region, CacheRegion)
    assert region.is_configured
    assert region.key_mangler is None


def test_get_set_delete(region: Any) -> None:
    """What was set is got until it is deleted; deleting again is nothing."""
    assert region.get("k") is NO_VALUE
    region.set("k", "v")
    assert region.get("k") == "v"
    region.delete("k")
    region.delete("k")
    assert region.get("k") is NO_VALUE


VALUES = [
    None, True, 0, -(2**70), 1.5, "한글", b"\0\xff", [1, [2]], (1, 2), {"a": {1, 2}},
    Decimal("1.10"), dt.date(2026, 1, 2), "", [], {},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_with_their_types(region: Any, value: object) -> None:
    """None is a value; a tuple stays a tuple."""
    region.set("k", value)
    found = region.get("k")

    assert found == value
    assert type(found) is type(value)


def test_a_value_that_cannot_be_stored_is_dropped(closing: Region) -> None:
    """Setting never raises for what the codec refuses; it is counted, and the creator's answer
    is given all the same."""
    region = closing()
    region.set("k", object)
    assert region.get("k") is NO_VALUE

    assert region.get_or_create("k", lambda: object) is object
    assert region.get("k") is NO_VALUE
    assert closing.stats.errors["encode"] + closing.stats.errors["set"] == 2


def test_get_or_create_creates_once(region: Any) -> None:
    """The creator runs for the first caller only."""
    made: list[int] = []

    def create() -> int:
        made.append(1)
        return len(made)

    assert [region.get_or_create("k", create) for _ in range(3)] == [1, 1, 1]


def test_get_or_create_passes_arguments_and_asks_what_to_keep(region: Any) -> None:
    """creator_args reach the creator; should_cache_fn decides."""

    def create(a: int, b: int = 0) -> int:
        return a + b

    def small(value: int) -> bool:
        return value < 10

    def get(a: int, b: int) -> Any:
        return region.get_or_create(
            "k", create, should_cache_fn=small, creator_args=((a,), {"b": b})
        )

    assert get(10, 1) == 11
    assert get(4, 1) == 5
    assert get(10, 1) == 5


def test_a_failing_creator_is_the_callers_and_blocks_nobody(region: Any) -> None:
    """The next caller creates at once."""

    def fail() -> int:
        raise LookupError("no")

    with pytest.raises(LookupError):
        region.get_or_create("k", fail)

    assert not region.key_is_locked("k")
    assert region.get_or_create("k", lambda: 1) == 1
    assert region.get("k") == 1


def test_many_at_once(region: Any) -> None:
    """get_multi, set_multi and delete_multi keep the order of their keys."""
    region.set_multi({"a": 1, "b": 2, "c": None})
    assert region.get_multi(["c", "x", "a"]) == [None, NO_VALUE, 1]
    region.delete_multi(["a", "c"])
    assert region.get_multi(["a", "b", "c"]) == [NO_VALUE, 2, NO_VALUE]
    assert region.get_multi([]) == []
    region.set_multi({})


def test_get_or_create_multi_creates_what_is_missing(region: Any) -> None:
    """Only missing keys are created, each once."""
    asked: list[tuple[str, ...]] = []

    def create(*keys: str) -> list[str]:
        asked.append(keys)
        return [key.upper() for key in keys]

    region.set("b", "kept")
    assert region.get_or_create_multi(["c", "b", "a"], create) == ["C", "kept", "A"]
    assert region.get_or_create_multi(["a", "b", "c"], create) == ["A", "kept", "C"]
    assert asked == [("a", "c")]


def test_get_or_create_multi_asks_what_to_keep(region: Any) -> None:
    """What should_cache_fn refuses is answered and not kept, and nobody waits for it."""
    keys = ["a", "b"]
    made = region.get_or_create_multi(
        keys, lambda *keys: list(keys), should_cache_fn=lambda value: value == "a"
    )

    assert made == keys
    assert region.get_multi(keys) == ["a", NO_VALUE]
    assert region.get_or_create("b", lambda: "new") == "new"


def test_cache_on_arguments(region: Any) -> None:
    """A decorated function, and its set, get, refresh, invalidate and original."""
    calls: list[int] = []

    @region.cache_on_arguments(namespace="n")  # type: ignore[untyped-decorator]
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n + len(calls) - 1

    f: Any = double
    assert [f(1), f(1), f(2)] == [2, 2, 5]
    assert f.get(1) == 2
    f.set(99, 1)
    assert f(1) == 99
    assert f.refresh(1) == 4
    assert f(1) == 4
    f.invalidate(1)
    assert f.get(1) is NO_VALUE
    assert f(1) == 5
    assert f.original(1) == 6


def test_cache_multi_on_arguments(region: Any) -> None:
    """The decorator for many keys at once."""

    @region.cache_multi_on_arguments()  # type: ignore[untyped-decorator]
    def double(*numbers: int) -> list[int]:
        return [2 * n for n in numbers]

    f: Any = double
    assert f(1, 2) == [2, 4]
    f.set({1: 7})
    assert f(1, 2, 3) == [7, 4, 6]
    f.invalidate(1)
    assert f.get(1, 2) == [NO_VALUE, 4]
    assert f.refresh(1) == [2]


def test_an_expiration_time_is_the_callers(region: Any) -> None:
    """A value older than the caller allows is created again; -1 allows any age."""
    region.set("k", "old")
    assert region.get("k", expiration_time=-0.5) is NO_VALUE
    assert region.get("k", expiration_time=-0.5, ignore_expiration=True) == "old"
    assert region.get_or_create("k", lambda: "new", expiration_time=100) == "old"
    assert region.get_or_create("k", lambda: "new", expiration_time=-1) == "old"
    assert region.get_or_create("k", lambda: "new", expiration_time=-0.5) == "new"
    assert region.get("k") == "new"


def test_invalidating_the_region_ends_every_value(region: Any) -> None:
    """After invalidate() nothing old is served, and new values are."""
    region.set("k", "old")
    region.invalidate()
    assert region.get("k") is NO_VALUE
    assert region.get_or_create("k", lambda: "new") == "new"
    assert region.get("k") == "new"


def test_metadata_says_when(region: Any) -> None:
    """get_value_metadata gives the CachedValue as it was stored."""
    region.set("k", "v")
    found = region.get_value_metadata("k")

    assert isinstance(found, CachedValue)
    assert found.payload == "v"
    assert 0 <= found.age < 60
    assert region.get_value_metadata("other") is None


def test_a_late_fill_is_refused(region: Any) -> None:
    """What was read before a delete is answered to its caller and not stored after it."""

    def create() -> str:
        region.delete("k")
        return "read before the delete"

    assert region.get_or_create("k", create) == "read before the delete"
    assert region.get("k") is NO_VALUE


def test_a_creator_may_ask_for_its_own_key(closing: Region) -> None:
    """It is answered by itself, at once; the outer answer is stored, unless it came too late."""
    region = closing(wait=0.05)

    def create(inside: Callable[[], None]) -> str:
        inner = region.get_or_create("k", lambda: "inner")
        inside()
        return f"outer of {inner}"

    def ask(inside: Callable[[], None]) -> Any:
        return region.get_or_create("k", create, creator_args=((inside,), {}))

    assert ask(lambda: region.delete("k")) == "outer of inner"
    assert region.get("k") is NO_VALUE
    assert ask(lambda: None) == "outer of inner"
    assert region.get("k") == "outer of inner"
    assert not region.key_is_locked("k")


def test_a_late_fill_of_many_is_refused(region: Any) -> None:
    """The same for get_or_create_multi, key by key."""

    def create(*keys: str) -> list[str]:
        region.delete("b")
        return list(keys)

    assert region.get_or_create_multi(["a", "b"], create) == ["a", "b"]
    assert region.get_multi(["a", "b"]) == ["a", NO_VALUE]


def test_a_fill_across_invalidate_is_refused(region: Any) -> None:
    """The same for the whole region."""

    def create() -> str:
        region.invalidate()
        return "old"

    region.get_or_create("k", create)
    if isinstance(region, CachedRegion):
        assert region.get("k") is NO_VALUE


def test_two_hundred_callers_make_one_load(closing: Region, colour: str) -> None:
    """A stampede on a cold key is one load."""
    region = closing()
    loads: list[int] = []
    # A pool of 200 threads on two cores proves no more than 40.
    count = 200 if colour == "greenlets" else 40
    asked: list[int] = []

    def create() -> str:
        loads.append(1)
        eventually(lambda: len(asked) == count, pause=concurrency.sleep)
        return "made"

    def ask() -> object:
        asked.append(1)
        return region.get_or_create("k", create)

    assert together(*[ask] * count) == ["made"] * count
    assert len(loads) == 1


@SHARED
def test_two_callers_in_two_regions_make_one_load(closing: Region) -> None:
    """Two processes share nothing but Redis; two regions of one process neither."""
    first, second = closing(), closing()
    loads: list[int] = []

    def create() -> str:
        loads.append(1)
        # The other one has asked for the value, and found none.
        eventually(lambda: closing.stats.misses.total() >= 2, pause=concurrency.sleep)
        return "made"

    answers = together(
        lambda: first.get_or_create("k", create), lambda: second.get_or_create("k", create)
    )
    assert answers == ["made", "made"]
    assert len(loads) == 1


@SHARED
def test_a_dead_holder_costs_wait_only(closing: Region) -> None:
    """A lease that nobody will use delays a caller by wait; it loads, and stores nothing."""
    region = closing(wait=0.05)
    assert closing.made[0].get_mutex("k").acquire()
    other = closing(wait=0.05)

    assert other.get_or_create("k", lambda: "mine") == "mine"
    assert other.get("k") is NO_VALUE
    assert region.get("k") is NO_VALUE


def test_the_mutex_keeps_no_token_of_its_own(closing: Region, colour: str) -> None:
    """dogpile shares one mutex object in a process: each caller's lease is its own."""
    backend = closing().backend
    mutex = backend.get_mutex("k")
    assert mutex.acquire()
    assert mutex.locked()

    def stranger() -> object:
        return mutex.acquire(False), backend.set("k", b"stranger's"), mutex.acquire(False)

    assert together(stranger) == [(False, None, False)]
    backend.set("k", CachedValue("late", {"ct": 1.0, "v": 2}))
    assert backend.get("k") == b"stranger's"
    mutex.release()
    mutex.release()


def test_the_mutex_can_be_forgotten(region: Any) -> None:
    """dogpile keeps mutexes in a weak dictionary."""
    mutex = region.backend.get_mutex("k")
    watch = weakref.ref(mutex)
    assert repr(mutex) == "LeaseMutex('k')"
    del mutex
    gc.collect()

    assert watch() is None


def test_who_finds_the_lease_taken_keeps_the_old_value(closing: Region) -> None:
    """dogpile does not wait for a new value while it has an old one."""
    mutex = closing().backend.get_mutex("k")
    assert mutex.acquire(False)

    assert together(lambda: mutex.acquire(False)) == [False]
    mutex.release()
    assert together(lambda: mutex.acquire(False)) == [True]


def test_a_runner_may_create_in_another_thread(closing: Region) -> None:
    """dogpile's async_creation_runner gets the mutex and releases it when it likes."""
    threads: list[threading.Thread] = []

    def runner(cache: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
        def work() -> None:
            try:
                cache.set(key, creator())
            finally:
                mutex.release()

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    region = closing(async_creation_runner=runner)
    if isinstance(region, CachedRegion):
        region.async_creation_runner = runner
    region.set("k", "old")

    assert region.get_or_create("k", lambda: "new", expiration_time=-0.5) == "old"
    threads[0].join(PATIENCE)
    assert region.get("k") == "new"
    assert not region.backend.get_mutex("k").locked()


def test_a_serializer_of_the_users_own(closing: Region) -> None:
    """A region with its own serializer stores its bytes; leases are under those too."""
    region = closing(
        serializer=lambda value: str(value).encode(), deserializer=lambda raw: int(raw.decode())
    )
    region.set("k", 5)
    assert region.get("k") == 5
    assert region.get_or_create("k2", lambda: 6) == 6
    assert region.get_multi(["k", "k2", "k3"]) == [5, 6, NO_VALUE]


def test_a_key_mangler_of_the_users_own(closing: Region) -> None:
    """Mangled keys are what is stored under."""
    region = closing(key_mangler=lambda key: f"mangled:{key}")
    if isinstance(region, CachedRegion):
        region.key_mangler = lambda key: f"mangled:{key}"
    region.set("k", 1)
    assert region.get("k") == 1
    assert region.get_or_create("k2", lambda: 2) == 2
    assert region.backend.get_multi(["mangled:k2"])[0].payload == 2


class Loud(ProxyBackend):
    """A user's proxy around the backend."""

    def get(self, key: str) -> Any:
        found: Any = self.proxied.get(key)
        return found if found is NO_VALUE else CachedValue(found.payload + "!", found.metadata)


def test_a_proxy_wraps_the_backend(closing: Region) -> None:
    """dogpile's proxies work, and mutexes go through them."""
    region = closing()
    region.wrap(Loud)
    region.set("k", "v")
    assert region.backend.get("k").payload == "v!"
    assert region.backend.get_mutex("k") is not None


def test_unknown_arguments_are_refused() -> None:
    """A misspelt argument is not ignored."""
    with pytest.raises(ArgumentError, match="unknown backend arguments: waits"):
        make_region().configure("cachedorm.memory", arguments={"waits": 1})


def test_configured_from_a_dictionary() -> None:
    """Strings, as they come from a file."""
    region = make_region().configure_from_config(
        {
            "cache.backend": "cachedorm.memory",
            "cache.arguments.ttl": "60",
            "cache.arguments.max_entries": "10",
        },
        "cache.",
    )
    region.set("k", 1)
    assert region.get("k") == 1
    assert "MemoryBackend(Entries('plain', db=0" in repr(region.backend)
