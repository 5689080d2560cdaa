"""Bulk writes of the ORM: exact where they name their rows or a SELECT can, else the table."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, delete, func, insert, text, update
from sqlalchemy.orm import Session, sessionmaker

from tests.support.orm.entries import Entries
from tests.support.orm.library import Animal, Book, Dog, Place
from tests.support.orm.shop import Part

Sessions = sessionmaker[Session]

BOOKS = [f"book:{number}" for number in range(1, 4)]
PLACES = [f"place:{code}" for code in "abcd"]


@pytest.fixture(autouse=True)
def filled(sessions: Sessions, entries: Entries) -> None:
    """Three books; places a, b, c and none at d; all cached."""
    with sessions.begin() as session:
        session.add_all(Book(id=number, title=f"t{number}") for number in range(1, 4))
        session.add_all(Place(code=code) for code in "abc")
    entries.fill(*BOOKS, *PLACES)


@pytest.mark.parametrize("synchronize", [False, "auto", "evaluate", "fetch"])
def test_update_by_key(sessions: Sessions, entries: Entries, synchronize: object) -> None:
    """An UPDATE that names its row by the key ends that row only."""
    with sessions.begin() as session:
        session.get_one(Book, 1)
        statement = update(Book).where(Book.id == 2).values(title="new")
        session.execute(statement, execution_options={"synchronize_session": synchronize})
    assert entries.ended(*BOOKS) == ["book:2"]


def test_update_by_filter(sessions: Sessions, entries: Entries) -> None:
    """The rows that a filter finds are selected, and locked, just before."""
    with sessions.begin() as session:
        session.execute(update(Book).where(Book.title.in_(["t1", "t3"])).values(title="new"))
    assert entries.ended(*BOOKS) == ["book:1", "book:3"]


def test_update_of_all(sessions: Sessions, entries: Entries) -> None:
    """No filter is every row, those of a thousand by name."""
    with sessions.begin() as session:
        session.execute(update(Book).values(title="new"))
    assert entries.ended(*BOOKS) == BOOKS


def test_update_by_volatile_filter(library: Engine, sessions: Sessions, entries: Entries) -> None:
    """A filter that may find other rows the second time is not asked beforehand."""
    with library.begin() as connection:
        connection.execute(text("create sequence asked"))
        # Asked of three rows twice, it finds the first one, and then the second.
        connection.execute(
            text(
                "create function picked(id int) returns bool language sql volatile as"
                " $$ select (nextval('asked'), id) in ((1, 1), (5, 2)) $$"
            )
        )
    for filter_ in (func.picked(Book.id), func.random() < 0):
        entries.fill(*BOOKS)
        with sessions.begin() as session:
            session.execute(
                update(Book).where(filter_).values(title="new"),
                execution_options={"synchronize_session": False},
            )
        assert entries.ended(*BOOKS) == BOOKS


def test_update_of_a_key(sessions: Sessions, entries: Entries) -> None:
    """A bulk UPDATE that sets a natural key ends the old key and the new."""
    with sessions.begin() as session:
        session.execute(update(Place).where(Place.id == 1).values(code="d"))
    assert entries.ended(*PLACES) == ["place:a", "place:d"]


def test_update_by_expression(sessions: Sessions, entries: Entries) -> None:
    """A key that the database computes is not known: all of the table's end."""
    with sessions.begin() as session:
        session.execute(update(Place).where(Place.id == 1).values(code=Place.code + "x"))
    assert entries.ended(*PLACES) == PLACES


def test_update_by_attribute_name(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """VALUES by attribute names that differ from the columns' are understood."""
    with sessions.begin() as session:
        session.add_all(Part(id=number, code=code) for number, code in enumerate("ab", 1))
    keys = ["part:a", "part:b", "part:c"]
    entries.fill(*keys)
    with sessions.begin() as session:
        session.execute(update(Part).where(Part.id == 1).values(code="c"))
    assert entries.ended(*keys) == ["part:a", "part:c"]
    entries.fill(*keys)
    with sessions.begin() as session:
        session.execute(update(Part).where(Part.id == 1).values({Part.code: "a"}))
    assert entries.ended(*keys) == ["part:a", "part:c"]
    entries.fill(*keys)
    with sessions.begin() as session:  # not resolved by the ORM when we see it
        session.connection().execute(update(Part).where(Part.id == 1).values(code="c"))
    assert entries.ended(*keys) == ["part:a", "part:c"]


def test_update_by_ordered_values(sessions: Sessions, entries: Entries) -> None:
    """Ordered values are values."""
    with sessions.begin() as session:
        statement = update(Place).where(Place.id == 1)
        session.execute(statement.ordered_values((Place.title, "t"), (Place.code, "d")))
    assert entries.ended(*PLACES) == ["place:a", "place:d"]


def test_update_by_primary_keys(sessions: Sessions, entries: Entries) -> None:
    """``update(Model)`` with a list of rows ends those rows."""
    with sessions.begin() as session:
        session.execute(update(Book), [{"id": 1, "title": "n"}, {"id": 3, "title": "n"}])
    assert entries.ended(*BOOKS) == ["book:1", "book:3"]


def test_update_returning(sessions: Sessions, entries: Entries) -> None:
    """RETURNING changes nothing, and its rows are the caller's."""
    with sessions.begin() as session:
        statement = update(Place).where(Place.title == "").values(title="new")
        assert session.scalars(statement.returning(Place.id)).all() == [1, 2, 3]
    assert entries.ended(*PLACES) == PLACES[:3]


def test_delete_by_filter(sessions: Sessions, entries: Entries) -> None:
    """A bulk DELETE ends the rows that it finds."""
    with sessions.begin() as session:
        session.execute(delete(Book).where(Book.title.like("%1")))
        session.execute(delete(Place).where(Place.id == 2).returning(Place))
    assert entries.ended(*BOOKS) == ["book:1"]
    assert entries.ended(*PLACES) == ["place:b"]


def test_insert_of_many(sessions: Sessions, entries: Entries) -> None:
    """``insert(Model)`` with a list of rows ends what was remembered not to exist."""
    entries.fill("book:8", "book:9")
    with sessions.begin() as session:
        session.execute(insert(Book), [{"id": 8, "title": ""}, {"id": 10, "title": ""}])
        session.execute(insert(Place).values(code="d").returning(Place))
    assert entries.ended("book:8", "book:9") == ["book:8"]
    assert "place:d" in entries.ended(*PLACES)


def test_legacy_bulk_methods(sessions: Sessions, entries: Entries) -> None:
    """The ``bulk_*`` methods pass no mapper event, but the engine all the same."""
    entries.fill("book:7", "book:8", "book:9")
    with sessions.begin() as session:
        session.bulk_insert_mappings(Book.__mapper__, [{"id": 7, "title": ""}])
        session.bulk_update_mappings(Book.__mapper__, [{"id": 1, "title": "new"}])
        session.bulk_save_objects([Book(id=8, title="")])
    keys = [*BOOKS, "book:7", "book:8", "book:9"]
    assert entries.ended(*keys) == ["book:1", "book:7", "book:8"]


def test_legacy_queries(sessions: Sessions, entries: Entries) -> None:
    """``Query.update`` and ``Query.delete`` are followed."""
    with sessions.begin() as session:
        session.query(Book).filter(Book.id == 1).update({"title": "new"})
        session.query(Book).filter(Book.title == "t2").delete()
    assert entries.ended(*BOOKS) == ["book:1", "book:2"]


def test_more_than_a_thousand_rows(sessions: Sessions, entries: Entries) -> None:
    """Beyond a thousand rows the table's wildcard is touched instead of each."""
    with sessions.begin() as session:
        session.execute(insert(Book), [{"id": n, "title": "x"} for n in range(10, 1012)])
    entries.fill(*BOOKS)
    with sessions.begin() as session:
        session.execute(update(Book).where(Book.title == "x").values(title="y"))
    assert entries.ended(*BOOKS) == BOOKS


def test_subclass_by_inherited_column(sessions: Sessions, entries: Entries) -> None:
    """An UPDATE of a joined subclass that looks at its base's columns is the table's wildcard."""
    with sessions.begin() as session:
        session.add_all([Dog(id=1, name="rex"), Dog(id=2, name="bo")])
    entries.fill("animal:1", "animal:2")
    with sessions.begin() as session:
        session.execute(
            update(Dog).where(Dog.id == Animal.id, Animal.name == "rex").values(tricks=5),
            execution_options={"synchronize_session": False},
        )
    assert "animal:1" in entries.ended("animal:1", "animal:2")
