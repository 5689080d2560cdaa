"""The rows that a statement is about to change, selected and locked just before it runs.

The lock is the one that the statement itself takes a moment later, so what was read here is what
it overwrites: nobody can move the row in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, select, tuple_
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Delete, Update

from cachedorm.orm.cascades import Cascade
from cachedorm.orm.interest import TableInterest, Values
from cachedorm.orm.rows import UNKNOWN, Parameters, is_plain, key_equalities

# Beyond so many rows of one table in one transaction the table's wildcard is cheaper, and safe.
ROWS_MAX = 1000
# Marks our own statements.
OWN = {"cachedorm_own": True}
_LOCKING = frozenset({"postgresql", "mysql", "mariadb", "oracle"})

Key = tuple[Any, ...]


class Affected:
    """Which rows an UPDATE or DELETE affects, as far as its own filter says."""

    __slots__ = ("_connection", "keys", "named", "statement", "table", "where")

    def __init__(
        self, connection: Connection, statement: Update | Delete, parameters: Sequence[Parameters]
    ) -> None:
        self._connection = connection
        self.statement = statement
        self.table: Table = statement.table  # type: ignore[assignment]
        # What the filter holds equal, and with that the primary keys, one for each parameter set.
        self.named: list[dict[str, Any]] = []
        self.keys: list[Key] | None = None
        # A filter that finds the rows of all parameter sets; None if there is none to be had.
        self.where: ColumnElement[bool] | bool | None = None
        if len(parameters) <= ROWS_MAX and is_plain(statement):
            self._read(parameters)

    def _read(self, parameters: Sequence[Parameters]) -> None:
        where = self.statement.whereclause
        named = [key_equalities(where, self.table, each) for each in parameters]
        keys = [primary_key(self.table, row) for row in named]
        if all(key is not None for key in keys):
            self.named = named
            self.keys = [key for key in keys if key is not None]
            self.where = _is_one_of(list(self.table.primary_key.columns), self.keys)
        elif len(parameters) == 1:
            self.where = True if where is None else where.params(dict(parameters[0]))

    @property
    def can_select(self) -> bool:
        """Whether the rows can be found and locked."""
        return self.where is not None and self._connection.dialect.name in _LOCKING

    def rows(self, interest: TableInterest) -> list[dict[str, Any]] | None:
        """The rows' keys and watched columns as they stand, locked; None if they are too many."""
        by_name = {column.name: column for column in self.table.columns}
        names = [column.name for column in (*interest.primary_key, *interest.watched)]
        if not all(name in by_name for name in names):
            return None
        return self._selected([by_name[name] for name in names], self.where, self._key_share)

    def lock(self) -> bool:
        """Lock the rows, so that nobody makes new rows refer to them; False if they are too many."""
        columns = list(self.table.primary_key.columns)
        return self._selected(columns, self.where, key_share=False) is not None

    def children(self, interest: TableInterest, cascade: Cascade) -> list[dict[str, Any]] | None:
        """The rows of a child table that refer to the rows; None if they are too many."""
        by_name = {column.name: column for column in self.table.columns}
        parents = [by_name[parent.name] for parent, _ in cascade.keys]
        referred = select(*parents)
        if self.where is not True:
            referred = referred.where(self.where)  # type: ignore[arg-type]
        referring = tuple_(*(child for _, child in cascade.keys)).in_(referred)
        columns = [cascade.table.columns[column.key] for column in interest.primary_key]
        columns += [cascade.table.columns[column.key] for column in interest.watched]
        return self._selected(columns, referring, key_share=False)

    @property
    def _key_share(self) -> bool:
        return isinstance(self.statement, Update)

    def _selected(
        self, columns: Sequence[Column[Any]], where: Any, key_share: bool
    ) -> list[dict[str, Any]] | None:
        query = select(*columns).limit(ROWS_MAX + 1).with_for_update(key_share=key_share)
        if where is not True:
            query = query.where(where)
        rows = self._connection.execute(query, execution_options=OWN).all()
        if len(rows) > ROWS_MAX:
            return None
        names = [column.name for column in columns]
        return [dict(zip(names, row, strict=True)) for row in rows]


def primary_key(table: Table, row: Values) -> Key | None:
    """The row's primary key; None if part of it is not known."""
    try:
        key = tuple(row[column.name] for column in table.primary_key.columns)
    except KeyError:
        return None
    return None if not key or any(value is UNKNOWN for value in key) else key


def _is_one_of(columns: Sequence[Column[Any]], keys: Sequence[Key]) -> ColumnElement[bool]:
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
