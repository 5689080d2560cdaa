"""Tables that are written unseen when another is: what ``CachePolicy(writes=...)`` names.

A database trigger writes without a statement of ours; what it does is declared on the model whose
table it stands on. An execution option does the same for a statement that calls a function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Table

from cachedorm.declare.policies.shape import EntityShape
from cachedorm.errors import ArgumentError, DeclarationError
from cachedorm.orm.interest.cascades import CascadeEffect, Cascades
from cachedorm.orm.interest.tables import Interests, Names, TableInterest, TableName

OPTION = "cachedorm_writes"


class DeclaredWrites:
    """The tables that triggers write, as policies declare them.

    Raises DeclarationError for a policy that names an unknown table.
    """

    __slots__ = ("_answers", "_cascades", "_declared", "_interests", "_spellings", "_tables")

    def __init__(
        self,
        shapes: Iterable[EntityShape],
        tables: Collection[Table],
        interests: Interests,
        cascades: Cascades,
        names: Names | None = None,
    ) -> None:
        self._interests = interests
        self._cascades = cascades
        self._tables: dict[str, list[Table]] = {}
        for table in tables:
            self._tables.setdefault(table.fullname, []).append(table)
        self._spellings = _spellings(tables, names or Names())
        self._declared: dict[str, set[str]] = {}
        for shape in shapes:
            self._declare(shape)
        self._answers: dict[str, tuple[TableInterest, ...]] = {}

    def of(self, table: Table) -> tuple[TableInterest, ...]:
        """What is written unseen when this table is, further tables' triggers included."""
        if not self._declared:
            return ()
        answer = self._answers.get(table.fullname)
        if answer is None:
            names = self._closure(table.fullname)
            answer = self._answers[table.fullname] = self._interests_written(names)
        return answer

    def names(self, table: Table) -> set[str]:
        """The names of the tables that are written unseen, followed or not."""
        return self._closure(table.fullname) if self._declared else set()

    def named(self, names: object) -> tuple[Table, ...]:
        """The tables that an execution option names; ArgumentError says what it may name."""
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ArgumentError(f'{OPTION}={names!r}: give a tuple of table names, ("books",)')
        found: list[Table] = []
        for name in names:
            if name not in self._tables:
                raise ArgumentError(f"{OPTION}: {self._unknown(name)}")
            found.extend(self._tables[name])
        return tuple(found)

    def _declare(self, shape: EntityShape) -> None:
        who = f"{shape.owner.class_.__name__}.__cache__"
        writes: object = shape.policy.writes
        if isinstance(writes, str):
            raise DeclarationError(
                f"{who}: writes={writes!r} is a string; give a tuple of table names"
            )
        for name in shape.policy.writes:
            if name not in self._tables:
                raise DeclarationError(f"{who}: writes: {self._unknown(name)}")
        for mapper in shape.owner.self_and_descendants:
            for table in mapper.tables:
                if shape.policy.writes and isinstance(table, Table):
                    self._declared.setdefault(table.fullname, set()).update(shape.policy.writes)

    def _unknown(self, name: object) -> str:
        return f"no mapped table is named {name!r}; known are: {', '.join(sorted(self._tables))}"

    def _closure(self, start: str) -> set[str]:
        """Every table whose rows may change in the wake of the triggers on this one."""
        found: set[str] = set()
        # The foreign keys of the table that the statement writes are looked at elsewhere, row by
        # row; what a trigger writes has foreign keys, and triggers, of its own.
        waiting = self._triggered(start)
        while waiting:
            name = waiting.pop()
            found.add(name)
            waiting |= (self._triggered(name) | self._cascaded(name)) - found
        return found

    def _triggered(self, name: str) -> set[str]:
        names = (name, *self._cascaded(name))
        spellings = (one for each in names for one in self._spellings.get(each, (each,)))
        return {written for each in spellings for written in self._declared.get(each, ())}

    def _cascaded(self, name: str) -> set[str]:
        return {
            cascade.table.fullname
            for table in self._tables.get(name, ())
            for effect in (CascadeEffect.DELETE, CascadeEffect.UPDATE)
            for cascade in self._cascades.of(table, effect)
        }

    def _interests_written(self, names: Iterable[str]) -> tuple[TableInterest, ...]:
        tables = (table for name in sorted(names) for table in self._tables[name][:1])
        found = (self._interests[table] for table in tables)
        return tuple(interest for interest in found if interest is not None)


def _spellings(tables: Iterable[Table], names: Names) -> dict[str, set[str]]:
    """All full names of the table that has this one."""
    found: dict[TableName, set[str]] = {}
    for table in tables:
        found.setdefault(names.of(table), set()).add(table.fullname)
    return {spelling: each for each in found.values() for spelling in each}
