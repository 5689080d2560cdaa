"""Observers: who is told, what it costs not to listen, and that none of them can do harm."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from cachedorm import Cache, Observer
from cachedorm.errors import ArgumentError
from cachedorm.observe import LogObserver, Observers, Stats, listens


class Broken(Observer):
    """Raises whatever it is told."""

    def hit(self, region: str, key: str) -> None:
        raise ZeroDivisionError("hit")

    def error(self, what: str, error: BaseException) -> None:
        raise ZeroDivisionError("error")

    def loading(self, region: str, key: str) -> AbstractContextManager[object]:
        raise ZeroDivisionError("loading")


class Tracing(Observer):
    """Notes what is inside of a load."""

    def __init__(self, *, broken: bool = False) -> None:
        self.seen: list[str] = []
        self.broken = broken

    @contextmanager
    def loading(self, region: str, key: str) -> Iterator[None]:
        self.seen.append(f"in {key}")
        try:
            yield
        except LookupError:
            self.seen.append("failed")  # and swallows it
        self.seen.append("out")
        if self.broken:
            raise ZeroDivisionError("leaving")


def test_those_after_a_broken_one_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """One observer's fault is logged with its traceback; the others and the reader know nothing."""
    stats = Stats()
    told = Observers([Broken(), stats])
    told.hit("my", "k")
    assert dict(stats.hits) == {"my": 1}
    assert dict(stats.errors) == {"observer": 1}
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "an observer failed in hit: ZeroDivisionError('hit')" in caplog.text


def test_a_broken_one_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A fault in every hit is one line a second, and all of them are counted."""
    stats = Stats()
    told = Observers([stats, Broken()])
    for _ in range(100):
        told.hit("my", "k")
    assert len(caplog.records) < 10
    assert stats.errors["observer"] == 100


def test_an_observers_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The library's own log observer leaves it to the line with the traceback."""

    class Once(Observer):
        def hit(self, region: str, key: str) -> None:
            raise ZeroDivisionError

    Observers([LogObserver(), Once()]).hit("my", "k")
    assert len(caplog.records) == 1


def test_nobody_listens_to_what_nobody_overrides() -> None:
    """So what must be measured to be told is measured only for those who listen."""
    assert not listens(Observers([Stats(), LogObserver()]), "read")
    assert listens(Observers([Observers([Reads()])]), "read")
    assert not listens(Observer(), "hit")


class Reads(Observer):
    """Listens to reads."""

    def read(self, region: str, operation: str, seconds: float, hits: int, misses: int) -> None:
        """Does nothing about it."""


def test_observers_come_and_go() -> None:
    """Whoever is added is told from then on, also by those who asked how to tell before."""
    stats, other = Stats(), Stats()
    told = Observers([stats, LogObserver()])
    hit = told.hit
    hit("my", "k")
    told.add(other)
    hit("my", "k")
    told.remove(other)
    hit("my", "k")
    assert (stats.hits["my"], other.hits["my"]) == (3, 1)


def test_every_observer_is_around_a_load() -> None:
    """In their order, left in the other, whatever a broken one of them does."""
    stats, one, other = Stats(), Tracing(), Tracing(broken=True)
    with Observers([stats, one, Broken(), other]).loading("my", "k"):
        one.seen.append("load")
    assert one.seen == ["in k", "load", "out"]
    assert other.seen == ["in k", "out"]
    assert stats.errors["observer"] == 2


def test_a_failed_load_stays_failed() -> None:
    """No observer swallows what the database raised."""
    tracing = Tracing()
    with pytest.raises(LookupError), Observers([tracing]).loading("my", "k"):
        raise LookupError
    assert tracing.seen == ["in k", "failed", "out"]


def test_a_load_nobody_looks_at() -> None:
    """Nothing is around it, as often as it is asked."""
    told = Observers([Stats()])
    with told.loading("my", "k"), told.loading("my", "k"):
        pass


class Quiet(LogObserver):
    """Logs no failure."""

    def error(self, what: str, error: BaseException) -> None:
        """Says nothing."""


def test_an_own_log_takes_the_place_of_the_librarys(caplog: pytest.LogCaptureFixture) -> None:
    """Or every failure would be logged twice."""
    with Cache(observers=[Quiet()]) as cache:
        cache._observers.error("read", OSError())
        assert cache.stats().errors["read"] == 1
    assert not caplog.records
    with Cache() as cache:
        cache._observers.error("read", OSError("away"))
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (logging.WARNING, "read: away")
    ]


@pytest.mark.parametrize("observers", [Stats(), [Stats], [None], ["stats"]])
def test_what_is_no_observer_is_refused(observers: object) -> None:
    """One that is not in a list, a class, anything else."""
    with pytest.raises(ArgumentError, match="observers"):
        Cache(observers=observers)  # type: ignore[arg-type]


def test_a_snapshot_does_not_change() -> None:
    """The counts of one moment, in all and of one region, with the share of hits."""
    stats = Stats()
    nothing = stats.snapshot()
    for _ in range(3):
        stats.hit("my", "k")
    stats.miss("my", "k", "empty")
    stats.bypass("info", "disabled")
    counted = stats.snapshot()
    stats.hit("my", "k")
    assert nothing.hit_ratio is None
    assert nothing.regions == []
    assert (counted.hits["my"], counted.hit_ratio) == (3, 0.75)
    assert counted.regions == ["info", "my"]
    assert counted.region("my").misses == {"empty": 1}
    assert counted.region("my").hit_ratio == 0.75
    assert counted.region("info").bypasses == {"disabled": 1}
    assert counted.region("info").hit_ratio is None
