"""An UPDATE or DELETE that is being recorded: its table, what it sets, what its rows become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.dml import Delete, Update

from cachedorm.orm.affected import Affected, Key
from cachedorm.orm.cascades import Cascade
from cachedorm.orm.interest import TableInterest
from cachedorm.orm.rows import UNKNOWN

Row = dict[str, Any]
Followed = Sequence[tuple[Cascade, TableInterest]]


@dataclass(frozen=True, slots=True)
class Change:
    """An UPDATE or DELETE: what it says, and what it sets (None for a DELETE)."""

    statement: Update | Delete
    table: Table
    interest: TableInterest | None
    affected: Affected
    sets: Sequence[Row] | None
    dialect: Dialect

    def for_key(self, exact: Followed) -> bool:
        """Whether others must be kept from inserting rows that refer to the affected ones."""
        return bool(exact) or isinstance(self.statement, Delete)

    def news(self) -> Mapping[Key, Row]:
        """The new values by primary key; a later parameter set of the same row adds to them."""
        found: dict[Key, Row] = {}
        for key, new in zip(self.affected.keys or (), self.sets or (), strict=False):
            found[key] = {**found.get(key, {}), **new}
        return found


def wanted(table: Table, interest: TableInterest | None, exact: Followed) -> list[str]:
    """The columns that the keys of the rows, and of those that refer to them, are made of."""
    columns = [*table.primary_key.columns]
    if interest is not None:
        columns += [*interest.primary_key, *interest.watched]
    columns += [parent for cascade, _ in exact for parent, _ in cascade.keys]
    return [column.name for column in columns]


def overlaid(old: Row, new: Row) -> Row:
    """The row after the statement; columns whose new value is not known are left out."""
    return {name: value for name, value in {**old, **new}.items() if value is not UNKNOWN}
