"""From what is declared here to the interests that are registered, and from a written table to
all the tables that are written with it.

Writers in other processes, of other versions, read the registered text. A writer that has the same
text touches exactly the keys it stands for; any other writer invalidates the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Table

from cachedorm.orm.interest.cascades import CascadeEffect, Cascades
from cachedorm.orm.interest.declared_writes import DeclaredWrites
from cachedorm.orm.interest.tables import Interests, TableInterest
from cachedorm.store.protocol.interest_registry import Interest

# TRUNCATE ... CASCADE reaches every table that refers to it, and counts as everything.
_EFFECTS = (CascadeEffect.DELETE, CascadeEffect.UPDATE)


class InterestRegistration:
    """What this process reckons with, and which tables a written table takes along."""

    __slots__ = ("_along", "_along_of", "_named", "known", "registered")

    def __init__(
        self, interests: Interests, tables: Iterable[Table], along_of: Callable[[Table], set[str]]
    ) -> None:
        self._named = interests.named
        self._along_of = along_of
        self._along: dict[str, frozenset[str]] = {}
        self.registered = tuple(_interests(interests, self._sources(tables)))
        self.known = frozenset(map(str, self.registered))

    @classmethod
    def of(
        cls,
        interests: Interests,
        tables: Iterable[Table],
        cascades: Cascades,
        unseen: DeclaredWrites,
    ) -> InterestRegistration:
        """By the foreign keys and the declared triggers of these tables."""

        tables = tuple(tables)
        named = {table.fullname: interests.named(table.schema, table.name) for table in tables}

        def along(table: Table) -> set[str]:
            found = {
                interests.named(cascade.table.schema, cascade.table.name)
                for effect in _EFFECTS
                for cascade in cascades.of(table, effect)
            }
            return found | {named[name] for name in unseen.names(table)}

        return cls(interests, tables, along)

    def written_with(self, table: Table) -> frozenset[str]:
        """The names of this table and of those that the database may write along with it."""
        names = self._along.get(table.fullname)
        if names is None:
            mine = self._named(table.schema, table.name)
            names = self._along[table.fullname] = frozenset({mine, *self._along_of(table)})
        return names

    def _sources(self, tables: Iterable[Table]) -> Mapping[str, set[str]]:
        """For each table, those whose writes may reach it."""
        sources: dict[str, set[str]] = {}
        for table in tables:
            for name in self.written_with(table):
                sources.setdefault(name, set()).add(self._named(table.schema, table.name))
        return sources


def _interests(interests: Interests, sources: Mapping[str, set[str]]) -> Iterator[Interest]:
    for interest in interests:
        name = interests.named(interest.table.schema, interest.table.name)
        touched = sorted(set(_touched_by(interest)))
        for written in sorted({name, *sources.get(name, ())}):
            # Entries carry the stamp of the table as their own code spells its name.
            for cached in interest.spelled:
                for db, what in touched:
                    yield Interest(db, written, cached, what)


def _touched_by(interest: TableInterest) -> Iterator[tuple[int, str]]:
    """What a writer who knows this interest touches, in words that change when that does."""
    if interest.keyless:
        for db in interest.dbs:
            yield db, "whole"
    for key in interest.keys:
        columns = ",".join(map(_value_of, key.columns))
        yield key.db, f"key {key.template.text} {columns}"
    for db in interest.memberships:
        yield db, "*"
    for column, dbs in interest.tags.items():
        for db in dbs:
            yield db, f"={_value_of(column)}"
    for derived in interest.derived:
        columns = ",".join(map(_value_of, derived.columns))
        yield derived.db, f"tags {derived.name} {columns}"


def _value_of(column: Column[Any]) -> str:
    """A column, with the type that decides how its values are spelled in keys and tags."""
    kind = type(column.type)
    return f"{column.name}:{kind.__module__}.{kind.__qualname__}:{column.type!r}"
