"""The relationships that a statement loads eagerly, on which its answer depends as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ClauseElement, FromClause, Table, inspect
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.sql.visitors import iterate

from cachedorm.declare.queries.analysable import check_analysable, tables_within

_EAGER = frozenset({"joined", "selectin", "subquery", "immediate", False})


def eager_relations(statement: SelectBase) -> tuple[RelationshipProperty[Any], ...]:
    """The relationships that the statement's options, or its mappers, load eagerly."""
    found: dict[RelationshipProperty[Any], None] = {}
    lazy: set[RelationshipProperty[Any]] = set()
    for element in option_elements(statement):
        path = relations_on(element)
        if not path:
            continue
        if dict(element.strategy or ()).get("lazy") in _EAGER:
            found.update(dict.fromkeys(path))
        elif len(path) == 1:
            lazy.add(path[0])
    for relation in tuple(found):
        found.update(dict.fromkeys(_by_default(relation.mapper, set())))
    for mapper in _entities(statement):
        found.update(dict.fromkeys(_by_default(mapper, set(lazy))))
    return tuple(found)


def eager_tables(statement: SelectBase) -> Iterator[Table]:
    """The tables that are read for the eager relationships, some more than once."""
    for relation in eager_relations(statement):
        # A relationship loads objects of subclasses too, with all their columns.
        for mapper in relation.mapper.self_and_descendants:
            yield from (table for table in mapper.tables if isinstance(table, Table))
    for each in (*asked_conditions(statement), *declared_conditions(statement)):
        # A column outside of a SELECT belongs to the parent or to the related class.
        for inner in iterate(each):
            if isinstance(inner, SelectBase):
                yield from tables_within(inner)
    for source in eager_sources(statement):
        yield from tables_within(source)


def check_eager(statement: SelectBase) -> None:
    """Raise NotAnalysable for what may change the relationships without a write to a row."""
    conditions = (*asked_conditions(statement), *declared_conditions(statement))
    for each in (*conditions, *eager_sources(statement)):
        check_analysable(each)


def asked_conditions(statement: SelectBase) -> Iterator[ClauseElement]:
    """The conditions that the statement's options add to relationships (``and_()``)."""
    for element in option_elements(statement):
        if relations_on(element):
            yield from getattr(element, "_extra_criteria", ())


def declared_conditions(statement: SelectBase) -> Iterator[ClauseElement]:
    """The relationships' own conditions and orders."""
    for relation in eager_relations(statement):
        joined = (relation.primaryjoin, relation.secondaryjoin, *(relation.order_by or ()))
        yield from (each for each in joined if each is not None)


def eager_sources(statement: SelectBase) -> Iterator[FromClause]:
    """The sources of related rows other than the related classes' tables."""
    relations = eager_relations(statement)
    entities: list[Any] = [relation.entity for relation in relations]
    entities += [getattr(each, "_of_type", None) for each in option_elements(statement)]
    for entity in entities:
        if getattr(entity, "is_aliased_class", False):
            yield entity.selectable
    yield from (each.secondary for each in relations if each.secondary is not None)


def option_elements(statement: SelectBase) -> Iterator[Any]:
    """The statement's loader options, attribute by attribute."""
    for option in getattr(statement, "_with_options", ()):
        yield from getattr(option, "context", ())


def relations_on(element: Any) -> list[RelationshipProperty[Any]]:
    """The relationships on the path of a loader option."""
    path = element.path.natural_path
    return [step for step in path if isinstance(step, RelationshipProperty)]


def repeats_itself(statement: SelectBase) -> bool:
    """Whether a loader runs a copy of the statement, with its values (``subqueryload``)."""
    if any(relation.lazy == "subquery" for relation in eager_relations(statement)):
        return True
    return any(
        dict(element.strategy or ()).get("lazy") == "subquery"
        for element in option_elements(statement)
    )


def _entities(statement: SelectBase) -> Iterator[Mapper[Any]]:
    for description in getattr(statement, "column_descriptions", ()):
        entity = description.get("entity")  # a Core statement has none
        if entity is not None and description["expr"] is entity:
            yield inspect(entity).mapper


def _by_default(
    mapper: Mapper[Any], seen: set[RelationshipProperty[Any]]
) -> Iterator[RelationshipProperty[Any]]:
    relations = (each for one in mapper.self_and_descendants for each in one.relationships)
    for relation in relations:
        if relation.lazy in _EAGER and relation not in seen:
            seen.add(relation)
            yield relation
            yield from _by_default(relation.mapper, seen)
