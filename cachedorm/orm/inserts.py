"""The rows that an INSERT put in, told from its parameters and what it returned."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.sql.dml import Insert

from cachedorm.orm.affected import ROWS_MAX
from cachedorm.orm.interest import TableInterest
from cachedorm.orm.rows import inserted_rows


def rows_of_insert(
    statement: Insert, interest: TableInterest, result: CursorResult[Any]
) -> list[dict[str, Any]] | None:
    """The rows by column name, each as far as it is known; None if any table row may be meant."""
    context: Any = result.context
    if statement.select is not None or len(context.compiled_parameters) > ROWS_MAX:
        return None
    if not _is_exact(statement, interest):
        return None
    rows = list(inserted_rows(statement, context.compiled_parameters))
    _add_generated_keys(rows, interest, result)
    return rows


def _add_generated_keys(
    rows: list[dict[str, Any]], interest: TableInterest, result: CursorResult[Any]
) -> None:
    names = [column.name for column in interest.primary_key]
    if all(row.get(name) is not None for row in rows for name in names):
        return
    for row in rows:
        for name in names:
            if row.get(name) is None:
                row.pop(name, None)  # not known, rather than null
    try:
        generated = result.inserted_primary_key_rows
    except InvalidRequestError:
        return
    if len(generated) != len(rows):
        return
    for row, key in zip(rows, generated, strict=True):
        known = zip(names, key, strict=True)
        row.update({name: value for name, value in known if value is not None})


def _is_exact(statement: Insert, interest: TableInterest) -> bool:
    """Whether the parameters name every key that an INSERT ... ON CONFLICT may change.

    DO NOTHING changes no row but its own. DO UPDATE changes the row that holds the same conflict
    target; if all that keys are made of is in that target and stays, the parameters say it all.
    """
    clause = getattr(statement, "_post_values_clause", None)
    if statement._prefixes or statement._independent_ctes:
        return False
    if clause is None or clause.__visit_name__ == "on_conflict_do_nothing":
        return True
    if clause.__visit_name__ != "on_conflict_do_update":
        return False
    target = {_name(each) for each in clause.inferred_target_elements or ()}
    # A list of pairs in 2.0, a dict in 2.1.
    changed = {_name(name) for name in dict(clause.update_values_to_set)}
    needed = {column.name for column in (*interest.primary_key, *interest.watched)}
    return needed <= target and not needed & changed


def _name(column: Any) -> Any:
    return getattr(column, "name", column)
