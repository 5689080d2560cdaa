"""Two ways to keep a query's answer: rows of plain values, or objects with what hangs on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.eager import eager_relations
from cachedorm.errors import NotCacheable
from cachedorm.orm.affected import OWN
from cachedorm.orm.elements import Elements, EntityElement, elements_of
from cachedorm.orm.graphs import GraphCodec, Unstored, loaded_fresh
from cachedorm.store.codec import decode_plain, encode_plain, rows_codec

Rows = list[tuple[Any, ...]]


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

    def rows(self, session: Session, value: Any) -> Rows:
        """The rows for this session: its own objects, and plain values."""


def answer_of(statement: SelectBase, dialect: Dialect, who: str) -> Answer:
    """The way that suits the statement; DeclarationError for a column that cannot be stored."""
    elements = elements_of(statement, dialect, who)
    if eager_relations(statement):
        return GraphAnswer(statement, elements, dialect)
    return PlainAnswer(elements, dialect)


class PlainAnswer:
    """Rows of values, one slice of them for each element."""

    def __init__(self, elements: Elements, dialect: Dialect) -> None:
        self.elements = elements
        self._encode, self._decode = rows_codec([each.kind for each in elements.stored])
        self._untyped = [at for at, each in enumerate(elements.stored) if each.untyped]
        self._dialect = dialect

    def describe(self) -> str:
        return repr([(each.name, str(each.kind), each.untyped) for each in self.elements.stored])

    def encode(self, value: Any) -> bytes:
        if self._untyped:
            value = [_changed(row, self._untyped, encode_plain) for row in value]
        return self._encode(value)

    def decode(self, payload: bytes) -> Any:
        rows = self._decode(payload)
        if not self._untyped:
            return rows
        return [_changed(row, self._untyped, decode_plain) for row in rows]

    def load(
        self, connection: Connection, statement: SelectBase, values: Mapping[str, Any]
    ) -> tuple[Any, int]:
        elements = self.elements
        if statement is not elements.whole:
            elements = elements_of(statement, self._dialect, "cached(...)")
        read: Any = elements.statement
        found = connection.execute(read, dict(values), execution_options=OWN)
        rows = [tuple(row) for row in found]
        return rows, len(rows)

    def rows(self, session: Session, value: Any) -> Rows:
        return list(
            zip(*(element.values(session, value) for element in self.elements.each), strict=True)
        )


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

    def load(
        self, connection: Connection, statement: SelectBase, values: Mapping[str, Any]
    ) -> tuple[Any, int]:
        with loaded_fresh(connection, statement, values) as rows:
            graph, count = self._codec.graph(rows), len(rows)
        try:
            return self._codec.encode(graph), count
        except NotCacheable as reason:
            return Unstored(graph, reason), count

    def rows(self, session: Session, value: Any) -> Rows:
        if isinstance(value, Unstored):
            return self._codec.objects(session, value.anew())
        graph = self._codec.decode(value) if isinstance(value, bytes) else value
        return self._codec.objects(session, graph)


def _changed(
    row: Sequence[Any], positions: Sequence[int], change: Callable[[Any], Any]
) -> tuple[Any, ...]:
    changed = list(row)
    for at in positions:
        changed[at] = change(changed[at])
    return tuple(changed)
