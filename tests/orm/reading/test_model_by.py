"""Model.by: a statement that is served where a Cache is attached, and plain SQL elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Select, bindparam
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, load_only, sessionmaker

from cachedorm.errors import ArgumentError
from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.library import Animal, Author, Book, Diary, Dog, Note, Place, Shelf

Sessions = sessionmaker[Session]


@pytest.fixture
def warm(stocked: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> Sessions:
    """The served factory, with the place and two books cached."""
    with stocked() as session:
        session.scalars(Place.by(code="p")).one()
        session.scalars(Place.by(code="none")).all()
        session.get(Book, 1)
    redis_log.clear()
    sql_log.clear()
    return stocked


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Place.by(), r"Place.by\(\) must name exactly the fields of its key 'place:{code}': "),
    (lambda: Place.by(id=1), r"Place.by\(id\) must name exactly the fields .*: code"),
    (lambda: Place.by(code="p", id=1), r"Place.by\(code, id\) must name exactly"),
    (
        lambda: Place.by(code=None),
        r"Place.by\(code=None\): a key is never null; .* select\(Place\)",
    ),
    (lambda: Shelf.by(room="r"), "must name exactly the fields of its key .*: row, room"),
    (lambda: Note.by(id=1), r"Note.by\(id\): its __cache__ has no key; give the policy one"),
]


@pytest.mark.parametrize(("call", "says"), WRONG)
def test_wrong_key(call: Callable[[], object], says: str) -> None:
    """by takes exactly the key's fields, by keyword, none of them None."""
    with pytest.raises(ArgumentError, match=says):
        call()
    with pytest.raises(TypeError):
        call()


def test_uncached_class() -> None:
    """A class without a policy has no by."""
    assert not hasattr(Diary, "by")


READS: dict[str, Callable[[Session, Select[Any]], object]] = {
    "scalars": lambda s, q: [p.id for p in s.scalars(q)],
    "scalars.all": lambda s, q: [p.id for p in s.scalars(q).all()],
    "scalar": lambda s, q: getattr(s.scalar(q), "id", None),
    "first": lambda s, q: [p.id for p in s.execute(q).first() or ()],
    "one_or_none": lambda s, q: [p.id for p in s.execute(q).one_or_none() or ()],
    "scalar_one_or_none": lambda s, q: getattr(s.execute(q).scalar_one_or_none(), "id", None),
    "unique": lambda s, q: [p.id for p in s.execute(q).unique().scalars()],
    "partitions": lambda s, q: [[r[0].id for r in part] for part in s.execute(q).partitions(5)],
    "mappings": lambda s, q: [{k: v.id for k, v in m.items()} for m in s.execute(q).mappings()],
    "all": lambda s, q: [row[0].id for row in s.execute(q).all()],
    "row by name": lambda s, q: [row.Place.id for row in s.execute(q)],
    "row by class": lambda s, q: [row._mapping[Place].id for row in s.execute(q)],
    "row as tuple": lambda s, q: [len(row) for row in s.execute(q)],
    "keys": lambda s, q: list(s.execute(q).keys()),
    "columns": lambda s, q: [row[0].id for row in s.execute(q).columns(0)],
    "freeze": lambda s, q: [row[0].id for row in s.execute(q).freeze()()],
    "fetchmany": lambda s, q: [row[0].id for row in s.execute(q).fetchmany(3)],
    "query": lambda s, q: [p.id for p in s.execute(q).scalars().fetchmany(3)],
}


@pytest.mark.parametrize("code", ["p", "none"])
@pytest.mark.parametrize("how", READS)
def test_same_answer(warm: Sessions, plain: Sessions, sql_log: SqlLog, how: str, code: str) -> None:
    """Every way to read the result gives from the cache what it gives from the database."""
    with warm() as session:
        cached = READS[how](session, Place.by(code=code))
    assert sql_log == []
    with plain() as session:
        assert READS[how](session, Place.by(code=code)) == cached
    assert len(sql_log) == 1


def test_one(warm: Sessions) -> None:
    """one() of a missing row raises as SQLAlchemy's."""
    with warm() as session:
        assert session.execute(Place.by(code="p")).scalar_one().title == "here"
        with pytest.raises(Exception, match="No row was found when one was required"):
            session.execute(Place.by(code="none")).one()


CHANGES: dict[str, Callable[[Select[Any]], Select[Any]]] = {
    "where": lambda q: q.where(Place.title == "elsewhere"),
    "limit": lambda q: q.limit(0),
    "for update": lambda q: q.with_for_update(),
    "options": lambda q: q.options(load_only(Place.id)),
    "execution options": lambda q: q.execution_options(populate_existing=True),
    "order": lambda q: q.order_by(Place.id),
    "columns": lambda q: q.with_only_columns(Place.title),
}


@pytest.mark.parametrize("how", CHANGES)
def test_changed_afterwards(
    warm: Sessions, plain: Sessions, redis_log: RedisLog, sql_log: SqlLog, how: str
) -> None:
    """A statement that was changed after the call is plain SQL."""
    with warm() as session:
        found = session.scalars(CHANGES[how](Place.by(code="p"))).all()
        assert len(found) == (0 if how in ("where", "limit") else 1)
    assert redis_log == []
    assert len(sql_log) == 1


def test_executed_with_parameters(warm: Sessions, redis_log: RedisLog) -> None:
    """A statement with a parameter still to come is plain SQL, with that parameter."""
    with warm() as session:
        statement = Place.by(code=bindparam("wanted"))
        assert session.scalars(statement, {"wanted": "p"}).one().id == 1
        assert session.scalars(Place.by(code="p"), {"code": "none"}).all() == []
    assert redis_log == []


@pytest.mark.parametrize(
    "options", [{"populate_existing": True}, {"yield_per": 5}, {"stream_results": True}]
)
def test_executed_with_options(
    warm: Sessions, redis_log: RedisLog, options: dict[str, Any]
) -> None:
    """An execution that asks for more than the row is plain SQL."""
    with warm() as session:
        assert len(session.scalars(Place.by(code="p"), execution_options=options).all()) == 1
    assert redis_log == []


def test_sent_to_another_bind(warm: Sessions, redis_log: RedisLog) -> None:
    """An execution that names its own bind goes there."""
    with warm() as session:
        there = {"bind": session.get_bind()}
        assert len(session.scalars(Place.by(code="p"), bind_arguments=there).all()) == 1
    assert redis_log == []


def test_kept_statement(warm: Sessions, sql_log: SqlLog) -> None:
    """One statement may be executed again and again, by any session."""
    statement = Place.by(code="p")
    for _ in range(3):
        with warm() as session:
            assert session.scalars(statement).one().title == "here"
    assert sql_log == []


def test_autoflush_comes_first(warm: Sessions) -> None:
    """What the session has not flushed yet is part of the answer."""
    with warm() as session:
        session.add(Place(id=7, code="new"))
        assert session.scalars(Place.by(code="new")).one().id == 7
        session.rollback()
    with warm() as session:
        session.scalars(Place.by(code="p")).one().code = "q"
        assert session.scalars(Place.by(code="p")).all() == []
        assert session.scalars(Place.by(code="q")).one().id == 1


def test_own_object_wins(warm: Sessions, redis_log: RedisLog) -> None:
    """A row whose object the session holds is that object, unchanged."""
    with warm() as session:
        place = session.scalars(Place.by(code="p")).one()
        assert session.scalars(Place.by(code="p")).one() is place
        assert session.get(Place, 1) is place


def test_of_a_subclass(stocked: Sessions) -> None:
    """by of a subclass finds rows of that class alone."""
    with stocked() as session:
        session.add(Dog(id=1, name="Rex", tricks=3))
        session.add(Animal(id=2, name="Thing"))
        session.commit()
    for _ in range(2):
        with stocked() as session:
            assert session.scalars(Dog.by(id=1)).one().tricks == 3
            assert session.scalars(Dog.by(id=2)).all() == []
            assert type(session.scalars(Animal.by(id=1)).one()) is Dog


async def test_async(async_sessions: async_sessionmaker[AsyncSession], sql_log: SqlLog) -> None:
    """An async session serves the same statement; a stream is plain SQL."""
    for _ in range(2):
        sql_log.clear()
        async with async_sessions() as session:
            assert (await session.scalars(Place.by(code="p"))).one().title == "here"
            assert await session.scalar(Author.by(id=9)) is None
    assert sql_log == []
    async with async_sessions() as session:
        streamed = await session.stream_scalars(Place.by(code="p"))
        assert [place.id async for place in streamed] == [1]
    assert len(sql_log) == 1
