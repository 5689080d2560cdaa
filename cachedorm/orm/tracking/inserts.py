"""The rows that an INSERT wrote, read from its parameters and its result."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.sql.dml import Insert

from cachedorm.orm.interest.tables import TableInterest
from cachedorm.orm.tracking.affected_rows import AFFECTED_ROWS_MAX
from cachedorm.orm.tracking.statement_rows import inserted_rows

InsertedRows = list[dict[str, Any]]


def rows_to_insert(
    statement: Insert, table: Table, interest: TableInterest, context: Any
) -> InsertedRows | None:
    """The rows by column name, each as far as it is known; None if any table row may be meant."""
    if statement.select is not None or len(context.compiled_parameters) > AFFECTED_ROWS_MAX:
        return None
    if not _is_exact(statement, interest):
        return None
    binds = context.compiled.binds
    rows = list(inserted_rows(statement, table, context.compiled_parameters, binds))
    for row in rows:
        for column in interest.primary_key:
            if row.get(column.name) is None:
                row.pop(column.name, None)  # not known, rather than null
    return rows


def add_generated_keys(
    rows: InsertedRows, interest: TableInterest, result: CursorResult[Any]
) -> None:
    """Add the primary keys that the database generated, if the statement returns them."""
    names = [column.name for column in interest.primary_key]
    if all(name in row for row in rows for name in names):
        return
    try:
        generated = result.inserted_primary_key_rows
    except InvalidRequestError:
        return
    if len(generated) != len(rows):
        return
    for row, key in zip(rows, generated, strict=True):
        known: Any = zip(names, key or (), strict=False)
        row.update({name: value for name, value in known if value is not None})


def is_certain(statement: Insert, rows: InsertedRows, count: int) -> bool:
    """Whether each of the rows was written, and is locked until our transaction ends."""
    return _conflict_clause(statement) is None or count == len(rows)


def changed_on_conflict(statement: Insert) -> frozenset[str] | None:
    """The columns of rows already there that the INSERT may change; None if it may replace them."""
    clause = _conflict_clause(statement)
    if statement._prefixes:
        return None
    if clause is None or clause.__visit_name__ == "on_conflict_do_nothing":
        return frozenset()
    if clause.__visit_name__ != "on_conflict_do_update":
        return None
    # A list of pairs in 2.0, a dict in 2.1.
    return frozenset(_name(statement, name) for name in dict(clause.update_values_to_set))


def _is_exact(statement: Insert, interest: TableInterest) -> bool:
    """Whether the parameters name every key that an INSERT ... ON CONFLICT may change.

    DO NOTHING changes no row but its own. DO UPDATE changes the row that holds the same conflict
    target; if all that keys are made of is in that target and stays, the parameters say it all.
    """
    changed = changed_on_conflict(statement)
    if changed is None or statement._independent_ctes:
        return False
    if not changed:
        return True
    elements = _conflict_clause(statement).inferred_target_elements or ()
    target = {_name(statement, each) for each in elements}
    needed = {column.name for column in (*interest.primary_key, *interest.watched)}
    return needed <= target and not needed & changed


def _conflict_clause(statement: Insert) -> Any:
    return getattr(statement, "_post_values_clause", None)


def _name(statement: Insert, column: Any) -> Any:
    known = statement.table.columns.get(column) if isinstance(column, str) else column
    return getattr(known, "name", column)
