"""How the result of a query is stored: its rows as values, or its objects as a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Select, TypeDecorator, inspect
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.types import NullType, TypeEngine

from cachedorm.declare.kinds import kind_of
from cachedorm.declare.policies.shape import RowShape, loose_row_shape
from cachedorm.declare.queries.eager import eager_relations
from cachedorm.declare.queries.loading_options import why_not_loaded
from cachedorm.errors import DeclarationError, NotCacheable
from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.mapping.hydration import hydrate_each
from cachedorm.orm.mapping.row_plan import RowPlan, own_value, restorer_of
from cachedorm.orm.mapping.source import Readable
from cachedorm.orm.reading.object_graphs import GraphCodec, Unstored, loaded_fresh
from cachedorm.store.codec import Kind, decode_plain, encode_plain, rows_codec


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
            rows = [row[start:stop] for row in rows]
        return hydrate_each(session, self.plan, map(live, rows))

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
class StoredColumn:
    """One value of a stored row: its name and kind. ``untyped``: as whatever the driver gave."""

    name: str
    kind: Kind
    untyped: bool = False


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of a query's rows, what is stored of them, and the SELECT that reads it."""

    each: tuple[Element, ...]
    stored: tuple[StoredColumn, ...]
    statement: SelectBase
    whole: SelectBase


def elements_of(statement: SelectBase, dialect: Dialect, who: str) -> Elements:
    """Take a statement's rows apart; DeclarationError for a column that cannot be stored."""
    whole = statement
    reason = why_not_loaded(statement)
    if reason is not None:
        raise DeclarationError(f"{who}: {reason}")
    each: list[Element] = []
    stored: list[StoredColumn] = []
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


def _stored(name: str, type_: Any, dialect: Dialect, who: str) -> StoredColumn:
    if isinstance(type_, NullType):  # avg() has no declared type
        return StoredColumn(name, Kind.BYTES, untyped=True)
    # A Bundle of columns says its own class for a type.
    kind = kind_of(type_, dialect) if isinstance(type_, TypeEngine) else None
    if kind is None:
        raise DeclarationError(
            f"{who}: column {name!r} has type {type_!r}, which cannot be stored exactly;"
            " leave it out, or give it a type with type_coerce()"
        )
    return StoredColumn(name, kind)


ResultRows = list[tuple[Any, ...]]


class Answer(Protocol):
    """How the rows of one statement are loaded, stored and given to a session."""

    elements: Elements

    def describe(self) -> str:
        """The stored form in words that change whenever the bytes would."""

    def encode(self, value: Any) -> bytes:
        """What ``load`` gave, as bytes; raises NotCacheable."""

    def decode(self, payload: bytes) -> Any:
        """What ``rows`` takes; raises only UNDECODABLE."""

    def load(
        self, connection: Connection, statement: SelectBase, values: Mapping[str, Any]
    ) -> tuple[Any, int]:
        """The answer of this statement, of the same shape, and how many rows it has."""

    def rows(self, session: Session, value: Any) -> ResultRows:
        """The rows for this session: its own objects, and plain values."""

    def readable(self, payload: bytes, most: int) -> Readable:
        """The payload for people, at most ``most`` rows of it; raises only UNDECODABLE."""


def answer_of(statement: SelectBase, dialect: Dialect, who: str) -> Answer:
    """The way that suits the statement; DeclarationError for a column that cannot be stored."""
    elements = elements_of(statement, dialect, who)
    if eager_relations(statement):
        return GraphAnswer(statement, elements, dialect)
    return PlainAnswer(elements, dialect)


class PlainAnswer:
    """ResultRows of values, one slice of them for each element."""

    def __init__(self, elements: Elements, dialect: Dialect) -> None:
        self.elements = elements
        self._encode, decode = rows_codec([each.kind for each in elements.stored])
        self._untyped = [at for at, each in enumerate(elements.stored) if each.untyped]
        self._dialect = dialect
        self._decode = decode
        self.decode: Callable[[bytes], Any] = self._decode_untyped if self._untyped else decode

    def describe(self) -> str:
        return repr([(each.name, str(each.kind), each.untyped) for each in self.elements.stored])

    def encode(self, value: Any) -> bytes:
        if self._untyped:
            value = [_changed(row, self._untyped, encode_plain) for row in value]
        return self._encode(value)

    def _decode_untyped(self, payload: bytes) -> Any:
        return [_changed(row, self._untyped, decode_plain) for row in self._decode(payload)]

    def readable(self, payload: bytes, most: int) -> Readable:
        rows, names = self.decode(payload), [each.name for each in self.elements.stored]
        return Readable("row", len(rows), [_named(names, row) for row in rows[:most]])

    def load(
        self, connection: Connection, statement: SelectBase, values: Mapping[str, Any]
    ) -> tuple[Any, int]:
        elements = self.elements
        if statement is not elements.whole:
            elements = elements_of(statement, self._dialect, "cached(...)")
        read: Any = elements.statement
        found = connection.execute(read, dict(values), execution_options=INTERNAL_OPTIONS)
        rows = [tuple(row) for row in found]
        return rows, len(rows)

    def rows(self, session: Session, value: Any) -> ResultRows:
        columns = []
        for element in self.elements.each:
            columns.append(element.values(session, value))  # noqa: PERF401 - one frame less a hit
        return list(zip(*columns, strict=True))


class GraphAnswer:
    """Objects with their eagerly loaded relationships."""

    def __init__(self, statement: SelectBase, elements: Elements, dialect: Dialect) -> None:
        self.elements = elements
        mappers = [each.plan.mapper for each in elements.each if isinstance(each, EntityElement)]
        mappers += [relation.mapper for relation in eager_relations(statement)]
        self._codec = GraphCodec(mappers, dialect)

    def describe(self) -> str:
        plans = self._codec.plans
        return repr([(plan.mapper.class_.__module__, plan.name, plan.signature) for plan in plans])

    def encode(self, value: Any) -> bytes:
        if isinstance(value, Unstored):
            raise value.reason
        payload: bytes = value  # as load left it
        return payload

    def decode(self, payload: bytes) -> Any:
        return self._codec.decode(payload)

    def readable(self, payload: bytes, most: int) -> Readable:
        nodes, _ = self._codec.decode(payload)
        shown = [
            {"class": plan.name, **dict(zip(plan.names, values, strict=True))}
            for plan, values, _ in nodes[:most]
        ]
        return Readable("object", len(nodes), shown)

    def load(
        self, connection: Connection, statement: SelectBase, values: Mapping[str, Any]
    ) -> tuple[Any, int]:
        with loaded_fresh(connection, statement, values) as rows:
            graph, count = self._codec.graph(rows), len(rows)
        try:
            return self._codec.encode(graph), count
        except NotCacheable as reason:
            return Unstored(graph, reason), count

    def rows(self, session: Session, value: Any) -> ResultRows:
        if isinstance(value, Unstored):
            return self._codec.objects(session, value.copied())
        graph = self._codec.decode(value) if isinstance(value, bytes) else value
        return self._codec.objects(session, graph)


def _named(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """The row by its names; a name that occurs twice is numbered by its column."""
    return {
        name if names.count(name) == 1 else f"{name} ({at + 1})": value
        for at, (name, value) in enumerate(zip(names, row, strict=True))
    }


def _changed(
    row: Sequence[Any], positions: Sequence[int], change: Callable[[Any], Any]
) -> tuple[Any, ...]:
    changed = list(row)
    for at in positions:
        changed[at] = change(changed[at])
    return tuple(changed)
