"""What a flush changes: the entries of exactly those rows, under their old keys and their new."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, func
from sqlalchemy.orm import Session, sessionmaker

from cachedorm.store.protocol.keys import stamp_key, wildcard_tag
from tests.fixtures.logs import RedisLog
from tests.support.orm.entries import Entries
from tests.support.orm.library import Animal, Book, Cat, Diary, Dog, Place
from tests.support.orm.shop import Owner, Part, Seat, Slug

Sessions = sessionmaker[Session]

BOOKS = [f"book:{number}" for number in range(1, 4)]


@pytest.fixture
def books(sessions: Sessions, entries: Entries) -> list[str]:
    """Three books, all cached."""
    with sessions.begin() as session:
        session.add_all(Book(id=number, title=f"t{number}") for number in range(1, 4))
    entries.fill(*BOOKS)
    return BOOKS


@pytest.fixture
def places(sessions: Sessions, entries: Entries) -> list[str]:
    """Places under the codes a, b and c, and nothing under d, all cached."""
    with sessions.begin() as session:
        session.add_all(Place(id=number, code=code) for number, code in enumerate("abc", 1))
    keys = [f"place:{code}" for code in "abcd"]
    entries.fill(*keys)
    return keys


def test_insert_ends_a_negative_entry(sessions: Sessions, entries: Entries) -> None:
    """A row that is remembered not to exist is found as soon as its insert is committed."""
    entries.fill("book:7", "book:8")
    with sessions.begin() as session:
        session.add(Book(id=7, title="new"))
    assert entries.ended("book:7", "book:8") == ["book:7"]


def test_insert_with_a_generated_key(sessions: Sessions, entries: Entries) -> None:
    """A primary key that the database makes is known from what the INSERT returns."""
    entries.fill("book:1", "book:2", "book:3")
    with sessions.begin() as session:
        session.add_all([Book(title="a"), Book(title="b")])
    assert entries.ended("book:1", "book:2", "book:3") == ["book:1", "book:2"]


def test_update_ends_its_row_only(sessions: Sessions, entries: Entries, books: list[str]) -> None:
    """A flush of one row leaves the others in the cache."""
    with sessions.begin() as session:
        session.get_one(Book, 2).title = "new"
    assert entries.ended(*books) == ["book:2"]


def test_delete_ends_its_row_only(sessions: Sessions, entries: Entries, books: list[str]) -> None:
    """A deleted row is gone, the others stay."""
    with sessions.begin() as session:
        session.delete(session.get_one(Book, 2))
    assert entries.ended(*books) == ["book:2"]


def test_flush_of_many_rows(sessions: Sessions, entries: Entries, books: list[str]) -> None:
    """An executemany ends the rows of all its parameter sets, and no other."""
    with sessions.begin() as session:
        for number in (1, 3):
            session.get_one(Book, number).title = "new"
    assert entries.ended(*books) == ["book:1", "book:3"]


def test_uncached_tables_touch_nothing(
    sessions: Sessions, entries: Entries, books: list[str], redis_log: RedisLog
) -> None:
    """A write to a table that nobody caches is not told to Redis."""
    redis_log.clear()
    with sessions.begin() as session:
        session.add(Diary(id=1, text="dear"))
    assert redis_log == []


def test_old_key_of_an_update(sessions: Sessions, entries: Entries, places: list[str]) -> None:
    """A row that moves to another key ends both, the one that it leaves and the one it takes."""
    with sessions.begin() as session:
        session.get_one(Place, 1).code = "d"
    assert entries.ended(*places) == ["place:a", "place:d"]


def test_stale_old_value_of_an_update(
    sessions: Sessions, entries: Entries, places: list[str]
) -> None:
    """The old value is the one the statement overwrites, not the one the session remembers."""
    with sessions() as first:
        mine = first.get_one(Place, 1)
        assert mine.code == "a"
        first.rollback()
        first.expire_all()
        assert mine.code == "a"
        with sessions.begin() as second:
            second.get_one(Place, 1).code = "d"
        entries.fill("place:d")
        mine.title = "changed by one who believes that it is at a"
        first.commit()
    assert entries.ended("place:d", "place:b", "place:c") == ["place:d"]


def test_stale_old_value_of_a_delete(
    sessions: Sessions, entries: Entries, places: list[str]
) -> None:
    """A DELETE ends the key under which the row really stands."""
    with sessions() as first:
        mine = first.get_one(Place, 1)
        with sessions.begin() as second:
            second.get_one(Place, 1).code = "d"
        entries.fill("place:d")
        first.delete(mine)
        first.commit()
    assert entries.ended("place:d", "place:b", "place:c") == ["place:d"]


def test_keys_that_change_places(sessions: Sessions, entries: Entries, places: list[str]) -> None:
    """Two rows that exchange their keys end both, whatever the order of the statements."""
    with sessions.begin() as session:
        one, two = session.get_one(Place, 1), session.get_one(Place, 2)
        one.code = "tmp"
        session.flush()
        two.code = "a"
        session.flush()
        one.code = "b"
    assert entries.ended(*places) == ["place:a", "place:b"]


def test_primary_key_change(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """A row whose primary key changes ends the old entry and the new."""
    with sessions.begin() as session:
        session.add_all(Owner(name=name) for name in ("kim", "lee"))
    entries.fill("owner:kim", "owner:lee", "owner:pak")
    with sessions.begin() as session:
        session.get_one(Owner, "kim").name = "pak"
    keys = ["owner:kim", "owner:lee", "owner:pak"]
    assert entries.ended(*keys) == ["owner:kim", "owner:pak"]


def test_expression_in_a_key(sessions: Sessions, entries: Entries, places: list[str]) -> None:
    """A key that the database computes in the UPDATE may be any: all of the table's end."""
    with sessions.begin() as session:
        session.get_one(Place, 1).code = func.concat("d", "")
    assert entries.ended(*places) == places


def test_column_of_another_name(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """Keys are followed by the attribute's column, whatever that is called."""
    with sessions.begin() as session:
        session.add_all(Part(id=number, code=code) for number, code in enumerate("ab", 1))
    entries.fill("part:a", "part:b", "part:c")
    with sessions.begin() as session:
        session.get_one(Part, 1).code = "c"
    assert entries.ended("part:a", "part:b", "part:c") == ["part:a", "part:c"]


def test_version_counter(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """A version in the filter changes nothing about which row is meant."""
    with sessions.begin() as session:
        session.add_all(Part(id=number, code=code) for number, code in enumerate("ab", 1))
    entries.fill("part:a", "part:b")
    with sessions.begin() as session:
        session.get_one(Part, 1).title = "new"
    with sessions.begin() as session:
        session.delete(session.get_one(Part, 2))
    assert entries.ended("part:a", "part:b") == ["part:a", "part:b"]


def test_computed_key(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """A key that the database derives from another column is not known: all of the table's end."""
    with sessions.begin() as session:
        session.add(Slug(id=1, title="Book"))
    entries.fill("slug:book", "slug:shelf")
    with sessions.begin() as session:
        session.get_one(Slug, 1).title = "Shelf"
    assert entries.ended("slug:book", "slug:shelf") == ["slug:book", "slug:shelf"]


def test_key_by_server_default(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """A key that the database makes up on INSERT ends the negative entry that stood there."""
    entries.fill("seat:new-1")
    with sessions.begin() as session:
        session.add(Seat(id=1))
    assert entries.ended("seat:new-1") == ["seat:new-1"]


def test_key_by_onupdate(shop: Engine, sessions: Sessions, entries: Entries) -> None:
    """A key that every UPDATE changes is followed though no one set it."""
    with sessions.begin() as session:
        session.add(Seat(id=1, code="a"))
    entries.fill("seat:a")
    with sessions.begin() as session:
        seat = session.get_one(Seat, 1)
        seat.title = "new"
        session.flush()
        moved = f"seat:{seat.code}"
    assert entries.ended("seat:a", moved) == ["seat:a", moved]


def test_joined_inheritance(sessions: Sessions, entries: Entries) -> None:
    """A write to the subclass's table ends the entry of the whole row."""
    with sessions.begin() as session:
        session.add_all([Dog(id=1, name="rex", tricks=1), Cat(id=2, name="tom", lives=9)])
    entries.fill("animal:1", "animal:2")
    with sessions.begin() as session:
        dog = session.get_one(Animal, 1)
        assert isinstance(dog, Dog)
        dog.tricks = 2
    assert entries.ended("animal:1", "animal:2") == ["animal:1"]
    with sessions.begin() as session:
        session.delete(session.get_one(Cat, 2))
    assert entries.ended("animal:1", "animal:2") == ["animal:2"]


def test_many_rows_end_the_table(
    sessions: Sessions, entries: Entries, books: list[str], redis_log: RedisLog
) -> None:
    """A transaction of more than a thousand rows of a table ends all of its entries."""
    with sessions.begin() as session:
        for first in (10, 1000):  # neither of them alone is so many
            session.add_all(Book(id=number, title="") for number in range(first, first + 900))
            session.flush()
        redis_log.clear()
    intends = [command for command in redis_log.commands() if command.name == "intend"]
    wildcard = stamp_key(wildcard_tag("books"))
    assert any(wildcard in command.args for command in intends)
    assert entries.ended(*books) == books
