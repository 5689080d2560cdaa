"""The rows that an UPDATE or DELETE is about to change, selected and locked just before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, select, tuple_
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.dml import Delete, Update

from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.interest.cascades import Cascade
from cachedorm.orm.interest.tables import ColumnValues, TableInterest
from cachedorm.orm.tracking.statement_rows import (
    UNKNOWN_VALUE,
    StatementParameters,
    given_to,
    is_repeatable,
    key_equalities,
)

# Beyond this many rows of one table in one transaction, touch the table's wildcard: cheaper, safe.
AFFECTED_ROWS_MAX = 1000
_LOCKING = frozenset({"postgresql", "mysql", "mariadb", "oracle"})

Key = tuple[Any, ...]


class Affected:
    """Which rows an UPDATE or DELETE affects, as far as its own filter says.

    ``held``: a lock taken now is still held when the statement runs (not under AUTOCOMMIT).
    """

    __slots__ = (
        "_connection",
        "_held",
        "_params",
        "_statement",
        "_table",
        "_where",
        "keys",
        "named",
    )

    def __init__(
        self,
        connection: Connection,
        statement: Update | Delete,
        table: Table,
        parameters: Sequence[StatementParameters],
        *,
        held: bool,
    ) -> None:
        self._connection = connection
        self._held = held
        self._statement = statement
        self._table = table
        # What the filter holds equal, and with that the primary keys, one for each parameter set.
        self.named: list[dict[str, Any]] = []
        self.keys: list[Key] | None = None
        # Without keys: a filter that finds the rows; None if there is none to be had.
        self._where: ColumnElement[bool] | bool | None = None
        self._params: StatementParameters = {}
        if len(parameters) <= AFFECTED_ROWS_MAX:
            self._read(parameters)

    def _read(self, parameters: Sequence[StatementParameters]) -> None:
        where = self._statement.whereclause
        named, keys = [], []
        for each in parameters:
            row = key_equalities(where, self._table, each)
            key = primary_key(self._table, row)
            if key is None:
                break
            named.append(row)
            keys.append(key)
        if len(keys) == len(parameters):
            self.named, self.keys = named, keys
        elif len(parameters) == 1 and is_repeatable(self._statement, self._table):
            self._where = True if where is None else where
            self._params = given_to(where, parameters[0])

    @property
    def can_select(self) -> bool:
        """Whether the rows can be found, and locked until the statement runs."""
        locks = self._connection.dialect.name in _LOCKING
        return (self.keys is not None or self._where is not None) and self._held and locks

    def rows(self, names: Iterable[str], *, for_key: bool) -> list[dict[str, Any]] | None:
        """These columns of the rows as they stand, locked; None if they are too many or unknown.

        ``for_key`` also keeps others from inserting rows that refer to these.
        """
        columns = _named(self._table, names)
        if columns is None:
            return None
        where = self._where
        if self.keys is not None:
            where = _is_one_of(list(self._table.primary_key.columns), self.keys)
        return self._selected(columns, where, self._params, for_key=for_key)

    def children(
        self, interest: TableInterest, cascade: Cascade, parents: Sequence[ColumnValues]
    ) -> list[dict[str, Any]] | None:
        """The locked rows of a child table that refer to the parents; None if they are too many."""
        names = [column.name for column in (*interest.primary_key, *interest.watched)]
        columns = _named(cascade.table, names)
        if columns is None:
            return None
        referred = {tuple(row[parent.name] for parent, _ in cascade.keys) for row in parents}
        values = [key for key in referred if None not in key]
        if not values:
            return []
        referring = _is_one_of([child for _, child in cascade.keys], values)
        return self._selected(columns, referring, {}, for_key=True)

    def is_complete(self, rows: Sequence[ColumnValues]) -> bool:
        """Whether each row that the statement can possibly change is among these."""
        return self.keys is not None and len(rows) == len(set(self.keys))

    def _selected(
        self,
        columns: Sequence[Column[Any]],
        where: Any,
        params: StatementParameters,
        *,
        for_key: bool,
    ) -> list[dict[str, Any]] | None:
        query = select(*columns).limit(AFFECTED_ROWS_MAX + 1).with_for_update(key_share=not for_key)
        if where is not True:
            query = query.where(where)
        rows = self._connection.execute(query, params, execution_options=INTERNAL_OPTIONS).all()
        if len(rows) > AFFECTED_ROWS_MAX:
            return None
        names = [column.name for column in columns]
        return [dict(zip(names, row, strict=True)) for row in rows]


def primary_key(table: Table, row: ColumnValues) -> Key | None:
    """The row's primary key; None if part of it is not known."""
    values = []
    for column in table.primary_key.columns:
        value = row.get(column.name, UNKNOWN_VALUE)
        if value is UNKNOWN_VALUE:
            return None
        values.append(value)
    key = tuple(values)
    try:
        hash(key)
    except TypeError:
        return None
    return key or None


def _named(table: Table, names: Iterable[str]) -> list[Column[Any]] | None:
    by_name = {column.name: column for column in table.columns}
    wanted = dict.fromkeys(names)
    if not wanted or not all(name in by_name for name in wanted):
        return None
    return [by_name[name] for name in wanted]


def _is_one_of(columns: Sequence[Column[Any]], keys: Sequence[Key]) -> ColumnElement[bool]:
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)


AffectedRow = dict[str, Any]
CascadeTargets = Sequence[tuple[Cascade, TableInterest]]


@dataclass(frozen=True, slots=True)
class Change:
    """An UPDATE or DELETE: what it says, and what it sets (None for a DELETE)."""

    statement: Update | Delete
    table: Table
    interest: TableInterest | None
    affected: Affected
    sets: Sequence[AffectedRow] | None
    dialect: Dialect

    def for_key(self, exact: CascadeTargets) -> bool:
        """Whether others must be kept from inserting rows that refer to the affected ones."""
        return bool(exact) or isinstance(self.statement, Delete)

    def news(self) -> Mapping[Key, AffectedRow]:
        """The new values by primary key; a later parameter set of the same row adds to them."""
        found: dict[Key, AffectedRow] = {}
        for key, new in zip(self.affected.keys or (), self.sets or (), strict=False):
            found[key] = {**found.get(key, {}), **new}
        return found


def wanted(table: Table, interest: TableInterest | None, exact: CascadeTargets) -> list[str]:
    """The columns that the keys of the rows, and of those that refer to them, are made of."""
    columns = [*table.primary_key.columns]
    if interest is not None:
        columns += [*interest.primary_key, *interest.watched]
    columns += [parent for cascade, _ in exact for parent, _ in cascade.keys]
    return [column.name for column in columns]


def overlaid(old: AffectedRow, new: AffectedRow) -> AffectedRow:
    """The row after the statement; columns whose new value is not known are left out."""
    return {name: value for name, value in {**old, **new}.items() if value is not UNKNOWN_VALUE}
