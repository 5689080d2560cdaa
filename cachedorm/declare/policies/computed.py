"""Computed attributes (``column_property``): which of them change only when their own row does."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate

# Functions of their arguments alone. Others may look at the clock, at settings, at other tables.
_PURE = frozenset(
    {
        *("abs", "ceil", "char_length", "coalesce", "concat", "floor", "greatest", "initcap"),
        *("least", "left", "length", "lower", "ltrim", "md5", "mod", "nullif", "power"),
        *("replace", "reverse", "right", "round", "rtrim", "sign", "sqrt", "substr"),
        *("substring", "trim", "upper"),
    }
)
_WRITTEN_OUT = frozenset({"textclause", "column"})


def why_not_followed(mapper: Mapper[Any], column: ColumnElement[Any]) -> str | None:
    """What an attribute is computed from that writes to its own row do not tell, or None."""
    if isinstance(column, Column):
        return None
    for element in iterate(column):
        reason = _why(mapper, element)
        if reason is not None:
            return reason
    return None


def _why(mapper: Mapper[Any], element: Any) -> str | None:
    if isinstance(element, SelectBase):
        return "a query, whose rows this entry would not follow"
    if isinstance(element, FunctionElement) and element.name.lower() not in _PURE:
        return f"{element.name}(), which may change while the row does not"
    table = getattr(element, "table", None)
    if isinstance(table, Table) and table not in mapper.tables:
        return f"{table.fullname}, whose writes this entry would not follow"
    if element.__visit_name__ in _WRITTEN_OUT and not isinstance(table, Table):
        return f"{element}, which is not known to stay as it is"
    return None
