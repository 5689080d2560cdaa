"""``tag``: name a column's value that cached queries depend on, to invalidate them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import QueryableAttribute

from cachedorm.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Tag:
    """The rows of a table that have this value in this column."""

    table: Table
    column: Column[Any]
    value: Any

    def __str__(self) -> str:
        return f"{self.table.fullname}.{self.column.name}={self.value!r}"


def tag(column: QueryableAttribute[Any] | ColumnElement[Any], value: Any) -> Tag:
    """The rows with this value in this column: ``cache.invalidate(tag(Mission.user_id, 42))``.

    ``column`` is a mapped attribute or a column of a Table. Raises ArgumentError for anything else,
    and for the value None, since no equality finds a NULL.
    """
    found = _column_of(column)
    if found is None or not isinstance(found.table, Table):
        raise ArgumentError(
            f"tag({column!r}, ...): expected a column, as in tag(Mission.user_id, 42)"
        )
    if value is None:
        raise ArgumentError(
            f"tag({found}, None): no equality finds a NULL, so no query has this tag"
        )
    return Tag(found.table, found, value)


def _column_of(given: Any) -> Column[Any] | None:
    if isinstance(given, Column):
        return given
    try:
        inspect(given)
    except NoInspectionAvailable:
        return None
    columns: list[Any] = list(getattr(getattr(given, "property", None), "columns", ()))
    return columns[0] if columns and isinstance(columns[0], Column) else None
