"""Which rows a statement writes, read off the statement: key equalities, new values, parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.visitors import iterate

Parameters = Mapping[str, Any]


class _Unknown:
    """A value that only the database knows."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


def parameter_sets(
    multiparams: Sequence[Parameters] | None, params: Parameters | None
) -> list[Parameters]:
    """The parameter sets of one execution, as ``before_execute`` gives them."""
    return list(multiparams) if multiparams else [params or {}]


def is_plain(statement: Update | Delete) -> bool:
    """Whether the affected rows can be selected beforehand with the statement's own filter.

    Not with CTEs, further tables or prefixes, where the filter alone does not say it.
    """
    target = statement.table
    if statement._independent_ctes or getattr(statement, "_prefixes", ()):
        return False
    where = statement.whereclause
    if where is None:
        return True
    for element in iterate(where):
        table = getattr(element, "table", None)
        if isinstance(table, Table) and table is not target:
            return False
        if element.__visit_name__ in _OPAQUE_ELEMENTS:
            return False
    return True


_OPAQUE_ELEMENTS = frozenset({"textclause", "select", "cte", "alias", "subquery", "scalar_select"})


def key_equalities(
    where: ColumnElement[bool] | None, table: Table, params: Parameters
) -> dict[str, Any]:
    """The columns of the table that the filter holds equal to a value, with that value."""
    found: dict[str, Any] = {}
    for element in _conjuncts(where):
        pair = _equality(element, table)
        if pair is not None:
            column, bound = pair
            found[column.name] = _bound_value(bound, params)
    return found


def set_values(statement: Update, params: Parameters) -> dict[str, Any]:
    """What an UPDATE sets, by column name; UNKNOWN where only the database can say."""
    table = statement.table
    found: dict[str, Any] = {
        column.name: UNKNOWN
        for column in table.columns
        if column.onupdate is not None or column.server_onupdate is not None
    }
    if statement._multi_values:  # type: ignore[attr-defined]
        return {column.name: UNKNOWN for column in table.columns}
    by_key = {column.key: column for column in table.columns}
    for name, value in params.items():
        if name in by_key:
            found[by_key[name].name] = value
    # 2.0 keeps ordered values apart.
    for pairs in (statement._values, getattr(statement, "_ordered_values", None)):
        for target, value in _pairs(pairs):
            column = by_key.get(getattr(target, "key", target))
            if column is not None:
                found[column.name] = _literal(value, params)
    return found


def inserted_rows(
    statement: Insert, compiled_parameters: Sequence[Parameters]
) -> Iterator[dict[str, Any]]:
    """What an INSERT put into each row, by column name, as far as its parameters tell."""
    columns = list(statement.table.columns)
    multiple = statement._multi_values  # type: ignore[attr-defined]
    if multiple:
        for group in multiple:
            for values in group:
                pairs = values.items() if isinstance(values, Mapping) else zip(columns, values)
                yield {
                    getattr(target, "name", target): literal
                    for target, value in pairs
                    if (literal := _literal(value, {})) is not UNKNOWN
                }
        return
    for parameters in compiled_parameters:
        yield {
            column.name: parameters[column.key] for column in columns if column.key in parameters
        }


def _conjuncts(where: ColumnElement[bool] | None) -> Iterator[ColumnElement[Any]]:
    if isinstance(where, BooleanClauseList):
        if where.operator is operators.and_:
            for clause in where.clauses:
                yield from _conjuncts(clause)
    elif where is not None:
        yield where


def _equality(
    element: ColumnElement[Any], table: Table
) -> tuple[Column[Any], BindParameter[Any]] | None:
    if not isinstance(element, BinaryExpression) or element.operator is not operators.eq:
        return None
    for one, other in ((element.left, element.right), (element.right, element.left)):
        name = getattr(one, "name", None)
        if getattr(one, "table", None) is None or not isinstance(other, BindParameter):
            continue
        column = table.columns.get(getattr(one, "key", name))
        # Annotated columns are copies: they compare as the column they stand for.
        if column is not None and hash(column) == hash(one):
            return column, other
    return None


def _bound_value(bound: BindParameter[Any], params: Parameters) -> Any:
    if bound.key in params:
        return params[bound.key]
    return UNKNOWN if bound.required else bound.effective_value


def _literal(value: Any, params: Parameters) -> Any:
    if isinstance(value, BindParameter):
        return _bound_value(value, params)
    return UNKNOWN if hasattr(value, "__clause_element__") or _is_clause(value) else value


def _is_clause(value: Any) -> bool:
    return hasattr(value, "__visit_name__")


def _pairs(pairs: Any) -> Iterator[tuple[Any, Any]]:
    if pairs is None:
        return
    yield from pairs.items() if isinstance(pairs, Mapping) else pairs
