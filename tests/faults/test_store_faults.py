"""Commits while Redis is away: none fails, none is forgotten, nothing old is served meanwhile."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.errors import CacheUnavailable
from cachedorm.observe import Stats
from cachedorm.store.commits.retry_thread import RetryThread
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.protocol.entry import Miss, describe
from cachedorm.store.protocol.intent import Intent
from cachedorm.store.redis.client import RedisClient
from cachedorm.store.redis.slots import RedisSlots
from cachedorm.store.store import Store
from examples.servers import PrivateRedis
from tests.contract.test_store import USER, USERS, fill, seen, touched
from tests.fixtures.faults import RedisProxy
from tests.support.contract.places import MY
from tests.support.proxy import Fault

COMMIT_LIMIT = 0.5
# A loaded machine is late, but not by another time limit.
LATE = 0.2
AWAY = [Fault.REFUSE, Fault.RESET, Fault.BLACKHOLE, Fault.HALF_OPEN]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def invalidator(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retry_thread thread: the test calls ``mend`` when it wants it."""
    monkeypatch.setattr(RetryThread, "wake", lambda self: None)


# Connecting, an operation, a commit: as they are by default, and as tests that time nothing want.
USUAL = (0.25, 0.25, 0.5)
PATIENT = (5.0, 5.0, 20.0)
# One that is waited out, and yet long enough for the answers that come.
SHORT = (5.0, 5.0, 1.0)


@pytest.fixture
def limits() -> tuple[float, float, float]:
    return PATIENT


@pytest.fixture
def closing(
    colour: str,
    proxy: RedisProxy,
    stats: Stats,
    clock: Clock,
    limits: tuple[float, float, float],
) -> Iterator[Store]:
    connecting, operating, committing = limits
    wire = RedisClient(proxy.url, connecting, operating)
    store = Store(RedisSlots(wire), wire, commit_timeout=committing, observer=stats, clock=clock)
    store.region(MY)
    yield store
    proxy.heal()
    store.close()


@pytest.fixture
def store(closing: Store) -> Store:
    """A store through the proxy."""
    return closing


def commit(store: Store, keys: Touched | None = None) -> None:
    """What a commit does to the cache; it takes no longer than it may."""
    began = time.monotonic()
    store.settle(store.intend(keys or touched()))
    assert time.monotonic() - began < COMMIT_LIMIT + LATE


def mend(store: Store, clock: Clock) -> None:
    """A pass of the retry_thread once the breaker lets one try."""
    clock.now += 2.0
    assert not store.deliver_queued()


@pytest.mark.parametrize("limits", [USUAL])
@pytest.mark.usefixtures("invalidator")
@pytest.mark.parametrize("fault", AWAY)
def test_a_commit_without_redis_is_told_later(
    store: Store, proxy: RedisProxy, stats: Stats, clock: Clock, fault: Fault
) -> None:
    """It succeeds in time; the old value is not trusted until Redis was told, and gone then."""
    fill(store, "old")
    proxy.impose(fault)
    commit(store)
    assert stats.errors == {"intend": 1, "settle": 1}
    proxy.heal()
    assert not store.trusted(2)
    with pytest.raises(CacheUnavailable, match="still queued"):
        seen(store)
    mend(store, clock)
    assert store.trusted(2)
    assert seen(store) in (Miss.EMPTY, Miss.STAMP)


@pytest.mark.usefixtures("invalidator")
def test_only_the_databases_concerned_are_distrusted(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """The other regions go on being served."""
    proxy.impose(Fault.REFUSE)
    commit(store, touched(3))
    proxy.heal()
    assert (store.trusted(3), store.trusted(2)) == (False, True)
    assert seen(store) is Miss.EMPTY
    mend(store, clock)
    assert store.trusted(3)


@pytest.mark.usefixtures("invalidator")
def test_a_region_is_a_miss_while_it_is_not_trusted(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """A reader of the region gets the database's answer, and nothing is stored."""
    region = store.region(MY)
    region.set("plain", "old")
    proxy.impose(Fault.REFUSE)
    commit(store)
    proxy.heal()
    assert not region.get("plain")
    assert region.get_or_create("plain", lambda: "database") == "database"
    mend(store, clock)
    assert region.get("plain") == "old"


@pytest.mark.usefixtures("invalidator")
def test_with_the_breaker_open_a_commit_tries_nothing(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """Not even as the trial, so it costs no time."""
    proxy.impose(Fault.RESET)
    for _ in range(2):
        commit(store)
    asked = proxy.accepted
    clock.now += 2.0
    for number in range(5):
        commit(store, Touched({2: {f"k{number}"}}))
    assert proxy.accepted == asked
    proxy.heal()
    mend(store, clock)
    assert store.trusted(2)
    assert "closed failures=0" in repr(store)


@pytest.mark.parametrize("limits", [USUAL])
@pytest.mark.usefixtures("invalidator")
def test_reads_stop_asking_a_dead_redis(store: Store, proxy: RedisProxy, clock: Clock) -> None:
    """Three time limits, then none until the trial; the trial's success ends it."""
    proxy.impose(Fault.BLACKHOLE)
    for _ in range(3):
        with pytest.raises(CacheUnavailable):
            seen(store)
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(CacheUnavailable, match="not asked yet"):
            seen(store)
    assert time.monotonic() - began < LATE
    proxy.heal()
    clock.now += 1.0
    assert seen(store) is Miss.EMPTY


@pytest.mark.usefixtures("invalidator")
def test_redis_that_dies_between_intent_and_settle(
    private_redis: PrivateRedis, colour: str
) -> None:
    """The commit stands; what it touched is told to the one that comes back."""
    store = Store.connect(private_redis.url)
    store.region(MY)
    fill(store, "old")
    intent = store.intend(touched())
    private_redis.kill()
    store.settle(intent)
    assert not store.trusted(2)
    private_redis.start()
    assert not store.deliver_queued()
    assert store.trusted(2)
    store.close()


@pytest.mark.usefixtures("invalidator")
def test_a_stopped_redis_costs_a_commit_its_limit_and_no_more(
    private_redis: PrivateRedis, colour: str
) -> None:
    """SIGSTOP just before the commit, on held lines."""
    store = Store.connect(private_redis.url)
    fill(store, "old")
    private_redis.pause()
    commit(store)
    private_redis.resume()
    assert not store.deliver_queued()
    assert seen(store) in (Miss.EMPTY, Miss.STAMP)
    store.close()


@pytest.mark.parametrize("limits", [SHORT])
@pytest.mark.usefixtures("invalidator")
def test_a_settle_whose_answer_was_lost_may_be_told_twice(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """Another writer's intent, placed between the two, is not taken away."""
    intent = store.intend(touched())
    proxy.impose(Fault.HALF_OPEN)
    store.settle(intent)
    proxy.heal()
    other = store.intend(touched())
    mend(store, clock)
    assert seen(store) is Miss.INTENT
    store.settle(other)
    assert seen(store) is Miss.EMPTY


@pytest.mark.usefixtures("invalidator")
def test_beyond_the_journals_bound_the_database_is_cleared(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """What is not remembered key by key is ended by the stamps that every entry carries."""
    fill(store, "old")
    store.know(2, [USERS])
    proxy.impose(Fault.REFUSE)
    commit(store, Touched({2: {f"other:{number}" for number in range(10_001)}}))
    assert "{2: 2}" in repr(store)  # the known stamp, and the plain entries' own
    proxy.heal()
    mend(store, clock)
    assert seen(store) is Miss.STAMP


def test_the_mender_tells_by_itself_and_ends(colour: str, proxy: RedisProxy) -> None:
    """Nobody has to ask for it; afterwards no thread is left."""
    store = Store.connect(proxy.url)
    fill(store, "old")
    proxy.impose(Fault.REFUSE)
    commit(store)
    proxy.heal()
    within(10.0, lambda: store.trusted(2) and "RetryThread idle" in repr(store))
    assert seen(store) in (Miss.EMPTY, Miss.STAMP)
    assert not [each for each in threading.enumerate() if each.name == "cachedorm-retry"]
    store.close()


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Waits for what another thread does in its own time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_close_tries_once_more_and_leaves_no_thread(colour: str, proxy: RedisProxy) -> None:
    """A process that ends in good order takes nothing untold with it, if Redis is back."""
    store = Store.connect(proxy.url)
    fill(store, "old")
    proxy.impose(Fault.REFUSE)
    store.settle(store.intend(touched()))
    store.close()
    assert not [each for each in threading.enumerate() if each.name == "cachedorm-retry"]


@pytest.mark.usefixtures("invalidator")
def test_a_forked_child_distrusts_what_its_parent_could_not_tell(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """The journal is inherited, the parent's thread and connections are not."""
    proxy.impose(Fault.REFUSE)
    commit(store)
    proxy.heal()
    child = os.fork()
    if child == 0:
        clock.now += 2.0
        # In a thread, because a loop is of no use in the child of a fork.
        with ThreadPoolExecutor(1) as fresh:
            distrusted = not store.trusted(2)
            more = fresh.submit(store.deliver_queued).result()
            os._exit(0 if distrusted and not more and store.trusted(2) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not store.trusted(2)


@pytest.mark.usefixtures("invalidator")
def test_a_database_the_server_has_not_holds_nothing_up(
    store: Store, clock: Clock, stats: Stats
) -> None:
    """Nothing old can be in it: said once, and the other databases are told."""
    commit(store, Touched({2: {"k"}, 99: {"k"}}))
    assert not store.trusted(2)
    mend(store, clock)
    assert (store.trusted(2), stats.errors["mend"]) == (True, 1)


def test_after_close_nothing_is_remembered(store: Store, proxy: RedisProxy) -> None:
    """There is nobody left to tell it."""
    store.close()
    commit(store)
    assert "pending keys per database: none" in repr(store)


# -- COMMITs of unknown outcome --


@pytest.fixture
def in_two(redis_url: str) -> Iterator["redis.Redis"]:
    """A plain client on the region's database."""
    with redis.Redis.from_url(redis_url, db=2) as client:
        yield client


@pytest.mark.usefixtures("invalidator")
def test_undecided_commits_stay_hidden_until_decided(
    store: Store, clock: Clock, in_two: "redis.Redis"
) -> None:
    """Renewed every third of their time; settled when the database says how it ended."""
    decided, intents = [False], f"~i:{USER}"
    store.keep(store.intend(touched()), lambda: decided[0])
    assert store.deliver_queued()
    in_two.pexpire(intents, 10_000)
    clock.now += 5.0
    assert store.deliver_queued()
    assert in_two.pttl(intents) <= 10_000
    clock.now += 5.1
    assert store.deliver_queued()
    assert in_two.pttl(intents) > 10_000
    assert seen(store) is Miss.INTENT
    decided[0] = True
    clock.now += 1.0
    assert not store.deliver_queued()
    assert seen(store) is Miss.EMPTY


@pytest.mark.usefixtures("invalidator")
def test_a_question_that_fails_is_asked_again(store: Store, clock: Clock, stats: Stats) -> None:
    """The database that lost the COMMIT may be down itself."""

    def decided() -> bool:
        raise ConnectionError("database")

    store.keep(store.intend(touched()), decided)
    for _ in range(3):
        assert store.deliver_queued()
        clock.now += 1.0
    assert stats.errors["decided"] == 3
    assert seen(store) is Miss.INTENT


@pytest.mark.usefixtures("invalidator")
def test_after_ten_minutes_intents_may_expire(store: Store, clock: Clock, stats: Stats) -> None:
    """Said aloud, and then left to their time."""
    store.keep(store.intend(touched()), lambda: False)
    assert store.deliver_queued()
    clock.now += 600.0
    assert not store.deliver_queued()
    assert stats.errors["keep"] == 1


@pytest.mark.usefixtures("invalidator")
def test_where_nothing_can_be_asked_intents_just_expire(store: Store) -> None:
    """Without pg_xact_status their own thirty seconds are all there is."""
    store.keep(store.intend(touched()), None)
    assert not store.deliver_queued()
    assert seen(store) is Miss.INTENT
    assert store.trusted(2)


@pytest.mark.usefixtures("invalidator")
def test_undecided_without_intents_is_distrusted_and_hidden_later(
    store: Store, proxy: RedisProxy, clock: Clock
) -> None:
    """Redis was away at INTEND: the retry_thread hides the keys before it lets them be read."""
    decided = [False]
    fill(store, "old")
    proxy.impose(Fault.REFUSE)
    intent = store.intend(touched())
    store.keep(intent, lambda: decided[0])
    assert not store.trusted(2)
    proxy.heal()
    clock.now += 1.0
    assert store.deliver_queued()
    assert store.trusted(2)
    assert seen(store) is Miss.INTENT
    decided[0] = True
    clock.now += 1.0
    assert not store.deliver_queued()
    assert seen(store) is Miss.EMPTY


# -- interrupted commits --


@pytest.fixture
async def loop_store(proxy: RedisProxy, invalidator: None) -> Store:
    """For tests that are coroutines themselves; long limits, because they hold answers back."""
    wire = RedisClient(proxy.url, 5.0, 5.0)
    return Store(RedisSlots(wire), wire, commit_timeout=20.0)


async def held_then_cancelled(proxy: RedisProxy, task: "asyncio.Task[Any]") -> None:
    """Cancels the task while Redis' answer is held back, and lets the answer through."""
    await asyncio.to_thread(proxy.wait_until_held)
    task.cancel()
    await asyncio.sleep(0)
    proxy.heal()


async def test_a_cancelled_commit_settles_first(loop_store: Store, proxy: RedisProxy) -> None:
    """Then the cancellation surfaces at the next await, and Redis knows of the commit."""
    store, passed = loop_store, list[str]()
    await greenlet_spawn(fill, store, "old")
    intent: Intent = await greenlet_spawn(store.intend, touched())
    proxy.impose(Fault.HALF_OPEN)

    async def finish() -> None:
        await greenlet_spawn(store.settle, intent)
        passed.append("settled")
        await asyncio.sleep(60)
        passed.append("never")

    task = asyncio.create_task(finish())
    await held_then_cancelled(proxy, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert passed == ["settled"]
    assert task.cancelling() == 1
    assert store.trusted(2)
    assert await greenlet_spawn(seen, store) is Miss.EMPTY
    await store.aclose()


async def test_a_timed_out_commit_settles_first(loop_store: Store, proxy: RedisProxy) -> None:
    """asyncio.timeout around a commit."""
    store, passed = loop_store, list[str]()
    intent: Intent = await greenlet_spawn(store.intend, touched())
    proxy.impose(Fault.HALF_OPEN)

    async def finish() -> None:
        async with asyncio.timeout(None) as limit:
            expiring = asyncio.create_task(held_then_expired(proxy, limit))
            await greenlet_spawn(store.settle, intent)
            passed.append("settled")
            await expiring

    with pytest.raises(TimeoutError):
        await finish()
    task = asyncio.current_task()
    assert task is not None
    assert (passed, task.cancelling()) == (["settled"], 0)
    assert await greenlet_spawn(seen, store) is Miss.EMPTY
    await store.aclose()


async def held_then_expired(proxy: RedisProxy, limit: asyncio.Timeout) -> None:
    """The time is up while Redis' answer is held back; then the answer comes."""
    await asyncio.to_thread(proxy.wait_until_held)
    limit.reschedule(asyncio.get_running_loop().time())
    await asyncio.sleep(0)
    assert limit.expired()
    proxy.heal()
    await asyncio.sleep(60)


async def test_a_commit_cancelled_at_its_intent_leaves_none(
    loop_store: Store, proxy: RedisProxy
) -> None:
    """There will be no COMMIT: what may have been hidden is uncovered before the task ends."""
    store = loop_store
    await greenlet_spawn(fill, store, "old")
    proxy.impose(Fault.HALF_OPEN)
    task = asyncio.create_task(greenlet_spawn(store.intend, touched()))
    await held_then_cancelled(proxy, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await greenlet_spawn(seen, store) is Miss.EMPTY
    await store.aclose()


@pytest.mark.usefixtures("invalidator")
def test_ctrl_c_at_settle_is_told_later(proxy: RedisProxy) -> None:
    """A thread cannot shield itself; the journal remembers, and the interrupt goes on."""
    wire = RedisClient(proxy.url, 5.0, 5.0)
    store = Store(RedisSlots(wire), wire, commit_timeout=20.0)
    intent = store.intend(touched())
    proxy.impose(Fault.HALF_OPEN)

    def interrupt() -> None:
        proxy.wait_until_held()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        store.settle(intent)
    interrupting.join()
    proxy.heal()
    assert not store.trusted(2)
    assert not store.deliver_queued()
    assert store.trusted(2)
    store.close()


def test_a_writer_that_dies_leaves_intents_that_expire(store: Store, in_two: "redis.Redis") -> None:
    """Between INTEND and settle the key is hidden, and for thirty seconds at most."""
    intent = store.intend(touched())
    raw = in_two.get(str(USER))
    assert isinstance(raw, bytes)
    assert describe(raw).token == intent.token
    assert 0 < in_two.pttl(str(USER)) <= 30_000
    assert 0 < in_two.pttl(f"~i:{USER}") <= 30_000
    store.settle(intent)
