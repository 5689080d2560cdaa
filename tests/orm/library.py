"""A small library for the tests of the ORM layer: one model for each thing that can go wrong."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, ForeignKey, Integer, String, Table
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from cachedorm import Cached, CachePolicy, Region, Regions, hours, seconds

SHELF = Region("shelf", db=1, ttl=hours(1), jitter=0)
DESK = Region("desk", db=2, ttl=seconds(90), jitter=0)
REGIONS = Regions(SHELF, DESK, reserved=range(10, 16))


class Base(DeclarativeBase):
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


class Token(Cached, Base):
    """Written through, and kept as long as the token lives."""

    __tablename__ = "tokens"
    __cache__ = CachePolicy(DESK, key="token:{id}", ttl="expires_at", on_write="write_through")

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


class Diary(Base):
    """Not cached, but known."""

    __tablename__ = "diaries"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200), default="")
