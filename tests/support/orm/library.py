"""A small library for the tests of the ORM layer: one model for each thing that can go wrong."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Column, DateTime, ForeignKey, Integer, String, Table
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    composite,
    mapped_column,
    reconstructor,
    relationship,
)

from cachedorm import Cached, CachePolicy, Region, Regions

SHELF = Region("shelf", db=1, ttl=timedelta(hours=1), jitter=0)
DESK = Region("desk", db=2, ttl=timedelta(seconds=90), jitter=0)
REGIONS = Regions(SHELF, DESK, reserved=range(10, 16))


class Base(AsyncAttrs, DeclarativeBase):
    __cache_regions__ = REGIONS


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Author(Cached, Base):
    __tablename__ = "authors"
    __cache__ = CachePolicy(SHELF, key="author:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


readers = Table(
    "book_readers",
    Base.metadata,
    Column("book_id", ForeignKey("books.id", ondelete="CASCADE"), primary_key=True),
    Column("reader_id", Integer, primary_key=True),
)


class Book(Cached, Base):
    """Cached by its primary key; its author may go, and takes it along."""

    __tablename__ = "books"
    __cache__ = CachePolicy(SHELF, key="book:{id}", exclude=("secret",))

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id", ondelete="CASCADE"))
    secret: Mapped[str | None] = mapped_column(String(50))
    notes: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    mood: Mapped[Mood | None]
    author: Mapped[Author | None] = relationship()


class Place(Cached, Base):
    """Cached by a natural key that moves from row to row."""

    __tablename__ = "places"
    __cache__ = CachePolicy(DESK, key="place:{code}")

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    title: Mapped[str] = mapped_column(String(50), default="")


class Shelf(Cached, Base):
    """A composite primary key, in another order than the template's."""

    __tablename__ = "shelves"
    __cache__ = CachePolicy(SHELF, key="shelf:{row}:{room}")

    room: Mapped[str] = mapped_column(String(20), primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None] = mapped_column(String(20))


class Token(Cached, Base):
    """Written through, and kept as long as the token lives."""

    __tablename__ = "tokens"
    __cache__ = CachePolicy(
        DESK, key="token:{id}", expires_at="expires_at", on_write="write_through"
    )

    id: Mapped[str] = mapped_column(String(20), primary_key=True)
    owner: Mapped[str] = mapped_column(String(20))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Animal(Cached, Base):
    """Joined and single-table inheritance under one policy."""

    __tablename__ = "animals"
    __cache__ = CachePolicy(SHELF, key="animal:{id}")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20))


class Dog(Animal):
    __tablename__ = "dogs"
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
    tricks: Mapped[int] = mapped_column(default=0)


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012

    lives: Mapped[int | None]


class Desk(Cached, Base):
    """Its author is loaded with it, always."""

    __tablename__ = "desks"
    __cache__ = CachePolicy(DESK, key="desk:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id", ondelete="SET NULL"))
    author: Mapped[Author | None] = relationship(lazy="joined")


class Letter(Cached, Base):
    """Relationships to one author, in every way that is no plain lazy load."""

    __tablename__ = "letters"
    __cache__ = CachePolicy(SHELF, key="letter:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id", ondelete="CASCADE"))
    raising: Mapped[Author | None] = relationship(lazy="raise", viewonly=True)
    raising_on_sql: Mapped[Author | None] = relationship(lazy="raise_on_sql", viewonly=True)
    kim: Mapped[Author | None] = relationship(
        primaryjoin="and_(Letter.author_id == Author.id, Author.name == 'Kim')", viewonly=True
    )
    lee: Mapped[Author | None] = relationship(
        primaryjoin="and_(Letter.author_id == Author.id, Author.name == 'Lee')", viewonly=True
    )


class Note(Cached, Base):
    """Followed, but not cached row by row."""

    __tablename__ = "notes"
    __cache__ = CachePolicy(SHELF, follow_only=True)

    id: Mapped[int] = mapped_column(primary_key=True)


@dataclass(frozen=True)
class Point:
    """A composite value."""

    x: int
    y: int


class Page(Cached, Base):
    """What a mapper can add to columns: composite, deferred, version counter, reconstructor."""

    __tablename__ = "pages"
    __cache__ = CachePolicy(SHELF, key="page:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int]
    y: Mapped[int]
    body: Mapped[str | None] = mapped_column(String(50), deferred=True)
    mark: Mapped[str | None] = mapped_column(String(50), deferred=True, deferred_group="marks")
    version: Mapped[int] = mapped_column()
    point: Mapped[Point] = composite("x", "y")
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
    rebuilt = False

    @reconstructor
    def rebuild(self) -> None:
        self.rebuilt = True


class Diary(Base):
    """Not cached, but known."""

    __tablename__ = "diaries"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200), default="")
