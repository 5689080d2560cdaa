"""What the rows of a query are made of: whole entities and single columns, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, TypeDecorator, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.types import NullType, TypeEngine

from cachedorm.declare.kinds import kind_of
from cachedorm.declare.loading import why_not_loaded
from cachedorm.declare.shape import RowShape, loose_row_shape
from cachedorm.errors import DeclarationError
from cachedorm.orm.hydrate import hydrate_each
from cachedorm.orm.rowplan import RowPlan, own_value, restorer_of
from cachedorm.store.codec import Kind


@dataclass(frozen=True, slots=True)
class EntityElement:
    """An entity: a slice of the stored row becomes an object of the session."""

    name: str
    entity: Any
    plan: RowPlan
    start: int
    stop: int

    def values(self, session: Session, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The session's object for each row; None where an outer join found none."""
        start, stop, live = self.start, self.stop, self.plan.live
        if start or (rows and len(rows[0]) > stop):
            mine = [live(row[start:stop]) for row in rows]
        else:
            mine = [live(row) for row in rows]
        return hydrate_each(session, self.plan, mine)

    @property
    def extra(self) -> tuple[Any, ...]:
        """By what else than its name a row finds it."""
        return (self.entity,)


@dataclass(frozen=True, slots=True)
class ColumnElement:
    """A column, an aggregate, an expression: the stored value, as its type gives it."""

    name: str
    expression: Any
    start: int
    restorer: TypeDecorator[Any] | None
    dialect: Dialect

    def values(self, session: Session, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The value in each row; the session has no part in it."""
        start, restorer = self.start, self.restorer
        if restorer is None:
            return [row[start] for row in rows]
        return [restorer.process_result_value(row[start], self.dialect) for row in rows]

    @property
    def extra(self) -> tuple[Any, ...]:
        """By what else than its name a row finds it."""
        return (self.expression,)


Element = EntityElement | ColumnElement


@dataclass(frozen=True, slots=True)
class Stored:
    """One value of a stored row: its name and kind. ``untyped``: as whatever the driver gave."""

    name: str
    kind: Kind
    untyped: bool = False


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of a query's rows, what is stored of them, and the SELECT that reads it."""

    each: tuple[Element, ...]
    stored: tuple[Stored, ...]
    statement: SelectBase
    whole: SelectBase


def elements_of(statement: SelectBase, dialect: Dialect, who: str) -> Elements:
    """Take a statement's rows apart; DeclarationError for a column that cannot be stored."""
    whole = statement
    reason = why_not_loaded(statement)
    if reason is not None:
        raise DeclarationError(f"{who}: {reason}")
    each: list[Element] = []
    stored: list[Stored] = []
    columns: list[Any] = []
    for description in _descriptions(statement):
        name, expression = description["name"], description["expr"]
        entity = _whole_entity(description)
        start = len(stored)
        if entity is None:
            stored.append(_stored(name, description["type"], dialect, who))
            restorer = restorer_of(description["type"], dialect)
            if restorer is not None and not isinstance(statement, Select):
                raise DeclarationError(
                    f"{who}: column {name!r} has type {restorer!r}, whose stored value a UNION does"
                    " not give; select from the union's subquery()"
                )
            columns.append(expression if restorer is None else own_value(expression, dialect))
            each.append(ColumnElement(name, expression, start, restorer, dialect))
            continue
        mapper: Mapper[Any] = inspect(entity).mapper
        _check_entity(mapper, who)
        shape: RowShape = loose_row_shape(mapper)
        attributes = [(one.name, getattr(entity, one.name)) for one in shape.attributes]
        stored += [_stored(one, column.type, dialect, who) for one, column in attributes]
        columns += [own_value(column, dialect) for _, column in attributes]
        plan = RowPlan(shape, mapper, dialect)
        each.append(EntityElement(name, entity, plan, start, len(stored)))
    if isinstance(statement, Select) and _is_taken_apart(each):
        statement = statement.with_only_columns(*columns, maintain_column_froms=True)
    return Elements(tuple(each), tuple(stored), statement, whole)


def _is_taken_apart(each: Sequence[Element]) -> bool:
    return any(isinstance(one, EntityElement) or one.restorer is not None for one in each)


def first_mapper(statement: SelectBase) -> Mapper[Any] | None:
    """A mapper that the statement's columns belong to, for the choice of a database."""
    for description in _descriptions(statement):
        entity = description.get("entity")
        if entity is not None:
            mapper: Mapper[Any] = inspect(entity).mapper
            return mapper
    return None


def _descriptions(statement: SelectBase) -> list[dict[str, Any]]:
    described = getattr(statement, "column_descriptions", None)
    if described is not None:
        found: list[dict[str, Any]] = list(described)
        return found
    return [
        {"name": column.key, "expr": column, "type": column.type, "entity": None}
        for column in statement.selected_columns
    ]


def _whole_entity(description: dict[str, Any]) -> Any:
    expression, entity = description["expr"], description.get("entity")
    if entity is None:
        return None
    return entity if expression is entity else None


def _check_entity(mapper: Mapper[Any], who: str) -> None:
    if mapper.polymorphic_on is not None and len(list(mapper.self_and_descendants)) > 1:
        raise DeclarationError(
            f"{who}: {mapper.class_.__name__} has subclasses, whose rows one SELECT does not hold"
            " whole; select a class without subclasses, or columns"
        )


def _stored(name: str, type_: Any, dialect: Dialect, who: str) -> Stored:
    if isinstance(type_, NullType):  # avg() has no declared type
        return Stored(name, Kind.BYTES, untyped=True)
    # A Bundle of columns says its own class for a type.
    kind = kind_of(type_, dialect) if isinstance(type_, TypeEngine) else None
    if kind is None:
        raise DeclarationError(
            f"{who}: column {name!r} has type {type_!r}, which cannot be stored exactly;"
            " leave it out, or give it a type with type_coerce()"
        )
    return Stored(name, kind)
