"""Statements that ask for rows by their primary keys: which are served, and what they answer.

``select(Model).where(Model.id.in_(...))``, and the many-to-one side of ``selectinload``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    Select,
    bindparam,
    delete,
    event,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    Session,
    aliased,
    defer,
    immediateload,
    joinedload,
    load_only,
    raiseload,
    selectinload,
    sessionmaker,
    with_loader_criteria,
)

from cachedorm import Cache
from tests.fixtures.logs import RedisLog, SqlLog
from tests.support.orm.library import Animal, Author, Book, Cat, Diary, Dog, Place, Shelf

Sessions = sessionmaker[Session]


@pytest.fixture
def filled(sessions: Sessions) -> Sessions:
    """Five authors with two books each, and a book of nobody's; none of them is cached."""
    with sessions() as session:
        session.add_all(Author(id=number, name=f"author {number}") for number in range(5))
        session.flush()
        session.add_all(
            Book(id=number, title=f"book {number}", author_id=number % 5) for number in range(10)
        )
        session.add(Book(id=10, title="nobody's"))
        session.commit()
    return sessions


@pytest.fixture
def warm(filled: Sessions, cache: Cache, redis_log: RedisLog, sql_log: SqlLog) -> Sessions:
    """The same, with every author and book cached."""
    with filled() as session:
        cache.get_many(session, Author, range(5))
        cache.get_many(session, Book, range(11))
    redis_log.clear()
    sql_log.clear()
    return filled


def authors(*keys: Any) -> Select[Author]:
    return select(Author).where(Author.id.in_(keys))


def _know_the_scripts(sessions: Sessions) -> None:
    """A server that has never seen a script is sent it once more, as a whole."""
    with sessions() as session:
        session.get(Book, 10)


def names(found: Any) -> list[str]:
    return sorted(each.name for each in found)


# --- IN on the primary key


def test_a_hit_is_one_command(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """However many keys: one MGET, no SQL, no connection, each row once."""
    with warm() as session:
        found = session.scalars(authors(3, 1, 3, 1)).all()

        assert names(found) == ["author 1", "author 3"]
        assert all(each in session for each in found)
    assert redis_log == ["mget"]
    assert (sql_log.statements, sql_log.checkouts) == ([], 0)


def test_a_miss_is_one_select_for_the_rest(
    filled: Sessions, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """Leased and published in one pipeline each; and then all are hits."""
    _know_the_scripts(filled)
    redis_log.clear()
    sql_log.clear()
    with filled() as session:
        session.scalars(authors(0, 1)).all()
    assert redis_log == ["mget", *["acquire"] * 2, *["publish"] * 2]
    assert len(sql_log) == 1
    redis_log.clear()
    sql_log.clear()

    with filled() as session:
        assert len(session.scalars(authors(*range(5))).all()) == 5

    # The second read says that the first one's hits still stood after the SELECT.
    assert redis_log == ["mget", *["acquire"] * 3, *["publish"] * 3, "mget"]
    assert len(sql_log) == 1
    redis_log.clear()
    with filled() as session:
        assert len(session.scalars(authors(*range(5))).all()) == 5
    assert redis_log == ["mget"]


def test_rows_that_are_not_there(filled: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """They are left out, remembered, and found when they come to be; NULL equals nothing."""
    for _ in range(2):
        sql_log.clear()
        with filled() as session:
            assert names(session.scalars(authors(1, 77, None))) == ["author 1"]
    assert sql_log == []
    with filled() as session:
        session.add(Author(id=77, name="new"))
        session.commit()
    with filled() as session:
        assert names(session.scalars(authors(1, 77))) == ["author 1", "new"]


def test_no_keys(warm: Sessions, sql_log: SqlLog, redis_log: RedisLog) -> None:
    """Nothing is asked for, of neither server, and nothing is found."""
    with warm() as session:
        redis_log.clear()
        assert session.scalars(authors()).all() == []
        assert redis_log == []
    assert sql_log == []


def test_the_result_is_sqlalchemys(warm: Sessions) -> None:
    """Rows, scalars, one, first, mappings: as for any SELECT of an entity."""
    with warm() as session:
        row = session.execute(authors(1)).one()
        assert row.Author is row[0]
        assert session.scalar(authors(1)) is row.Author
        assert session.execute(authors(1)).mappings().one()["Author"] is row.Author
        assert session.execute(authors(1)).first() == row
        assert session.scalars(authors(99)).one_or_none() is None


def test_the_same_statement_again(warm: Sessions, sql_log: SqlLog) -> None:
    """Kept, executed before as SQL or compiled, it is served all the same."""
    statement = authors(1, 2)
    with warm() as session, session.no_autoflush:
        session.execute(update(Author).where(Author.id == 4).values(name="4"))
        session.scalars(statement).all()  # plain: the transaction has written
        str(statement.compile(session.get_bind()))
        session.rollback()
    sql_log.clear()
    with warm() as session:
        assert names(session.scalars(statement)) == ["author 1", "author 2"]
    assert sql_log == []


def test_values_that_the_execution_gives(warm: Sessions, sql_log: SqlLog) -> None:
    """A bound list."""
    statement = select(Author).where(Author.id.in_(bindparam("ids", expanding=True)))
    with warm() as session:
        assert names(session.scalars(statement, {"ids": [1, 4]})) == ["author 1", "author 4"]
    assert sql_log == []


def test_keys_of_several_columns(sessions: Sessions, sql_log: SqlLog) -> None:
    """Tuples, in the primary key's order."""
    with sessions() as session:
        session.add_all(Shelf(room=room, row=row) for room in "ab" for row in (1, 2))
        session.commit()
    statement = select(Shelf).where(tuple_(Shelf.room, Shelf.row).in_([("a", 2), ("b", 1)]))
    for _ in range(2):
        sql_log.clear()
        with sessions() as session:
            found = {(each.room, each.row) for each in session.scalars(statement)}
            assert found == {("a", 2), ("b", 1)}
    assert sql_log == []


def test_subclasses(sessions: Sessions, sql_log: SqlLog) -> None:
    """Rows come as their own class; a subclass's statement gives no other's."""
    with sessions() as session:
        session.add_all([Animal(id=1, name="a"), Dog(id=2, name="d"), Cat(id=3, name="c")])
        session.commit()
    for _ in range(2):
        sql_log.clear()
        with sessions() as session:
            found = session.scalars(select(Animal).where(Animal.id.in_([1, 2, 3]))).all()
            assert sorted(type(each).__name__ for each in found) == ["Animal", "Cat", "Dog"]
        for class_ in (Dog, Cat):
            with sessions() as session:
                (only,) = session.scalars(select(class_).where(class_.id.in_([1, 2, 3])))
                assert type(only) is class_
    assert sql_log == []


def test_the_sessions_own_objects(warm: Sessions) -> None:
    """They stay as they are; what was expired is filled; the row that is gone is not found."""
    with warm() as session:
        held, gone, expired = (session.get_one(Author, number) for number in (1, 2, 3))
        session.expire(expired)
        with warm() as other:
            other.execute(delete(Book).where(Book.author_id == 2))
            other.execute(delete(Author).where(Author.id == 2))
            other.get_one(Author, 1).name = "renamed"
            other.commit()
        found = session.scalars(authors(1, 2, 3)).all()
        assert set(found) == {held, expired}
        assert gone not in found
        assert held.name == "author 1"  # as SQLAlchemy leaves what is loaded
        assert expired.__dict__["name"] == "author 3"


async def test_from_coroutines(
    filled: Sessions, async_sessions: async_sessionmaker[AsyncSession], sql_log: SqlLog
) -> None:
    """The same for an AsyncSession."""
    for _ in range(2):
        sql_log.clear()
        async with async_sessions() as session:
            assert len((await session.scalars(authors(2, 3))).all()) == 2
    assert sql_log == []


@pytest.fixture
def stocked(filled: Sessions) -> Sessions:
    """What ``async_sessions`` is made over."""
    return filled


# --- what is plain SQL

PLAIN: dict[str, Callable[[], Any]] = {
    "order": lambda: authors(1, 2).order_by(Author.name),
    "limit": lambda: authors(1, 2).limit(1),
    "offset": lambda: authors(1, 2).offset(1),
    "distinct": lambda: authors(1, 2).distinct(),
    "lock": lambda: authors(1, 2).with_for_update(),
    "group": lambda: authors(1, 2).group_by(Author.id),
    "more criteria": lambda: authors(1, 2).where(Author.name != "x"),
    "or": lambda: select(Author).where(Author.id.in_([1]) | Author.id.in_([2])),
    "not in": lambda: select(Author).where(Author.id.not_in([1, 2])),
    "join": lambda: authors(1, 2).join(Book, Book.author_id == Author.id),
    "from": lambda: authors(1, 2).select_from(Author, Diary),
    "hint": lambda: authors(1, 2).with_hint(Author, "x", "oracle"),
    "prefix": lambda: authors(1, 2).prefix_with("/* x */"),
    "suffix": lambda: authors(1, 2).suffix_with("/* x */"),
    "columns": lambda: select(Author.id, Author.name).where(Author.id.in_([1, 2])),
    "entity and column": lambda: select(Author, Author.name).where(Author.id.in_([1, 2])),
    "column and entity": lambda: select(Author.id, Author).where(Author.id.in_([1, 2])),
    "count": lambda: select(func.count()).where(Author.id.in_([1, 2])),
    "table": lambda: select(Author.__table__).where(Author.id.in_([1, 2])),
    "alias": lambda: select(aliased(Author, name="a")),
    "another column": lambda: select(Author).where(Author.name.in_(["author 1"])),
    "another class's key": lambda: select(Author).where(Book.id.in_([1])),
    "expression": lambda: select(Author).where((Author.id + 0).in_([1, 2])),
    "subquery": lambda: select(Author).where(Author.id.in_(select(Book.author_id))),
    "literals": lambda: select(Author).where(Author.id.in_([literal_column("1")])),
    "loader option": lambda: authors(1).options(load_only(Author.id)),
    "eager option": lambda: select(Book).where(Book.id.in_([1])).options(joinedload(Book.author)),
    "criteria": lambda: authors(1).options(with_loader_criteria(Author, Author.id > 1)),
    "populate": lambda: authors(1).execution_options(populate_existing=True),
    "unknown option": lambda: authors(1).execution_options(my_option=1),
    "yield": lambda: authors(1).execution_options(yield_per=1),
    "identity token": lambda: authors(1).execution_options(identity_token=None, x=1),
    "another key's type": lambda: authors("1"),
    "natural key": lambda: select(Place).where(Place.id.in_([1])),
    "not cached": lambda: select(Diary).where(Diary.id.in_([1])),
}  # fmt: skip


def test_plain_sql(warm: Sessions, plain: Sessions, redis_log: RedisLog) -> None:
    """A statement that asks for anything else is SQLAlchemy's, and Redis is not asked."""
    for kind, made in PLAIN.items():
        statement = made()
        with plain() as session:
            expected = _answer(session, statement)
        redis_log.clear()
        with warm() as session:
            assert _answer(session, statement) == expected, kind
        assert redis_log == [], kind


def _answer(session: Session, statement: Select[Any]) -> Any:
    try:
        return sorted(map(repr, map(_plain, session.execute(statement).all())))
    except Exception as error:
        return type(error)


def _plain(row: Any) -> list[Any]:
    return [getattr(each, "id", each) for each in row]


def test_query_is_plain_sql(warm: Sessions, redis_log: RedisLog) -> None:
    """The legacy Query wants results of its own kind."""
    with warm() as session:
        found = session.query(Author).filter(Author.id.in_([1, 2])).all()
        assert names(found) == ["author 1", "author 2"]
    assert redis_log == []


def test_more_keys_than_one_read_takes(warm: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """Several reads of the cache are of several moments; one SELECT is not."""
    with warm() as session:
        assert len(session.scalars(authors(*range(501))).all()) == 5
    assert redis_log == []
    assert cache.stats().bypasses["shelf", "more keys than one read takes"] == 1


def test_own_writes(warm: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """What is not flushed is flushed first, and seen."""
    with warm() as session:
        session.get_one(Author, 1).name = "mine"
        redis_log.clear()
        assert names(session.scalars(authors(1, 2))) == ["author 2", "mine"]
    assert redis_log == []
    assert cache.stats().bypasses["shelf", "own writes"] == 1


def test_without_autoflush(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """An execution without autoflush flushes nothing, and is plain SQL for what is pending."""
    with warm() as session:
        session.get_one(Author, 1).name = "mine"
        redis_log.clear()
        found = session.scalars(authors(1), execution_options={"autoflush": False}).one()
        assert found.name == "mine"
        assert len(sql_log) == 1
    assert redis_log == []


def test_isolation(warm: Sessions, cache: Cache, library: Engine, redis_log: RedisLog) -> None:
    """A snapshot is the database's to keep."""
    with warm(bind=library.execution_options(isolation_level="REPEATABLE READ")) as session:
        assert names(session.scalars(authors(1))) == ["author 1"]
    assert redis_log == []
    assert cache.stats().bypasses["shelf", "isolation level"] == 1


def test_an_own_listener(warm: Sessions, redis_log: RedisLog) -> None:
    """A listener of the application's may filter what is read: its say is kept."""

    def filtered(state: Any) -> None:
        criteria = with_loader_criteria(Author, Author.id != 1)
        state.statement = state.statement.options(criteria)

    with warm() as session:
        event.listen(session, "do_orm_execute", filtered)
        assert names(session.scalars(authors(1, 2))) == ["author 2"]
    assert redis_log == []


def test_within_bypass(warm: Sessions, cache: Cache, redis_log: RedisLog) -> None:
    """The database answers."""
    with warm() as session, cache.bypass():
        assert names(session.scalars(authors(1))) == ["author 1"]
    assert redis_log == []


# --- nothing stale, and of one moment


def test_every_commit_is_followed(warm: Sessions) -> None:
    """Updates, deletes and bulk writes end what was read."""
    with warm() as session:
        session.get_one(Author, 1).name = "renamed"
        session.execute(delete(Book).where(Book.author_id == 2))
        session.execute(delete(Author).where(Author.id == 2))
        session.execute(update(Author).where(Author.id > 2).values(name="bulk"))
        session.commit()
    with warm() as session:
        assert names(session.scalars(authors(*range(5)))) == [
            "author 0", "bulk", "bulk", "renamed"
        ]  # fmt: skip


@pytest.fixture
def overtaken(filled: Sessions, library: Engine) -> Iterator[Callable[[], None]]:
    """Arms a commit that renames both authors just before the next SELECT of them."""
    armed: list[bool] = []

    def overtake(*arguments: Any) -> None:
        if armed and arguments[2].startswith("SELECT authors"):
            armed.clear()
            with filled() as other:
                for author in other.scalars(select(Author).where(Author.id < 2)):
                    author.name += " again"
                other.commit()

    event.listen(library, "before_cursor_execute", overtake)
    yield lambda: armed.append(True)
    event.remove(library, "before_cursor_execute", overtake)


def test_one_moment(filled: Sessions, cache: Cache, overtaken: Callable[[], None]) -> None:
    """A commit between the cache's part and the database's is not seen by half."""
    with filled() as session:
        session.scalars(authors(0)).one()
    with filled() as session:
        overtaken()
        assert names(session.scalars(authors(0, 1))) == ["author 0 again", "author 1 again"]
    assert cache.stats().bypasses["shelf", "changed meanwhile"] == 1


# --- selectinload of a many-to-one


def books(*options: Any) -> Select[Book]:
    return select(Book).where(Book.title != "").options(*options)


def by_author(found: Any) -> list[str | None]:
    return [each.author and each.author.name for each in sorted(found, key=lambda one: one.id)]


EXPECTED = [*(f"author {number % 5}" for number in range(10)), None]


def test_selectinload_is_served(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """The parents are a SELECT; their authors one MGET."""
    with warm() as session:
        found = session.scalars(books(selectinload(Book.author))).all()
        redis_names, statements = redis_log.names(), len(sql_log)

        assert by_author(found) == EXPECTED
    assert (redis_names, statements) == (["mget"], 1)
    assert len(sql_log) == 1


def test_selectinload_fills(filled: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """What is not cached is one SELECT, and cached then."""
    _know_the_scripts(filled)
    redis_log.clear()
    sql_log.clear()
    with filled() as session:
        session.scalars(books(selectinload(Book.author))).all()
    assert redis_log == ["mget", *["acquire"] * 5, *["publish"] * 5]
    assert len(sql_log) == 2
    redis_log.clear()
    with filled() as session:
        assert session.get_one(Author, 1).name == "author 1"
    assert redis_log == ["mget"]


async def test_selectinload_from_coroutines(
    filled: Sessions, async_sessions: async_sessionmaker[AsyncSession], sql_log: SqlLog
) -> None:
    """The same for an AsyncSession: nothing is left to be loaded when it is touched."""
    for _ in range(2):
        sql_log.clear()
        async with async_sessions() as session:
            found = (await session.scalars(books(selectinload(Book.author)))).all()
            assert by_author(found) == EXPECTED
    assert len(sql_log) == 1


SERVED_OPTIONS: dict[str, Callable[[], list[Any]]] = {
    "alone": lambda: [selectinload(Book.author)],
    "parent's columns": lambda: [selectinload(Book.author), load_only(Book.author_id)],
    "parent's deferred": lambda: [selectinload(Book.author), defer(Book.notes)],
}
LEFT_OPTIONS: dict[str, Callable[[], list[Any]]] = {
    "child's columns": lambda: [selectinload(Book.author).load_only(Author.id)],
    "child's relationships": lambda: [selectinload(Book.author).raiseload("*")],
    "child's deferred": lambda: [selectinload(Book.author).defer(Author.name)],
    "more criteria": lambda: [selectinload(Book.author.and_(Author.id > 1))],
    "criteria": lambda: [selectinload(Book.author), with_loader_criteria(Author, Author.id > 1)],
    "for everything": lambda: [selectinload(Book.author), raiseload("*")],
    "no foreign key": lambda: [selectinload(Book.author), load_only(Book.title)],
    "of another kind": lambda: [joinedload(Book.author)],
}


def test_selectinload_with_options(warm: Sessions, plain: Sessions, redis_log: RedisLog) -> None:
    """Options about the parents leave the children served; any about the children is SQL's."""
    for kind, options in (SERVED_OPTIONS | LEFT_OPTIONS).items():
        with plain() as session:
            expected = [_loaded(each) for each in session.scalars(books(*options())).unique()]
        redis_log.clear()
        with warm() as session:
            found = [_loaded(each) for each in session.scalars(books(*options())).unique()]
            asked = redis_log.names()

            assert sorted(map(repr, found)) == sorted(map(repr, expected)), kind
        assert asked == (["mget"] if kind in SERVED_OPTIONS else []), kind


def _loaded(book: Book) -> Any:
    """What is loaded of a book and its author; the rest would need SQL."""
    author = book.__dict__.get("author", "not loaded")
    of_author = author.__dict__.keys() - {"_sa_instance_state"} if author else None
    return book.id, sorted(of_author or []), author and author.__dict__.get("name")


def test_immediateload_is_served(warm: Sessions, redis_log: RedisLog, sql_log: SqlLog) -> None:
    """One key at a time, as lazy loads are; those of a parent with options stay SQL."""
    with warm() as session:
        found = session.scalars(books(immediateload(Book.author))).all()
        assert by_author(found) == EXPECTED


def test_selectinload_in_own_transaction(
    warm: Sessions, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """A transaction that has written sees what it has written."""
    with warm() as session:
        session.execute(update(Author).values(name="mine"))
        redis_log.clear()
        found = session.scalars(books(selectinload(Book.author))).all()
        assert set(by_author(found)) == {"mine", None}
    assert redis_log == []


def test_selectinload_to_nobody(warm: Sessions, sql_log: SqlLog) -> None:
    """A foreign key to a row that is not there gives None, remembered or not."""
    with warm() as session:
        connection = session.connection()
        connection.exec_driver_sql("alter table books drop constraint books_author_id_fkey")
        connection.exec_driver_sql("update books set author_id = 77 where id < 10")
        session.commit()
    for _ in range(2):
        sql_log.clear()
        with warm() as session:
            found = session.scalars(books(selectinload(Book.author))).all()
            assert by_author(found) == [None] * 11
    assert len(sql_log) == 1
