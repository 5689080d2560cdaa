"""What every plan answers: which tables of which database it reads, and what an entry says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from sqlalchemy import FromClause
from sqlalchemy.orm import Mapper

from cachedorm.orm.database.profile import Profile


class Sourced(Protocol):
    """What the rules of bypassing ask of a plan."""

    @property
    def mapper(self) -> Mapper[Any] | None:
        """A mapper of its rows, for the choice of a database."""

    @property
    def tables(self) -> tuple[FromClause, ...]:
        """The tables that its rows come from."""

    def is_from(self, profile: Profile) -> bool:
        """Whether a connection of this profile reaches the very tables whose rows are cached."""


@dataclass(frozen=True, slots=True)
class Readable:
    """An entry for people: how many rows it holds, and the first of them by name.

    ``what`` is the word for one row.
    """

    what: str
    count: int
    rows: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """The tables of one plan, in the database that was first seen to have them."""

    mapper: Mapper[Any] | None
    tables: tuple[FromClause, ...]
    database: str
    # Where a table without a schema is looked for; None if all of them name theirs.
    schemas: str | None

    @classmethod
    def of(cls, mapper: Mapper[Any] | None, tables: Iterable[FromClause], profile: Profile) -> Self:
        """These tables as a connection of this profile reaches them."""
        tables = tuple(tables)
        schemaless = any(getattr(table, "schema", None) is None for table in tables)
        return cls(mapper, tables, profile.database, profile.schemas if schemaless else None)

    @property
    def whose(self) -> tuple[str, str | None]:
        """The text that identifies this database in a fingerprint."""
        return self.database, self.schemas

    def is_from(self, profile: Profile) -> bool:
        """Whether a connection of this profile reaches the very tables whose rows are cached."""
        here = self.schemas is None or profile.schemas == self.schemas
        return profile.database == self.database and here
