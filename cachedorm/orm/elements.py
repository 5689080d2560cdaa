"""What the rows of a query are made of: whole entities and single columns, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, Select, TypeDecorator, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.types import NullType

from cachedorm.declare.eager import undeferred
from cachedorm.declare.kinds import decorator_of, kind_of
from cachedorm.declare.shape import Attribute, RowShape, loose_row_shape
from cachedorm.errors import DeclarationError
from cachedorm.orm.hydrate import hydrate
from cachedorm.orm.plan import RowPlan
from cachedorm.store.codec import Kind, decode_plain, encode_plain


@dataclass(frozen=True, slots=True)
class EntityElement:
    """An entity: a slice of the stored row becomes an object of the session."""

    name: str
    entity: Any
    plan: RowPlan
    start: int
    stop: int

    def value(self, session: Session, row: Sequence[Any]) -> Any:
        """The session's object; None where an outer join found none."""
        values = tuple(row[self.start : self.stop])
        identity = tuple(values[position] for position in self.plan.key_positions)
        if all(part is None for part in identity):
            return None
        key = (self.plan.mapper._identity_class, identity, None)
        return hydrate(session, self.plan, key, values)

    @property
    def extra(self) -> tuple[Any, ...]:
        """By what else than its name a row finds it."""
        return (self.entity,)


@dataclass(frozen=True, slots=True)
class ColumnElement:
    """A column, an aggregate, an expression: the stored value as it is."""

    name: str
    expression: Any
    start: int

    def value(self, session: Session, row: Sequence[Any]) -> Any:
        """The value; the session has no part in it."""
        return row[self.start]

    @property
    def extra(self) -> tuple[Any, ...]:
        """By what else than its name a row finds it."""
        return (self.expression,)


Element = EntityElement | ColumnElement


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of a query's rows, what is stored of them, and the SELECT that reads it."""

    each: tuple[Element, ...]
    attributes: tuple[Attribute, ...]
    statement: SelectBase
    whole: SelectBase


def elements_of(statement: SelectBase, dialect: Dialect, who: str) -> Elements:
    """Take a statement's rows apart; DeclarationError for a column that cannot be stored."""
    whole = statement
    for column in undeferred(statement):
        raise DeclarationError(
            f"{who}: undefer({column}) loads what an entry does not hold, since a hit's objects"
            " leave deferred columns for when they are touched; select the column beside the entity"
        )
    each: list[Element] = []
    attributes: list[Attribute] = []
    columns: list[Any] = []
    for description in _descriptions(statement):
        name, expression = description["name"], description["expr"]
        entity = _whole_entity(description)
        start = len(attributes)
        if entity is None:
            attributes.append(_stored(name, expression, description["type"], who))
            columns.append(expression)
            each.append(ColumnElement(name, expression, start))
            continue
        mapper: Mapper[Any] = inspect(entity).mapper
        _check_entity(mapper, who)
        shape: RowShape = loose_row_shape(mapper)
        attributes.extend(shape.attributes)
        columns.extend(getattr(entity, attribute.name) for attribute in shape.attributes)
        plan = RowPlan(shape, mapper, dialect)
        each.append(EntityElement(name, entity, plan, start, len(attributes)))
    if isinstance(statement, Select) and any(isinstance(one, EntityElement) for one in each):
        statement = statement.with_only_columns(*columns, maintain_column_froms=True)
    return Elements(tuple(each), tuple(attributes), statement, whole)


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


class Untyped(TypeDecorator[Any]):
    """How a value of no declared type is stored (``avg()`` has none): as what the driver gave."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes:
        """The value as bytes that bring it back exactly; raises NotCacheable."""
        return encode_plain(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """The value again."""
        return decode_plain(value)


def _stored(name: str, expression: Any, type_: Any, who: str) -> Attribute:
    if isinstance(type_, NullType):
        return Attribute(name, expression, Kind.BYTES, Untyped())
    kind = kind_of(type_)
    if kind is None:
        raise DeclarationError(
            f"{who}: column {name!r} has type {type_!r}, which cannot be stored exactly;"
            " leave it out, or give it a type with type_coerce()"
        )
    return Attribute(name, expression, kind, decorator_of(type_))
