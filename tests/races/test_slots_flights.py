"""Who may take whose answer: followers and leaders of one key, step by step."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import pytest

from cachedorm.observe import Stats
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.entries.single_flight import ReadSnapshot
from cachedorm.store.protocol.settings import RegionSettings
from tests.fixtures.patience import PATIENCE as WAIT
from tests.support.contract import places
from tests.support.contract.places import DB, USER_42, USER_43, USERS, Place, token

slots, place = places.slots, places.place


class Query:
    """A load that has begun when ``began`` is set, and answers when it is told to."""

    def __init__(self, answer: object = "old") -> None:
        self.answer = answer
        self.began = Event()
        self.go_on = Event()

    def load(self) -> Loaded:
        self.began.set()
        assert self.go_on.wait(WAIT)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return Loaded(self.answer)


@pytest.fixture
def region(place: Place) -> CachedRegion:
    settings = RegionSettings("my", DB, ttl_ms=60_000, wait_ms=50)
    return CachedRegion(settings, place.slots, Stats())


class Reader:
    """One thread: it reads now, and fills when the test says so."""

    def __init__(self, region: CachedRegion, pool: ThreadPoolExecutor, load: Callable[[], Loaded]):
        self._read = Event()
        self._fill = Event()
        self._region, self._load = region, load
        self._answer: Future[object] = pool.submit(self._run)
        assert self._read.wait(WAIT)

    def _run(self) -> object:
        found = self._region.get(USER_42)
        self._read.set()
        assert self._fill.wait(WAIT)
        return self._region.fill(USER_42, self._load) if found is NO_VALUE else found

    def fill(self) -> "Reader":
        self._fill.set()
        return self

    def answer(self) -> object:
        return self._answer.result(WAIT)

    def waits(self) -> bool:
        """Still without an answer, though it had every chance."""
        try:
            self._answer.result(0.1)
        except TimeoutError:
            return True
        return False


def new() -> Loaded:
    return Loaded("new")


def never() -> Loaded:
    raise AssertionError("this reader was to follow")


def test_who_read_before_the_query_began_follows(region: CachedRegion) -> None:
    """Nothing it could have known of is missing from a query that began later."""
    query = Query("answer")
    with ThreadPoolExecutor() as pool:
        early = Reader(region, pool, never)
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        early.fill()
        assert early.waits()
        query.go_on.set()

        assert leader.answer() == "answer"
        assert early.answer() == "answer"


def test_who_saw_the_lease_standing_follows(region: CachedRegion) -> None:
    """A commit would have taken the lease away before it returned."""
    query = Query("answer")
    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        late = Reader(region, pool, never).fill()
        assert late.waits()
        query.go_on.set()

        assert leader.answer() == "answer"
        assert late.answer() == "answer"


def test_who_reads_after_a_commit_does_not_follow_a_query_from_before(
    region: CachedRegion, place: Place
) -> None:
    """The commit returned before this reader asked: it must see it."""
    query = Query("old")
    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        place.settle(USER_42, mine=token())
        late = Reader(region, pool, new).fill()

        assert late.answer() == "new"
        query.go_on.set()
        assert leader.answer() == "old"
        assert region.get(USER_42) == "new"


def test_who_reads_after_a_commit_that_touched_a_tag_does_not_follow(
    region: CachedRegion, place: Place
) -> None:
    """A writer that knew the tag but not the entry leaves the lease standing: that a stamp is
    missing says that the query is from before."""
    query = Query("old")
    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        place.settle(USERS, mine=token())
        assert Reader(region, pool, new).fill().answer() == "new"
        query.go_on.set()

        assert leader.answer() == "old"
        assert region.get(USER_42) == "new"


def test_who_sees_another_stamp_than_the_lease_was_granted_with_does_not_follow(
    region: CachedRegion, place: Place
) -> None:
    """The same when the stamp is there again, for somebody else's entry."""
    query = Query("old")
    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        place.settle(USERS, mine=token())
        place.lease(USER_43)
        assert Reader(region, pool, new).fill().answer() == "new"
        query.go_on.set()

        assert leader.answer() == "old"
        assert region.get(USER_42) is NO_VALUE


def test_who_sees_another_lease_does_not_follow(region: CachedRegion, place: Place) -> None:
    """A lease standing says nothing about a flight that lost its own."""
    query = Query("old")
    with ThreadPoolExecutor() as pool:
        Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        place.settle(USER_42, mine=token())
        place.lease(USER_42)
        late = Reader(region, pool, new).fill()

        assert late.answer() == "new"
        query.go_on.set()


def test_behind_an_intent_the_next_flight_waits_for_the_first(
    region: CachedRegion, place: Place
) -> None:
    """Forty readers behind a dead writer are two queries: one running, one that all wait for."""
    place.intend(USER_42, mine=token())
    first, second = Query("first"), Query("second")
    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, first.load).fill()
        assert first.began.wait(WAIT)
        next_leader = Reader(region, pool, second.load).fill()
        assert next_leader.waits()
        assert not second.began.is_set()
        others = [Reader(region, pool, never).fill() for _ in range(2)]
        assert others[0].waits()
        first.go_on.set()
        assert leader.answer() == "first"
        assert second.began.wait(WAIT)
        second.go_on.set()

        assert [reader.answer() for reader in (next_leader, *others)] == ["second"] * 3


def test_a_leader_that_fails_leaves_its_followers_to_themselves(region: CachedRegion) -> None:
    """The error is the leader's alone."""
    query = Query(LookupError("connection lost"))
    with ThreadPoolExecutor() as pool:
        early = Reader(region, pool, new)
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        early.fill()
        assert early.waits()
        query.go_on.set()

        with pytest.raises(LookupError):
            leader.answer()
        assert early.answer() == "new"


def test_an_answer_for_its_reader_alone_is_not_followed(region: CachedRegion) -> None:
    """A load from a replica is no answer for a reader of the primary."""
    began, go_on = Event(), Event()

    def from_replica() -> Loaded:
        began.set()
        assert go_on.wait(WAIT)
        return Loaded("of a replica", publish=False)

    with ThreadPoolExecutor() as pool:
        early = Reader(region, pool, new)
        leader = Reader(region, pool, from_replica).fill()
        assert began.wait(WAIT)
        early.fill()
        assert early.waits()
        go_on.set()

        assert leader.answer() == "of a replica"
        assert early.answer() == "new"


def test_who_holds_a_connection_waits_so_long_only(region: CachedRegion) -> None:
    """The leader may be waiting for the very connection that its follower holds."""
    query = Query("answer")
    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        assert region.get(USER_42) is NO_VALUE

        assert region.fill(USER_42, new, bounded=True) == "new"
        query.go_on.set()
        assert leader.answer() == "answer"
    assert region.get(USER_42) == "answer"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_waits_for_no_leader_of_its_parent(region: CachedRegion) -> None:
    """The flight is in the air in the parent only; in the child it would never land."""
    query = Query("answer")
    with ThreadPoolExecutor() as pool:
        early_tick = region.entries.filler.flights.now
        leader = Reader(region, pool, query.load).fill()
        assert query.began.wait(WAIT)
        child = os.fork()
        if not child:
            signal.alarm(int(WAIT))
            asked = ReadSnapshot(early_tick)
            answer = region.entries.fill(USER_42, lambda: Loaded("child's"), asked=asked)
            os._exit(0 if answer == "child's" else 1)
        _, status = os.waitpid(child, 0)
        query.go_on.set()

        assert leader.answer() == "answer"
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_value_that_another_published_is_no_answer_to_who_asked_later(
    region: CachedRegion, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader is told "valid", then a commit returns, then somebody asks: it must not follow."""
    told, go_on = Event(), Event()
    acquire = place.slots.acquire

    def acquire_and_pause(*args: object, **options: object) -> object:
        got = acquire(*args, **options)  # type: ignore[arg-type]
        if not told.is_set():
            told.set()
            assert go_on.wait(WAIT)
        return got

    with ThreadPoolExecutor() as pool:
        leader = Reader(region, pool, never)
        place.fill(USER_42, "old")
        monkeypatch.setattr(place.slots, "acquire", acquire_and_pause)
        leader.fill()
        assert told.wait(WAIT)
        place.settle(USER_42, mine=token())
        late = Reader(region, pool, new).fill()
        assert late.waits()
        go_on.set()

        assert leader.answer() == "old"
        assert late.answer() == "new"
