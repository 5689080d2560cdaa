"""Statements that the engine runs otherwise than they were written, and what a SELECT calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ObjectNotExecutableError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.dml import UpdateBase

from tests.support.orm.entries import Entries
from tests.support.orm.library import Author, Book, Diary, Place

Sessions = sessionmaker[Session]

books: Any = Book.__table__
places: Any = Place.__table__


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """Two books and a place, cached, and the absence of others."""
    with sessions.begin() as session:
        session.add_all(Book(id=number, title="old") for number in (1, 2))
        session.add(Place(code="a"))
    entries.fill("book:1", "book:2", "book:3", "place:a", "place:b")


@pytest.fixture
def replacing(library: Engine, sessions: Sessions) -> Iterator[None]:
    """A listener of the application's gives each data change back as another object."""

    def replace(_: Connection, statement: Any, multiparams: Any, params: Any, __: Any) -> Any:
        if isinstance(statement, UpdateBase):
            statement = statement.execution_options(tag=1)
        return statement, multiparams, params

    event.listen(library, "before_execute", replace, retval=True)
    yield
    event.remove(library, "before_execute", replace)


@pytest.mark.usefixtures("replacing")
def test_replaced_insert(sessions: Sessions, entries: Entries) -> None:
    """An INSERT that a later listener put another in place of ends the remembered absence."""
    with sessions.begin() as session:
        session.add(Book(id=3, title="new"))
    assert "book:3" in entries.ended("book:3")


@pytest.mark.usefixtures("replacing")
def test_replaced_upsert(library: Engine, entries: Entries) -> None:
    """An upsert that a later listener put another in place of ends the row it changed."""
    new = postgresql.insert(books).values(id=1, title="new")
    with library.begin() as connection:
        connection.execute(new.on_conflict_do_update(index_elements=["id"], set_={"title": "new"}))
    assert entries.ended("book:1") == ["book:1"]


@pytest.mark.usefixtures("replacing")
def test_replaced_under_autocommit(library: Engine, entries: Entries) -> None:
    """The same where each statement commits by itself; nothing stays hidden."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(update(books).where(books.c.id == 1).values(title="new"))
        assert entries.ended("book:1") == ["book:1"]
        assert entries.ended("book:1") == []


def test_compiled(library: Engine, entries: Entries) -> None:
    """A statement that is compiled already ends what its table has, where that can be executed."""
    compiled: Any = update(books).where(books.c.id == 1).values(title="new").compile(library)
    try:
        with library.begin() as connection:
            connection.execute(compiled)
    except ObjectNotExecutableError:
        return  # SQLAlchemy 2.1 takes none any more
    assert entries.ended("book:1") == ["book:1"]


def test_compiled_under_autocommit(library: Engine, entries: Entries) -> None:
    """The same where it commits by itself; nothing stays hidden."""
    compiled: Any = update(books).where(books.c.id == 1).values(title="new").compile(library)
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            connection.execute(compiled)
        except ObjectNotExecutableError:
            return  # SQLAlchemy 2.1 takes none any more
        assert entries.ended("book:1") == ["book:1"]
        assert entries.ended("book:1") == []


def test_setting_by_a_compiled_select(sessions: Sessions, entries: Entries) -> None:
    """``select(func.set_config(...))`` changes what is read: nothing is served or published."""
    with sessions.begin() as session:
        session.execute(text("create schema other"))
        session.execute(text("create table other.books (like public.books)"))
        session.execute(text("insert into other.books (id, title) values (1, 'other')"))
    entries.fill("book:2")
    with sessions() as session:
        session.execute(select(func.set_config("search_path", "other", True)))
        assert session.get_one(Book, 1).title == "other"
        session.commit()
    assert entries.read("book:1")["title"] == "old"


def test_bind_named_like_a_column(library: Engine, entries: Entries) -> None:
    """A bind of the application's own that has a key column's name is not the column's value."""
    with library.begin() as connection:
        connection.execute(text("alter table places alter code set default 'b'"))
    entries.fill("place:a", "place:b")
    title = func.concat(bindparam("code", "A"), "x")
    with library.begin() as connection:
        connection.execute(insert(places).values(title=title))
    assert "place:b" in entries.ended("place:a", "place:b")


def test_bind_of_the_column(library: Engine, entries: Entries) -> None:
    """A bind that is the column's value tells its key exactly."""
    with library.begin() as connection:
        new = insert(places).values(code=bindparam("code"), title="")
        connection.execute(new, {"code": "b"})
    assert entries.ended("place:a", "place:b") == ["place:b"]


def test_plain_statements_stay_exact(sessions: Sessions, entries: Entries) -> None:
    """What nobody replaced ends its own rows only."""
    with sessions.begin() as session:
        session.get_one(Book, 1).title = "new"
        session.add(Author(id=1, name="Kim"))
        session.add(Diary(id=1))
    assert entries.ended("book:1", "book:2", "place:a") == ["book:1"]
