"""Which relationships a statement loads along with its rows: its answer depends on them too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import ColumnProperty, Mapper, RelationshipProperty
from sqlalchemy.sql.selectable import SelectBase

_EAGER = frozenset({"joined", "selectin", "subquery", "immediate", False})


def eager_relations(statement: SelectBase) -> tuple[RelationshipProperty[Any], ...]:
    """The relationships that the statement's options, or its mappers, load eagerly."""
    found: dict[RelationshipProperty[Any], None] = {}
    lazy: set[RelationshipProperty[Any]] = set()
    for option in getattr(statement, "_with_options", ()):
        for element in getattr(option, "context", ()):
            relation, how = _loaded(element)
            if relation is None:
                continue
            if how in _EAGER:
                found.update(dict.fromkeys(_relations_on(element)))
            else:
                lazy.add(relation)
    for mapper in _entities(statement):
        for relation in _by_default(mapper, set()):
            if relation not in lazy:
                found[relation] = None
    return tuple(found)


def undeferred(statement: SelectBase) -> Iterator[str]:
    """The deferred columns that the statement's options load at once."""
    for option in getattr(statement, "_with_options", ()):
        for element in getattr(option, "context", ()):
            if dict(element.strategy or ()).get("deferred") is not False:
                continue
            column = element.path.natural_path[-1]
            if isinstance(column, ColumnProperty) and column.deferred:
                yield str(column)


def repeats_itself(statement: SelectBase) -> bool:
    """Whether loading goes on with a copy of the statement, values and all (``subqueryload``)."""
    if any(relation.lazy == "subquery" for relation in eager_relations(statement)):
        return True
    return any(
        dict(element.strategy or ()).get("lazy") == "subquery"
        for option in getattr(statement, "_with_options", ())
        for element in getattr(option, "context", ())
    )


def tables_of(relation: RelationshipProperty[Any]) -> tuple[Table, ...]:
    """The tables that loading a relationship reads."""
    tables = [table for table in relation.mapper.tables if isinstance(table, Table)]
    if isinstance(relation.secondary, Table):
        tables.append(relation.secondary)
    return tuple(tables)


def _loaded(element: Any) -> tuple[RelationshipProperty[Any] | None, Any]:
    relations = _relations_on(element)
    strategy = dict(element.strategy) if element.strategy else {}
    return (relations[-1] if relations else None), strategy.get("lazy")


def _relations_on(element: Any) -> list[RelationshipProperty[Any]]:
    path = element.path.natural_path
    return [step for step in path if isinstance(step, RelationshipProperty)]


def _entities(statement: SelectBase) -> Iterator[Mapper[Any]]:
    for description in getattr(statement, "column_descriptions", ()):
        entity = description.get("entity")  # a Core statement has none
        if entity is not None and description["expr"] is entity:
            yield inspect(entity).mapper


def _by_default(
    mapper: Mapper[Any], seen: set[RelationshipProperty[Any]]
) -> Iterator[RelationshipProperty[Any]]:
    for relation in mapper.relationships:
        if relation.lazy in _EAGER and relation not in seen:
            seen.add(relation)
            yield relation
            yield from _by_default(relation.mapper, seen)
