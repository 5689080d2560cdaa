"""A cache for one test: there within the block, and nothing of it afterwards."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache
from cachedorm.errors import CacheClosedError
from cachedorm.testing import (
    assert_served_from_cache,
    attached,
    count_statements,
    frozen_clock,
    memory_cache,
)
from tests.support.testing.shelf import Novel


def read(factory: sessionmaker[Session]) -> str:
    with factory() as session:
        novel = session.get(Novel, 1)
        assert novel is not None
        return novel.title


def test_served_within_the_block_and_not_after(shelves: sessionmaker[Session]) -> None:
    """The factory gets its own session class back, and no engine is followed any more."""
    before = shelves.class_
    with memory_cache(shelves) as cache:
        read(shelves)
        with assert_served_from_cache(cache):
            assert read(shelves) == "one"

    assert shelves.class_ is before
    assert cache.engines == []
    with count_statements(shelves) as statements:
        read(shelves)
    assert len(statements) == 1


def test_the_next_test_has_a_cache_of_its_own(shelves: sessionmaker[Session]) -> None:
    """What was attached to one can be attached to another, which knows none of its entries."""
    for _ in range(2):
        with memory_cache(shelves) as cache:
            read(shelves)
            assert cache.stats().hits.total() == 0


def test_an_error_in_the_block_leaves_nothing_attached(shelves: sessionmaker[Session]) -> None:
    """As after any other end."""
    before = shelves.class_
    with pytest.raises(ZeroDivisionError), memory_cache(shelves):
        raise ZeroDivisionError
    assert shelves.class_ is before


def test_an_engine_met_meanwhile_is_left_too(
    engine: Engine, shelves: sessionmaker[Session]
) -> None:
    """A factory that is not bound meets its engines as its sessions begin."""
    unbound: sessionmaker[Session] = sessionmaker()
    with Cache() as cache:
        with attached(cache, unbound), unbound(bind=engine) as session:
            session.get(Novel, 1)
            assert cache.engines == [engine]
        assert cache.engines == []


def test_an_engine_of_before_stays_followed(engine: Engine, shelves: sessionmaker[Session]) -> None:
    """What the block did not bring is not taken away."""
    with Cache() as cache:
        cache.attach(engine)
        with attached(cache, shelves):
            pass
        assert cache.engines == [engine]
        cache.detach(engine)


def test_it_is_closed(shelves: sessionmaker[Session]) -> None:
    """A cache of one test does not leak into the next."""
    with memory_cache(shelves) as cache:
        pass
    with pytest.raises(CacheClosedError):
        cache.invalidate(Novel, 1)


async def test_async_factories_too(shelves: sessionmaker[Session], async_database_url: str) -> None:
    """The same words, with await."""
    engine = create_async_engine(async_database_url)
    factory: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
    with frozen_clock(), memory_cache(factory) as cache:
        async with factory() as session:
            await session.get(Novel, 1)
        with assert_served_from_cache(cache):
            async with factory() as session:
                assert await session.get(Novel, 1) is not None
    with count_statements(factory) as statements:
        async with factory() as session:
            await session.get(Novel, 1)
    assert len(statements) == 1
    await engine.dispose()
