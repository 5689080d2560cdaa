"""A small application to observe: one table, one region, on SQLite and whatever cache is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import bindparam, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from cachedorm import Cache, Cached, CachedQuery, CachePolicy, Observer, Region
from tests.fixtures.patience import patient_cache

NOTES = Region("notes", db=3, ttl=timedelta(hours=1))


class Base(DeclarativeBase):
    """The declarative base of the observed table."""


class Note(Cached, Base):
    """A row with a key and a text."""

    __tablename__ = "observed_notes"
    __cache__ = CachePolicy(NOTES, key="note:{id}")

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


notes_like = CachedQuery(
    NOTES, key="notes:{text}", statement=select(Note).where(Note.text == bindparam("text"))
)


class App:
    """Sessions of a Cache over three notes. ``read`` is one session's get."""

    def __init__(self, cache: Cache, sessions: sessionmaker[Session]) -> None:
        self.cache = cache
        self.sessions = sessions

    def read(self, number: int) -> Note | None:
        with self.sessions() as session:
            return session.get(Note, number)

    def read_many(self, *numbers: int) -> None:
        with self.sessions() as session:
            self.cache.get_many(session, Note, numbers)

    def write(self, number: int, text: str) -> None:
        with self.sessions() as session:
            session.get_one(Note, number).text = text
            session.commit()


@contextmanager
def app(url: str | None, folder: Path, *observers: Observer) -> Iterator[App]:
    """The application on a SQLite file of that folder; made there if it is not yet."""
    engine = create_engine(f"sqlite:///{folder / 'notes.sqlite'}")
    if not (folder / "notes.sqlite").exists():
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Note(id=number, text=f"note {number}") for number in (1, 2, 3))
            session.commit()
    sessions = sessionmaker(engine)
    with patient_cache(url, observers=observers) as cache:
        cache.attach(sessions)
        yield App(cache, sessions)
        cache.detach(sessions)
        cache.detach(engine)
    engine.dispose()
