"""Which rows a statement writes, read off the statement: key equalities, new values, parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.dml import Delete, Insert, Update, UpdateBase
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.visitors import iterate

StatementParameters = Mapping[str, Any]


class _Unknown:
    """A value that only the database knows."""

    def __repr__(self) -> str:
        return "UNKNOWN_VALUE"


UNKNOWN_VALUE = _Unknown()


def parameter_sets(
    multiparams: Sequence[StatementParameters] | None, params: StatementParameters | None
) -> list[StatementParameters]:
    """The parameter sets of one execution, as ``before_execute`` gives them."""
    return list(multiparams) if multiparams else [params or {}]


def table_of(statement: UpdateBase) -> Table | None:
    """The table that a statement writes; None if it is an alias, a join or the like."""
    table = getattr(statement, "table", None)
    if not isinstance(table, Table):
        return None
    # The ORM hands in an annotated copy; its columns are copies as well.
    plain: Table = table._deannotate() if table._annotations else table
    return plain


def is_repeatable(statement: Update | Delete, table: Table) -> bool:
    """Whether a SELECT with the statement's own filter finds the rows that the statement does.

    Only what is known to: columns of this table, values and operators. A further table, a
    subquery or text may hide anything, and a function may answer differently the second time.
    """
    if statement._independent_ctes or getattr(statement, "_prefixes", ()):
        return False
    where = statement.whereclause
    return where is None or all(_is_harmless(element, table) for element in iterate(where))


def given_to(where: ColumnElement[bool] | None, params: StatementParameters) -> StatementParameters:
    """The parameters that the filter takes from the statement's."""
    if where is None or not params:
        return {}
    names = {element.key for element in iterate(where) if isinstance(element, BindParameter)}
    return {name: value for name, value in params.items() if name in names}


_HARMLESS = frozenset(
    {
        "binary",
        "bindparam",
        "cast",
        "clauselist",
        "collation",
        "expression_clauselist",
        "false",
        "grouping",
        "null",
        "true",
        "tuple",
        "type_coerce",
        "typeclause",
        "unary",
    }
)


def _is_harmless(element: Any, table: Table) -> bool:
    if element.__visit_name__ == "column":
        # Annotated tables are copies: they compare as the table they stand for.
        return not element.is_literal and hash(element.table) == hash(table)
    return element.__visit_name__ in _HARMLESS


def key_equalities(
    where: ColumnElement[bool] | None, table: Table, params: StatementParameters
) -> dict[str, Any]:
    """The columns of the table that the filter holds equal to a value, with that value."""
    found: dict[str, Any] = {}
    waiting = [where]
    while waiting:
        element = waiting.pop(0)
        if isinstance(element, BooleanClauseList):
            if element.operator is operators.and_:
                waiting[:0] = element.clauses
            continue
        pair = None if element is None else _equality(element, table)
        if pair is not None:
            column, bound = pair
            found[column.name] = _bound_value(bound, params)
    return found


def set_values(statement: Update, table: Table, params: StatementParameters) -> dict[str, Any]:
    """What an UPDATE sets, by column name; UNKNOWN_VALUE where only the database can say."""
    found: dict[str, Any] = {}
    for column in table.columns:
        if column.onupdate is not None or column.server_onupdate is not None:
            found[column.name] = UNKNOWN_VALUE
    mapper = _mapper_of(statement)
    for name, value in params.items():
        columns = _targets(mapper, table, name)
        for column in columns:
            found[column.name] = value if len(columns) == 1 else UNKNOWN_VALUE
    # 2.0 keeps ordered values apart.
    for values in (statement._values, getattr(statement, "_ordered_values", None)):
        if not values:
            continue
        for target, value in _pairs(values):
            columns = _targets(mapper, table, target)
            if not columns:
                # A hybrid, a composite, a synonym: any column may be behind it.
                return {column.name: UNKNOWN_VALUE for column in table.columns}
            new = _literal(value, params) if len(columns) == 1 else UNKNOWN_VALUE
            found.update({column.name: new for column in columns})
    return found


def inserted_rows(
    statement: Insert,
    table: Table,
    compiled_parameters: Sequence[StatementParameters],
    binds: Mapping[str, BindParameter[Any]],
) -> Iterator[dict[str, Any]]:
    """What an INSERT put into each row, by column name, as far as its parameters tell."""
    multiple = statement._multi_values
    if multiple:
        for group in multiple:
            for values in group:
                yield _inserted_row(statement, table, values)
        return
    columns = [column for column in table.columns if _is_bound(statement, column, binds)]
    for parameters in compiled_parameters:
        yield {
            column.name: parameters[column.key] for column in columns if column.key in parameters
        }


def _is_bound(
    statement: Insert, column: Column[Any], binds: Mapping[str, BindParameter[Any]]
) -> bool:
    """Whether the parameter that is named like the column is the column's value.

    A bind of the application's own may have that name anywhere in the statement.
    """
    bind = binds.get(column.key)
    if bind is None or bind._is_crud:
        return bind is not None
    return any(
        getattr(target, "key", target) == column.key
        and isinstance(value, BindParameter)
        and value.key == column.key
        for target, value in _pairs(statement._values)
    )


def _inserted_row(statement: Insert, table: Table, values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pairs = values.items() if isinstance(values, Mapping) else zip(table.columns, values)  # noqa: B905
    for target, value in pairs:
        literal = _literal(value, {})
        columns = _targets(_mapper_of(statement), table, target)
        if len(columns) == 1 and literal is not UNKNOWN_VALUE:
            found[columns[0].name] = literal
    return found


def _targets(mapper: Any, table: Table, target: Any) -> list[Column[Any]]:
    """The columns that a name or column of VALUES or SET may mean, in a statement of the mapper."""
    name = getattr(target, "key", target)
    if mapper is None:
        column = table.columns.get(name)
        return [] if column is None else [column]
    found: dict[str, Column[Any]] = {}
    if name in table.columns:
        found[table.columns[name].name] = table.columns[name]
    # The ORM's names are those of attributes, which may be other columns' names.
    if name in mapper.all_orm_descriptors:
        if name not in mapper.column_attrs:
            return []
        for column in mapper.column_attrs[name].columns:
            if hash(column.table) == hash(table):
                found[column.name] = column
    return list(found.values())


def _mapper_of(statement: Insert | Update) -> Any:
    subject = statement.table._propagate_attrs.get("plugin_subject")
    return getattr(subject, "mapper", None)


def _equality(
    element: ColumnElement[Any], table: Table
) -> tuple[Column[Any], BindParameter[Any]] | None:
    if not isinstance(element, BinaryExpression) or element.operator is not operators.eq:
        return None
    for one, other in ((element.left, element.right), (element.right, element.left)):
        if getattr(one, "table", None) is None or not isinstance(other, BindParameter):
            continue
        column = table.columns.get(getattr(one, "key", ""))
        # Annotated columns are copies: they compare as the column they stand for.
        if column is not None and hash(column) == hash(one):
            return column, other
    return None


def _bound_value(bound: BindParameter[Any], params: StatementParameters) -> Any:
    if bound.key in params:
        return params[bound.key]
    return UNKNOWN_VALUE if bound.required else bound.effective_value


def _literal(value: Any, params: StatementParameters) -> Any:
    if isinstance(value, BindParameter):
        return _bound_value(value, params)
    return UNKNOWN_VALUE if hasattr(value, "__clause_element__") or _is_clause(value) else value


def _is_clause(value: Any) -> bool:
    return hasattr(value, "__visit_name__")


def _pairs(pairs: Any) -> Iterable[tuple[Any, Any]]:
    if pairs is None:
        return ()
    found: Iterable[tuple[Any, Any]] = pairs.items() if isinstance(pairs, Mapping) else pairs
    return found
