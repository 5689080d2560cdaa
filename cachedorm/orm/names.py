"""Telling tables apart by schema and name; two Table objects may stand for one table."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

TableName = tuple[str | None, str]


class Names:
    """The names of tables, where one without a schema stands in any of these schemas.

    They are those of the search path: ``books`` and ``public.books`` are one table then.
    """

    __slots__ = ("_schemas",)

    def __init__(self, schemas: Iterable[str] = ()) -> None:
        self._schemas = frozenset(schemas)

    def of(self, table: Table) -> TableName:
        """The name of this table, the same however its schema is spelled."""
        return self.spelled(table.schema, table.name)

    def spelled(self, schema: str | None, name: str) -> TableName:
        """The name of the table that is spelled so."""
        return None if schema in self._schemas else schema, name

    def __repr__(self) -> str:
        return f"<Names without a schema: {', '.join(sorted(self._schemas))}>"
