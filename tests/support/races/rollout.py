"""A process of a rolling deploy: ``-m tests.support.races.rollout VERSION DATABASE REDIS``.

Reads a request a line and answers each with a line, both JSON. Versions of the code:

- ``old`` caches books by their id, and nothing over notes;
- ``new`` caches books by their ISBN, and notes by their id;
- ``bare`` caches nothing: it never imported the module that holds the models.
"""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, update
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from cachedorm import Cached, CachePolicy, Region
from tests.fixtures.patience import patient_cache
from tests.support.races.processes import serve, wait
from tests.support.races.staging import Stage

BOOKS = Region("books", db=3, ttl=600)
NOTES = Region("notes", db=5, ttl=600)

METADATA = MetaData()
BOOK_TABLE = Table(
    "rollout_books",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("isbn", String(20), unique=True),
    Column("shelf", Integer),
    Column("title", String(50)),
)
NOTE_TABLE = Table(
    "rollout_notes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("title", String(50)),
)
TABLES = {"book": BOOK_TABLE, "note": NOTE_TABLE}


class Program:
    """What a process of one version does when it is asked."""

    def __init__(self, version: str, database_url: str, redis_url: str) -> None:
        engine = create_engine(database_url)
        self.stage = Stage(engine)
        self.cache = patient_cache(redis_url)
        self.sessions = sessionmaker(engine)
        self._map(version)
        self.cache.attach(self.sessions if version != "bare" else engine)

    def _map(self, version: str) -> None:
        class Base(DeclarativeBase):
            metadata = METADATA

        if version == "bare":
            return
        is_new = version == "new"
        key = "book:isbn:{isbn}" if is_new else "book:{id}"
        bodies: dict[str, Any] = {"__table__": BOOK_TABLE, "__cache__": CachePolicy(BOOKS, key=key)}
        self.book: Any = type("Book", (Cached, Base), bodies)
        body: dict[str, Any] = {"__table__": NOTE_TABLE}
        if is_new:
            body["__cache__"] = CachePolicy(NOTES, key="note:{id}")
        self.note: Any = type("Note", (Cached, Base) if is_new else (Base,), body)

    def read(self, what: str) -> str | None:
        """The title of the one book or note, as this version reads it."""
        with self.sessions() as session:
            if what == "note":
                found = session.get(self.note, 1)
            elif "isbn" in self.book.__cache__.key:
                found = session.scalar(self.book.by(isbn="i1"))
            else:
                found = session.get(self.book, 1)
            return None if found is None else str(found.title)

    def write(self, what: str, title: str, pause: str | None = None) -> None:
        """Change the title, and stop ``before`` or ``after`` COMMIT until told to go on."""
        if pause is not None:
            setattr(self.stage, pause, wait)
        table = TABLES[what]
        with self.sessions() as session:
            session.execute(update(table).where(table.c.id == 1).values(title=title))
            session.commit()

    def hits(self) -> int:
        """How many reads were served so far."""
        return sum(self.cache.stats().hits.values())


def create(engine: Engine) -> None:
    """The tables, with one row each, called 0."""
    METADATA.create_all(engine)
    with Session(engine) as session:
        session.execute(BOOK_TABLE.insert().values(id=1, isbn="i1", shelf=7, title="0"))
        session.execute(NOTE_TABLE.insert().values(id=1, title="0"))
        session.commit()


if __name__ == "__main__":
    serve(Program(*sys.argv[1:4]))
