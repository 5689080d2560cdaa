"""Commands are counted by name, in memory as on Redis; SQL is too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache, Observer
from cachedorm.errors import ArgumentError
from cachedorm.testing import assert_served_from_cache, count_commands, count_statements
from tests.fixtures.logs import RedisLog
from tests.support.testing.shelf import Novel, novels_on


def use(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """A little of everything."""
    with shelves() as session:
        novel = session.get(Novel, 1)
        assert novel is not None
        session.scalars(novels_on(shelf="a")).all()
        novel.title += "!"
        session.commit()
    cache.invalidate_matching("novel:*")
    with shelves() as session:
        cache.get_many(session, Novel, [1, 2])


def test_a_miss_a_hit_and_a_commit(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """The budgets: a hit is one command, a commit two."""
    with count_commands(cache) as miss, shelves() as session:
        session.get(Novel, 1)
    with count_commands(cache) as hit, shelves() as session:
        session.get(Novel, 1)
    with count_commands(cache) as query, shelves() as session:
        session.scalars(novels_on(shelf="a")).all()
    with shelves() as session:
        session.add(Novel(id=3, title="three", shelf="b"))
        with count_commands(cache) as commit:
            session.commit()

    assert miss == {"mget": 1, "acquire": 1, "publish": 1}
    assert hit == {"mget": 1}
    assert query == miss
    assert commit == {"intend": 1, "settle": 1}
    assert commit.total() == 2


def test_only_the_block_is_counted(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """And the registry's upkeep apart, which is due when it is due."""
    with count_commands(cache) as counted, shelves() as session:
        session.get(Novel, 1)
        assert counted.total() == 3
    with shelves() as session:
        session.get(Novel, 1)
    assert counted.total() == 3
    assert set(counted.upkeep) <= {"register", "look"}


def test_by_hand(cache: Cache, shelves: sessionmaker[Session]) -> None:
    """Invalidation by hand is a settle; a whole region is one command."""
    with count_commands(cache) as one:
        cache.invalidate(Novel, 1)
    with count_commands(cache) as region:
        cache.region("kit shelf").clear()
    assert (one, region) == ({"settle": 1}, {"clear": 1})


@pytest.mark.parametrize("cache", ["redis"], indirect=True)
def test_as_the_server_says(
    cache: Cache, shelves: sessionmaker[Session], redis_log: RedisLog
) -> None:
    """What is counted is what Redis has run, in number and by name."""
    use(cache, shelves)  # by now the server has been taught the scripts
    redis_log.clear()
    with count_commands(cache) as counted:
        use(cache, shelves)

    assert counted == Counter(redis_log.names())
    assert {"mget", "acquire", "publish", "intend", "settle", "scan"} <= set(counted)


def test_an_observer_may_be_told_for_good(shelves: sessionmaker[Session]) -> None:
    """One that overrides ``command`` and is given to the Cache hears of each."""

    class Names(Observer):
        def __init__(self) -> None:
            self.seen: list[tuple[int, str]] = []

        def command(self, db: int, name: str) -> None:
            self.seen.append((db, name))

    names = Names()
    with Cache(observers=[names]) as cache:
        cache.attach(shelves)
        with shelves() as session:
            session.get(Novel, 1)
        cache.detach(shelves)
        for engine in cache.engines:
            cache.detach(engine)
    assert names.seen == [(2, "mget"), (2, "acquire"), (2, "publish")]


def test_statements_of_a_factory_or_an_engine(
    engine: Engine, shelves: sessionmaker[Session]
) -> None:
    """Their texts, in order; BEGIN and COMMIT are none."""
    with count_statements(shelves) as statements, shelves() as session:
        session.execute(text("select 1"))
        session.commit()
    with count_statements(engine) as more, engine.begin() as connection:
        connection.execute(text("select 2"))
        connection.execute(text("select 3"))
    with engine.begin() as connection:
        connection.execute(text("select 4"))
    assert statements == ["select 1"]
    assert more == ["select 2", "select 3"]


def test_statements_of_something_else() -> None:
    """Said, not ignored."""
    with pytest.raises(ArgumentError, match="give a sessionmaker"), count_statements("engine"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ArgumentError, match="factories to count"), count_statements():
        pass


def test_statements_of_a_factory_without_an_engine(
    engine: Engine, shelves: sessionmaker[Session]
) -> None:
    """None would ever be seen: a budget of no SQL would hold whatever the code does."""
    with engine.connect() as connection:
        for unbound in (sessionmaker(), sessionmaker(connection)):
            with pytest.raises(ArgumentError, match="give the engine"), count_statements(unbound):
                pass
        with count_statements(engine) as statements, sessionmaker(connection)() as session:
            session.get(Novel, 1)
    assert len(statements) == 1


@pytest.mark.parametrize("watch", [count_commands, assert_served_from_cache])
def test_of_something_that_is_no_cache(
    watch: Callable[[Any], AbstractContextManager[object]], shelves: sessionmaker[Session]
) -> None:
    """The factory, say, which is what the other helpers take."""
    with pytest.raises(ArgumentError, match=rf"{watch.__name__}\(sessionmaker.*give a Cache"):
        watch(shelves).__enter__()
