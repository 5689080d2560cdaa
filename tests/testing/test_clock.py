"""Entries end when the test lets time pass, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from cachedorm.errors import ArgumentError, ConfigurationError
from cachedorm.testing import (
    FrozenClock,
    assert_served_from_cache,
    count_commands,
    count_statements,
    frozen_clock,
    memory_cache,
)
from tests.support.testing.shelf import REGIONS, Magazine, Novel, Ticket


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with frozen_clock() as stopped:
        yield stopped


@pytest.fixture
def cached(clock: FrozenClock, shelves: sessionmaker[Session]) -> Iterator[Cache]:
    with memory_cache(shelves, regions=REGIONS) as cache:
        for model in (Novel, Magazine, Ticket):
            with shelves() as session:
                session.get(model, 1)
        yield cache


def read(shelves: sessionmaker[Session], model: type, key: int = 1) -> int:
    """Reads once, and says how much SQL that took."""
    with count_statements(shelves) as statements, shelves() as session:
        session.get(model, key)
    return len(statements)


def test_an_entry_ends_with_its_ttl(
    cached: Cache, clock: FrozenClock, shelves: sessionmaker[Session]
) -> None:
    """An hour later it is gone, a second less and it is there."""
    clock.advance(timedelta(hours=1) - timedelta(seconds=1))
    assert read(shelves, Novel) == 0
    clock.advance(1)
    assert read(shelves, Novel) == 1
    assert read(shelves, Novel) == 0


def test_a_row_that_says_when_it_ends(
    cached: Cache, clock: FrozenClock, shelves: sessionmaker[Session]
) -> None:
    """``expires_at="expires_at"`` goes by the same clock, and what has expired is not kept."""
    clock.advance(timedelta(minutes=29))
    assert read(shelves, Ticket) == 0
    clock.advance(timedelta(minutes=2))
    assert [read(shelves, Ticket) for _ in range(2)] == [1, 1]


def test_an_absence_ends(cached: Cache, clock: FrozenClock, shelves: sessionmaker[Session]) -> None:
    """After ``negative_ttl``, a minute."""
    assert [read(shelves, Novel, 99) for _ in range(2)] == [1, 0]
    clock.advance(61)
    assert read(shelves, Novel, 99) == 1


def test_a_refresh_ahead(cached: Cache, clock: FrozenClock, shelves: sessionmaker[Session]) -> None:
    """In the last ten minutes of its life one reader refreshes it."""
    clock.advance(timedelta(minutes=45))
    assert read(shelves, Magazine) == 0
    clock.advance(timedelta(minutes=10))
    with count_commands(cached) as commands:
        assert read(shelves, Magazine) == 1
    assert commands == {"mget": 1, "refresh": 1, "replace": 1}
    assert read(shelves, Magazine) == 0


def test_much_later_it_caches_as_before(
    cached: Cache, clock: FrozenClock, shelves: sessionmaker[Session]
) -> None:
    """However much time is let pass: no process has gone missing meanwhile."""
    clock.advance(timedelta(days=400))
    assert read(shelves, Novel) == 1
    with assert_served_from_cache(cached):
        read(shelves, Novel)


def test_it_stands_still_and_shows_the_time() -> None:
    """Where it began, plus what was let pass."""
    began = datetime(2030, 1, 1, tzinfo=UTC)
    with frozen_clock(began) as clock:
        assert clock.now == began
        clock.advance(timedelta(seconds=1.5))
        assert clock.now == began + timedelta(seconds=1.5)
        assert "2030-01-01T00:00:01.5" in repr(clock)


@pytest.mark.parametrize("wrong", [-1, timedelta(seconds=-1)])
def test_time_only_goes_on(clock: FrozenClock, wrong: float) -> None:
    """An entry would come back to life."""
    with pytest.raises(ArgumentError, match="give 0 or more"):
        clock.advance(wrong)


def test_a_naive_time_is_refused() -> None:
    """Nobody knows whose time it is."""
    with pytest.raises(ArgumentError, match="aware"), frozen_clock(datetime(2030, 1, 1)):  # noqa: DTZ001
        pass


def test_one_at_a_time(clock: FrozenClock) -> None:
    """Two would each be the time; and after the block it is the machine's again."""
    with pytest.raises(ConfigurationError, match="already"), frozen_clock():
        pass


def test_afterwards_it_is_the_machines(shelves: sessionmaker[Session]) -> None:
    """What was stored under a later clock has still its time to live."""
    with frozen_clock():
        pass
    with frozen_clock() as again:
        assert abs(again.now - datetime.now(UTC)) < timedelta(minutes=5)
