"""Answers with relationships loaded along: objects as a graph, stored and brought back whole.

Filled lazily on a hit, a relationship would cost its own SELECT, and raise under async; so what
the statement loads eagerly is in the payload. On a miss the statement runs in a session of its own
on the caller's connection: there every object is fresh, where the caller's session may hold older
ones that a load would not touch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.base import instance_dict
from sqlalchemy.sql.selectable import SelectBase

from cachedorm.declare.policies.shape import loose_row_shape
from cachedorm.errors import NotCacheable
from cachedorm.orm.database.profile import INTERNAL_OPTIONS
from cachedorm.orm.mapping.hydration import hydrate
from cachedorm.orm.mapping.row_plan import RowPlan
from cachedorm.store.codec import UndecodableError, decode_plain, encode_plain

# One object: its class's plan, its live values, and for each loaded relationship the places of its
# objects.
Node = tuple[RowPlan, tuple[Any, ...], dict[str, Any]]
# All of them, and the rows: of places in the graph, and of plain values.
Graph = tuple[list[Node], list[Any]]


@dataclass(frozen=True, slots=True)
class Unstored:
    """A graph that has no exact stored form, and why."""

    graph: Graph
    reason: NotCacheable

    def copied(self) -> Graph:
        """The graph with copies of its values: sessions share a load, but not mutable values."""
        nodes, rows = self.graph
        return [(plan, deepcopy(values), links) for plan, values, links in nodes], deepcopy(rows)


class GraphCodec:
    """Stores objects with what hangs on them; an object that is met twice is stored once."""

    __slots__ = ("_at", "_dialect", "plans")

    def __init__(self, mappers: Sequence[Mapper[Any]], dialect: Dialect) -> None:
        self._dialect = dialect
        met = {each for mapper in mappers for each in mapper.self_and_descendants}
        made = [RowPlan(loose_row_shape(each), each, dialect) for each in met]
        # The plans of every class that may be met. Two classes may have one name, so what is
        # stored is a plan's place; the order is told by what entries' fingerprints are made of.
        self.plans = sorted(made, key=lambda plan: (plan.name, plan.mapper.class_.__module__))
        self._at = {plan.mapper.class_: at for at, plan in enumerate(self.plans)}

    def graph(self, rows: Sequence[Sequence[Any]]) -> Graph:
        """The rows, whose entities are objects of any session, apart from that session."""
        nodes: list[Any] = []
        places: dict[int, int] = {}
        each = [[self._element(value, nodes, places) for value in row] for row in rows]
        return nodes, each

    def encode(self, graph: Graph) -> bytes:
        """The graph as bytes; raises NotCacheable."""
        nodes, rows = graph
        stored = [
            (self._at[plan.mapper.class_], plan.encode(plan.stored_of(values)), links)
            for plan, values, links in nodes
        ]
        return encode_plain([stored, rows])

    def decode(self, payload: bytes) -> Graph:
        """The graph again; raises UndecodableError."""
        decoded = decode_plain(payload)
        try:
            nodes, rows = decoded
            read = [
                (plan := self.plans[place], plan.live(plan.decode(row)), links)
                for place, row, links in nodes
            ]
        except (ValueError, TypeError, LookupError) as error:
            raise UndecodableError(f"no graph of objects: {error!r}") from error
        return read, rows

    def objects(self, session: Session, graph: Graph) -> list[tuple[Any, ...]]:
        """The rows with the session's own objects, their relationships loaded."""
        nodes, rows = graph
        made = [_object(session, plan, values) for plan, values, _ in nodes]
        for found, (_, _, links) in zip(made, nodes, strict=True):
            for name, link in links.items():
                if name not in instance_dict(found):
                    set_committed_value(found, name, _linked(link, made))
        return [tuple(_read(element, made) for element in row) for row in rows]

    def _element(self, value: Any, nodes: list[Any], places: dict[int, int]) -> Any:
        if type(value) in self._at:
            return {"at": self._node(value, nodes, places)}
        return [value]

    def _node(self, value: Any, nodes: list[Any], places: dict[int, int]) -> int:
        at = places.get(id(value))
        if at is None:
            at = places[id(value)] = len(nodes)
            nodes.append(None)
            plan = self.plans[self._at[type(value)]]
            # What load_only() left out is loaded now: an entry holds whole rows.
            row = tuple(_unwrapped(getattr(value, name)) for name in plan.names)
            loaded = instance_dict(value)
            links: dict[str, Any] = {}
            nodes[at] = (plan, row, links)
            for relation in plan.mapper.relationships:
                if relation.key in loaded:
                    links[relation.key] = self._link(loaded[relation.key], nodes, places)
        return at

    def _link(self, value: Any, nodes: list[Any], places: dict[int, int]) -> Any:
        if value is None:
            return None
        collection = getattr(value, "_sa_adapter", None)  # a list, a set, a dict by some attribute
        if collection is not None:
            return [self._node(each, nodes, places) for each in collection]
        return self._node(value, nodes, places)


@contextmanager
def loaded_fresh(
    connection: Connection, statement: SelectBase, values: Mapping[str, Any]
) -> Iterator[list[tuple[Any, ...]]]:
    """The statement's rows with objects of a session that knows no others, open in the block."""
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        read: Any = statement
        result = session.execute(read, dict(values), execution_options=INTERNAL_OPTIONS)
        # Rows that a joined collection repeats; any other row that comes twice is meant twice.
        repeated = result._unique_filter_state is not None
        yield [tuple(row) for row in (result.unique() if repeated else result)]


def _object(session: Session, plan: RowPlan, values: tuple[Any, ...]) -> Any:
    return hydrate(session, plan, values)


def _unwrapped(value: Any) -> Any:
    # MutableDict and its like belong to the object that they tell of their changes.
    if not isinstance(value, MutableBase):
        return value
    own: Any = value
    plain: Any = next((each for each in (dict, list, set) if each in type(value).__mro__), None)
    return own if plain is None else plain(own)


def _linked(link: Any, made: Sequence[Any]) -> Any:
    if link is None:
        return None
    return [made[at] for at in link] if isinstance(link, list) else made[link]


def _read(element: Any, made: Sequence[Any]) -> Any:
    return made[element["at"]] if isinstance(element, dict) else element[0]
