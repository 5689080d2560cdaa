"""What the database itself changes: ON DELETE and ON UPDATE of the mapped foreign keys."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Connection, Engine, Table, delete, event, text, update
from sqlalchemy.orm import Session, sessionmaker

from tests.fixtures.logs import SqlLog
from tests.fixtures.patience import PATIENCE
from tests.support.orm.entries import Entries
from tests.support.orm.library import Author, Book
from tests.support.orm.shop import Branch, Leaf, Owner, Root, Thing

Sessions = sessionmaker[Session]

AUTHORS: Table = Author.__table__  # type: ignore[assignment]
BOOKS = [f"book:{number}" for number in range(1, 5)]
THINGS = ["thing:kim:1", "thing:kim:2", "thing:lee:1", "thing:pak:1"]
TREE = ["root:1", "root:2", "branch:1", "branch:2", "leaf:1", "leaf:2"]


@pytest.fixture
def authors(sessions: Sessions, entries: Entries) -> None:
    """Authors 1 and 2 with two books each."""
    with sessions.begin() as session:
        session.add_all([Author(id=1, name="Kim"), Author(id=2, name="Lee")])
        session.flush()
        session.add_all(Book(id=n, title="", author_id=1 + n // 3) for n in range(1, 5))
    entries.fill("author:1", "author:2", *BOOKS)


@pytest.fixture
def owners(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """kim has two things, lee one; nobody is called pak."""
    with sessions.begin() as session:
        session.add_all([Owner(name="kim"), Owner(name="lee")])
        session.flush()
        session.add_all(
            Thing(owner_name=name, number=number)
            for name, number in (("kim", 1), ("kim", 2), ("lee", 1))
        )
    entries.fill("owner:kim", "owner:lee", *THINGS)


@pytest.fixture
def tree(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """Two roots with a branch each, and a leaf on each branch."""
    with sessions.begin() as session:
        for number in (1, 2):
            session.add(Root(id=number))
            session.flush()
            session.add(Branch(id=number, root_id=number))
            session.flush()
            session.add(Leaf(id=number, branch_id=number))
    entries.fill(*TREE)


def test_delete_cascade(sessions: Sessions, entries: Entries, authors: None) -> None:
    """The children of the deleted row end, and no others."""
    with sessions.begin() as session:
        session.delete(session.get_one(Author, 1))
    assert entries.ended("author:2", *BOOKS) == ["book:1", "book:2"]


def test_bulk_delete_cascade(library: Engine, entries: Entries, authors: None) -> None:
    """So they do for a bulk DELETE by a filter."""
    with library.begin() as connection:
        connection.execute(delete(AUTHORS).where(Author.name == "Lee"))
    assert entries.ended("author:1", *BOOKS) == ["book:3", "book:4"]


def test_delete_sets_null(sessions: Sessions, entries: Entries, owners: None) -> None:
    """SET NULL takes a row out of the key that it stood under."""
    with sessions.begin() as session:
        session.execute(delete(Owner).where(Owner.name == "lee"))
    assert "thing:lee:1" in entries.ended(*THINGS)


def test_update_cascade(sessions: Sessions, entries: Entries, owners: None) -> None:
    """ON UPDATE CASCADE moves the children to keys that are not known beforehand."""
    with sessions.begin() as session:
        session.execute(update(Owner).where(Owner.name == "lee").values(name="pak"))
    ended = entries.ended("owner:kim", "owner:lee", *THINGS)
    assert {"owner:lee", "thing:lee:1", "thing:pak:1"} <= set(ended)
    assert "owner:kim" not in ended


def test_update_of_other_columns(sessions: Sessions, entries: Entries, owners: None) -> None:
    """An UPDATE of columns that nobody refers to leaves the children alone."""
    with sessions.begin() as session:
        session.get_one(Owner, "lee").city = "Seoul"
    assert entries.ended("owner:kim", "owner:lee", *THINGS) == ["owner:lee"]


def test_deeper_cascade(sessions: Sessions, entries: Entries, tree: None) -> None:
    """Two foreign keys down, all of the table's entries end."""
    with sessions.begin() as session:
        session.delete(session.get_one(Root, 1))
    assert entries.ended(*TREE) == ["root:1", "branch:1", "leaf:1", "leaf:2"]


def test_child_that_comes_meanwhile(
    sessions: Sessions, library: Engine, entries: Entries, authors: None
) -> None:
    """A child that another transaction is inserting is waited for, and ends with the others."""
    entries.fill("book:9")
    inserted, locking, done = threading.Event(), threading.Event(), threading.Event()

    def insert_child() -> None:
        with sessions() as other:
            other.add(Book(id=9, title="late", author_id=1))
            other.flush()
            inserted.set()
            locking.wait(PATIENCE)
            _wait_until_blocked(library)
            other.commit()
        entries.read("book:9")
        done.set()

    def asked(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if "FOR UPDATE" in statement and "authors" in statement:
            locking.set()

    thread = threading.Thread(target=insert_child)
    thread.start()
    assert inserted.wait(PATIENCE)
    event.listen(library, "before_cursor_execute", asked)
    with sessions() as session:
        session.execute(delete(Author).where(Author.id == 1))
        assert done.wait(PATIENCE)
        session.commit()
    thread.join(PATIENCE)
    event.remove(library, "before_cursor_execute", asked)
    assert "book:9" in entries.ended("book:9")
    assert entries.read("book:9") is None


def _wait_until_blocked(engine: Engine) -> None:
    """Return once some transaction waits for a lock: the database says so."""
    waiting = text("select count(*) from pg_locks where not granted")
    with engine.connect() as connection:
        for _ in range(10_000):
            if connection.execute(waiting).scalar():
                return
    raise TimeoutError("nobody waits for a lock")


def test_parent_that_comes_meanwhile(
    sessions: Sessions, library: Engine, entries: Entries, authors: None
) -> None:
    """A parent that came to the filter after the SELECT is noticed by the count."""
    with sessions.begin() as session:
        session.add(Author(id=3, name="Pak"))
        session.flush()
        session.add(Book(id=7, title="", author_id=3))
    entries.fill("book:7")

    def come(connection: Connection, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE") and connection is mine:
            with sessions.begin() as other:
                other.get_one(Author, 3).name = "Kim"

    event.listen(library, "before_cursor_execute", come)
    with library.begin() as mine:
        mine.execute(delete(AUTHORS).where(Author.name == "Kim"))
    event.remove(library, "before_cursor_execute", come)
    assert "book:7" in entries.ended("book:7")


def test_cost_of_a_cascade(sessions: Sessions, sql_log: SqlLog, tree: None) -> None:
    """A DELETE whose children are cached costs two SELECTs more: the lock and the children."""
    with sessions.begin() as session:
        session.connection()
        sql_log.clear()
        session.execute(delete(Root).where(Root.id == 1))
    assert [statement.split()[0] for statement in sql_log.statements] == [
        "SELECT",
        "SELECT",
        "DELETE",
    ]


def test_autocommit_holds_no_lock(library: Engine, entries: Entries, authors: None) -> None:
    """Without a transaction a lock would not last until the statement: all children end."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(delete(AUTHORS).where(Author.id == 1))
    assert entries.ended("author:2", *BOOKS) == BOOKS
