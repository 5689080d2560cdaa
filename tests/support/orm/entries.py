"""Which entries a write ends: fill some, write, and see which are still served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, Select, inspect, select, text
from sqlalchemy.orm import Session, sessionmaker

from cachedorm import Cache, Cached
from tests.fixtures.logs import SqlLog
from tests.support.orm.kin import Box, Call, LetterSent, Parcel
from tests.support.orm.library import Animal, Author, Book, Place, Token
from tests.support.orm.shop import Branch, Leaf, Owner, Part, Root, Seat, ShopBase, Slug, Thing

_MODELS: dict[str, tuple[type[Cached], tuple[str, ...]]] = {
    "animal": (Animal, ("id",)),
    "author": (Author, ("id",)),
    "book": (Book, ("id",)),
    "place": (Place, ("code",)),
    "token": (Token, ("id",)),
    "part": (Part, ("code",)),
    "slug": (Slug, ("slug",)),
    "seat": (Seat, ("code",)),
    "owner": (Owner, ("name",)),
    "thing": (Thing, ("owner_name", "number")),
    "root": (Root, ("id",)),
    "branch": (Branch, ("id",)),
    "leaf": (Leaf, ("id",)),
    "box": (Box, ("id",)),
    "parcel": (Parcel, ("id",)),
    "sent": (LetterSent, ("id",)),
    "call": (Call, ("id",)),
}


@dataclass(frozen=True, slots=True)
class Entries:
    """Reads entries by their key's text (``book:1``), each in a session of its own."""

    sessions: sessionmaker[Session]
    plain: sessionmaker[Session]
    sql_log: SqlLog
    cache: Cache

    def fill(self, *keys: str) -> None:
        """From now on these are served from the cache."""
        for key in keys:
            self.read(key)
            assert self.is_served(key), f"{key} is not served after it was read"

    def ended(self, *keys: str) -> list[str]:
        """Which of these were not served any more.

        Each answer is compared with the database's, whoever gave it.
        """
        return [key for key in keys if not self.is_served(key)]

    def is_served(self, key: str) -> bool:
        """Whether the cache answered, and not the database; the answer must be right."""
        self.sql_log.clear()
        answer = self.read(key)
        served = len(self.sql_log) == 0
        with self.plain() as session:
            truth = session.execute(_statement(key, plain=True)).scalar_one_or_none()
            assert answer == _values(truth), f"{key} is stale"
        return served

    def read(self, key: str) -> Any:
        """The row's values, read by a session that the cache serves; None if there is no row."""
        with self.sessions() as session:
            return _values(session.execute(_statement(key)).scalar_one_or_none())


def _statement(key: str, *, plain: bool = False) -> Select[Any]:
    name, *texts = key.split(":")
    model, fields = _MODELS[name]
    columns = [getattr(model, field) for field in fields]
    values = [column.type.python_type(text) for column, text in zip(columns, texts, strict=True)]
    if plain:
        criteria = (column == value for column, value in zip(columns, values, strict=True))
        return select(model).where(*criteria).execution_options(populate_existing=True)
    return model.by(**dict(zip(fields, values, strict=True)))


def _values(row: Any) -> dict[str, Any] | None:
    if row is None:
        return None
    names = (attr.key for attr in inspect(type(row)).column_attrs)
    return {name: getattr(row, name) for name in names if name != "secret"}


@pytest.fixture
def entries(
    sessions: sessionmaker[Session],
    plain: sessionmaker[Session],
    sql_log: SqlLog,
    cache: Cache,
) -> Entries:
    """Fills entries and says which of them a write has ended."""
    return Entries(sessions, plain, sql_log, cache)


@pytest.fixture
def shop(library: Engine) -> Engine:
    """The same engine; its database holds the shop's tables as well, empty."""
    with library.begin() as connection:
        connection.execute(text("create sequence seat_codes"))
    ShopBase.metadata.create_all(library)
    return library
