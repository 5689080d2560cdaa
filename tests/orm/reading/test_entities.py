"""session.get from the cache: what a hit and a miss cost, and what goes past the cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    load_only,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from cachedorm import Cache, Cached, CachePolicy
from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.library import SHELF, Author, Book, Cat, Dog, Place, Shelf, Token

Sessions = sessionmaker[Session]


def warm(sessions: Sessions, class_: type, ident: Any) -> None:
    """Have the row cached."""
    with sessions() as session:
        session.get(class_, ident)


def test_hit_is_one_command(stocked: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """A hit is one Redis command: no SQL, no connection checked out, no transaction."""
    warm(stocked, Book, 1)
    redis_log.clear()
    sql_log.clear()
    with stocked() as session:
        book = session.get(Book, 1)
        assert book is not None
        assert (book.title, book.author_id, book.notes) == ("one", 1, {"a": [1]})
        assert not session.in_transaction()
    assert redis_log == ["mget"]
    assert sql_log == []
    assert (sql_log.checkouts, sql_log.begins) == (0, 0)


def test_miss_is_three_commands(stocked: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """A miss is three Redis commands and one query."""
    warm(stocked, Book, 2)  # the script cache of Redis is warm
    redis_log.clear()
    sql_log.clear()
    warm(stocked, Book, 1)
    assert redis_log == ["mget", "acquire", "publish"]
    assert len(sql_log) == 1


async def test_async_hit(
    async_sessions: async_sessionmaker[AsyncSession], redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """An async hit costs what a sync one costs, and gives a live object."""
    async with async_sessions() as session:
        await session.get(Book, 1)
    async with async_sessions() as session:
        await session.get(Book, 2)  # the second line of the wire is open
    redis_log.clear()
    sql_log.clear()
    async with async_sessions() as session:
        book = await session.get(Book, 1)
        assert book is not None
        assert book.title == "one"
        assert not session.in_transaction()
    assert redis_log == ["mget"]
    assert sql_log == []
    assert sql_log.checkouts == 0


def test_no_row_is_remembered(stocked: Sessions, sql_log: SqlLog) -> None:
    """A row that is not there is asked for once."""
    warm(stocked, Book, 9)
    sql_log.clear()
    with stocked() as session:
        assert session.get(Book, 9) is None
    assert sql_log == []


def test_insert_ends_no_row(stocked: Sessions) -> None:
    """An insert ends the memory of the missing row at once."""
    warm(stocked, Book, 9)
    with stocked() as session:
        session.add(Book(id=9, title="nine"))
        session.commit()
    with stocked() as session:
        found = session.get(Book, 9)
        assert found is not None
        assert found.title == "nine"


def test_first_read_of_a_process(engine: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A class whose mappers nobody has configured yet is served from its first read."""

    class Own(DeclarativeBase):
        pass

    class Lone(Cached, Own):
        __tablename__ = "lone"
        __cache__ = CachePolicy(SHELF, key="lone:{id}")
        id: Mapped[int] = mapped_column(primary_key=True)

    factory = sessionmaker(engine)
    cache.attach(factory)
    Own.metadata.create_all(engine)
    with factory() as session:
        assert session.get(Lone, 1) is None
    assert "acquire" in redis_log.names()


def test_object_of_the_session(stocked: Sessions, redis_log: RedisLog) -> None:
    """An object that the session holds is returned as it is; Redis is not asked."""
    with stocked() as session:
        book = session.get(Book, 1)
        redis_log.clear()
        assert session.get(Book, 1) is book
        assert redis_log == []


def test_own_change_is_kept(stocked: Sessions) -> None:
    """What the session changed and did not flush is what get returns."""
    with stocked() as session:
        book = session.get(Book, 1)
        assert book is not None
        book.title = "mine"
        again = session.get(Book, 1)
        assert again is book
        assert again.title == "mine"


PAST: list[tuple[str, dict[str, Any]]] = [
    ("options", {"options": [load_only(Book.title)]}),
    ("populate_existing", {"populate_existing": True}),
    ("for update", {"with_for_update": True}),
    ("for update by {}", {"with_for_update": {}}),
    ("identity token", {"identity_token": 0}),
    ("execution options", {"execution_options": {"x": 1}}),
]


@pytest.mark.parametrize(("what", "options"), PAST, ids=[what for what, _ in PAST])
def test_more_than_a_row(
    stocked: Sessions, redis_log: RedisLog, what: str, options: dict[str, Any]
) -> None:
    """A get that asks for more than the row is SQLAlchemy's alone."""
    warm(stocked, Book, 1)
    redis_log.clear()
    with stocked() as session:
        found = session.get(Book, 1, **options)
        assert found is not None
        assert found.title == "one"
    assert redis_log == []


def test_for_update_locks(stocked: Sessions, sql_log: SqlLog) -> None:
    """A get FOR UPDATE sends its lock to the database although the row is cached."""
    warm(stocked, Book, 1)
    sql_log.clear()
    with stocked() as session:
        session.get(Book, 1, with_for_update={})
        assert "FOR UPDATE" in sql_log.statements[0]


@pytest.mark.parametrize("ident", [{"id": 1}, [1], "1", 1.0])
def test_other_ways_to_name_a_row(stocked: Sessions, redis_log: RedisLog, ident: Any) -> None:
    """An identity of another type is the database's to compare."""
    warm(stocked, Book, 1)
    redis_log.clear()
    with stocked() as session:
        try:
            found = session.get(Book, ident)
        except Exception:
            found = None  # PostgreSQL may refuse to compare them, as it would without a cache
        assert found is None or found.id == 1
    assert redis_log == []


def test_wrong_number_of_keys(stocked: Sessions) -> None:
    """Too many key values are SQLAlchemy's own error."""
    with stocked() as session, pytest.raises(InvalidRequestError, match="Incorrect number"):
        session.get(Book, (1, 2))


def test_composite_key_in_table_order(stocked: Sessions, sql_log: SqlLog) -> None:
    """A primary key comes in the mapper's order, whatever the order of the template."""
    with stocked() as session:
        session.add(Shelf(room="r", row=7, label="s"))
        session.commit()
    for _ in range(2):
        sql_log.clear()
        with stocked() as session:
            shelf = session.get(Shelf, ("r", 7))
            assert shelf is not None
            assert (shelf.room, shelf.row, shelf.label) == ("r", 7, "s")
    assert sql_log == []


def test_key_that_is_not_primary(stocked: Sessions, cache: Cache) -> None:
    """get of a model cached by another key is plain SQL, and counted."""
    with stocked() as session:
        place = session.get(Place, 1)
        assert place is not None
        assert place.code == "p"
    assert cache.stats().bypasses["desk", "key is not the primary key"] == 1


def test_missing_subclass_row(stocked: Sessions) -> None:
    """A row of another class of the hierarchy is none, cached or not."""
    with stocked() as session:
        session.add(Dog(id=1, name="Rex"))
        session.commit()
    for _ in range(2):
        with stocked() as session:
            assert session.get(Cat, 1) is None
            assert isinstance(session.get(Dog, 1), Dog)


def test_session_without_autobegin(stocked: Sessions, plain: Sessions) -> None:
    """A session that has not begun refuses, cached row or not."""
    warm(stocked, Book, 1)
    for factory in (stocked, plain):
        with factory(autobegin=False) as session:
            with pytest.raises(InvalidRequestError, match="Autobegin is disabled"):
                session.get(Book, 1)
            session.begin()
            assert session.get(Book, 1) is not None


def test_session_closed_for_good(stocked: Sessions, plain: Sessions) -> None:
    """A session that was closed for good refuses, cached row or not."""
    warm(stocked, Book, 1)
    for factory in (stocked, plain):
        session = factory(close_resets_only=False)
        session.close()
        with pytest.raises(InvalidRequestError, match="permanently closed"):
            session.get(Book, 1)


def test_session_to_be_rolled_back(stocked: Sessions) -> None:
    """After a failed flush the session refuses until it is rolled back."""
    warm(stocked, Book, 1)
    with stocked() as session:
        session.add(Book(id=2, title="twice"))
        with pytest.raises(Exception, match="duplicate key"):
            session.flush()
        with pytest.raises(PendingRollbackError):
            session.get(Book, 1)
        session.rollback()
        assert session.get(Book, 1) is not None


def test_session_reused_after_close(stocked: Sessions, redis_log: RedisLog) -> None:
    """A closed session begins anew, as SQLAlchemy's does."""
    warm(stocked, Book, 1)
    session = stocked()
    first = session.get(Book, 1)
    session.close()
    redis_log.clear()
    second = session.get(Book, 1)
    assert second is not first
    assert redis_log == ["mget"]
    session.close()


def test_closed_cache(stocked: Sessions, cache: Cache) -> None:
    """Sessions of a closed Cache read the database; new ones know nothing of the Cache."""
    with stocked() as session:
        cache.close()
        assert session.get(Book, 1) is not None
        assert session.scalars(Place.by(code="a")).all() is not None
    assert cache.stats().bypasses == {("shelf", "closed"): 1, ("desk", "closed"): 1}
    with stocked() as session:
        assert session.get(Book, 1) is not None
    assert cache.stats().bypasses.total() == 2


def test_scoped_session(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A scoped_session is attached through its factory."""
    scoped = scoped_session(sessionmaker(library))
    cache.attach(scoped)
    scoped.get(Book, 1)
    scoped.remove()
    redis_log.clear()
    assert scoped.get(Book, 1) is None
    assert redis_log == ["mget"]
    scoped.remove()


async def test_async_scoped_session(
    async_sessions: async_sessionmaker[AsyncSession], redis_log: RedisLog
) -> None:
    """An async_scoped_session over an attached factory is served."""
    scoped = async_scoped_session(async_sessions, scopefunc=lambda: 1)
    assert await scoped.get(Book, 1) is not None
    await scoped.remove()
    redis_log.clear()
    assert await scoped.get(Book, 1) is not None
    assert redis_log == ["mget"]
    await scoped.remove()


def test_own_session_class(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A session class with a get of its own keeps its say, and is served beneath it."""
    asked: list[Any] = []

    class Own(Session):
        def get(self, entity: Any, ident: Any, **options: Any) -> Any:
            asked.append(ident)
            return super().get(entity, ident, **options)

    factory = sessionmaker(library, class_=Own)
    cache.attach(factory)
    for _ in range(2):
        redis_log.clear()
        with factory() as session:
            assert session.get(Book, 1) is None
    assert asked == [1, 1]
    assert redis_log == ["mget"]


def test_get_one(stocked: Sessions, redis_log: RedisLog) -> None:
    """get_one is served as get is."""
    warm(stocked, Author, 1)
    redis_log.clear()
    with stocked() as session:
        assert session.get_one(Author, 1).name == "Kim"
    assert redis_log == ["mget"]


def test_merge_reads_from_the_cache(stocked: Sessions, sql_log: SqlLog) -> None:
    """merge finds the persistent row in the cache and writes the difference."""
    warm(stocked, Author, 1)
    with stocked() as session:
        session.merge(Author(id=1, name="Lee"))
        session.commit()
    with stocked() as session:
        assert session.get_one(Author, 1).name == "Lee"


def test_engine_met_by_a_session(library: Engine, cache: Cache, redis_log: RedisLog) -> None:
    """A session bound at its making is served once its engine has been met."""
    factory: Sessions = sessionmaker()
    cache.attach(factory)
    for _ in range(2):
        with factory(bind=library) as session:
            session.get(Book, 1)
    redis_log.clear()
    with factory(bind=library) as session:
        assert session.get(Book, 1) is None
    assert redis_log == ["mget"]


def test_first_transaction_is_left_alone(stocked: Sessions, library: Engine) -> None:
    """What the library asks a new connection does not count as its transaction's first query."""
    library.dispose()
    with stocked() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        assert session.scalar(text("SHOW transaction_isolation")) == "serializable"


def test_detached_factory(stocked: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """Detach gives the factory its session class back."""
    warm(stocked, Book, 1)
    cache.detach(stocked)
    redis_log.clear()
    with stocked() as session:
        assert session.get(Book, 1) is not None
    assert redis_log == []


def test_row_that_has_ended(stocked: Sessions, cache: Cache, sql_log: SqlLog) -> None:
    """A row whose own time is over, or does not say, is never stored; nobody is troubled by it."""
    ended = datetime.now(UTC) - timedelta(seconds=5)
    with stocked() as session:
        session.add(Token(id="t", owner="kim", expires_at=ended))
        session.commit()
    for _ in range(2):
        sql_log.clear()
        with stocked() as session:
            assert session.get_one(Token, "t").owner == "kim"
        assert len(sql_log) == 1
    assert not cache.stats().errors


def test_row_with_its_own_end(stocked: Sessions, redis_client: Redis) -> None:
    """A row is stored no longer than it says."""
    ends = datetime.now(UTC) + timedelta(seconds=30)
    with stocked() as session:
        session.add(Token(id="t", owner="kim", expires_at=ends))
        session.commit()
    redis_client.select(2)
    redis_client.delete("token:t")
    warm(stocked, Token, "t")
    assert 20_000 < redis_client.pttl("token:t") <= 30_000
