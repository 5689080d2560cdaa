"""The declarations of one Cache, its Redis, and the engines it follows, all read-only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Table
from sqlalchemy.types import TypeEngine

from cachedorm.declare.policies.region import Region, Regions
from cachedorm.declare.policies.shape import EntityShape, shapes
from cachedorm.declare.queries.derived import DerivedQuery, derived_queries
from cachedorm.declare.queries.query import CachedQuery, declared_queries
from cachedorm.orm.attachment import Attachment
from cachedorm.orm.interest.tables import Interests
from cachedorm.orm.mapping.entity_plan import EntityPlan
from cachedorm.orm.reading.queries import DerivedPlan, QueryPlan
from cachedorm.orm.tracking.engine import EngineTracker
from cachedorm.store.protocol.keys import Template
from cachedorm.store.redis.survey import Survey
from cachedorm.store.store import Store

Plan = EntityPlan | QueryPlan | DerivedPlan


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """One declaration that makes keys: a model's policy, a query, or a derived query."""

    what: EntityShape | CachedQuery[Any] | DerivedQuery
    # "model", "query", or a derived query's own word.
    kind: str
    name: str
    region: Region
    template: Template
    ttl_ms: int | None
    # The parameters that follow the template's text.
    appended: tuple[str, ...] = ()

    def type_of(self, field: str) -> TypeEngine[Any] | None:
        """The SQL type of a key field; None if it is neither a column nor a parameter."""
        if isinstance(self.what, EntityShape):
            column: Any = self.what.owner.get_property(field).columns[0]
            found: TypeEngine[Any] = column.type
            return found
        if isinstance(self.what, CachedQuery):
            bound: BindParameter[Any] = self.what.parameters[field]
            return bound.type
        return None

    @property
    def tables(self) -> list[Table]:
        """The tables that the entries are read from."""
        if isinstance(self.what, EntityShape):
            return tables_of(self.what)
        if isinstance(self.what, CachedQuery):
            return [each.table for each in self.what.dependencies]
        return [self.what.table]

    @property
    def depends_on(self) -> tuple[str, ...]:
        """What the entries depend on, one text for each tag."""
        if isinstance(self.what, EntityShape):
            return tuple(sorted(table.fullname for table in self.tables))
        if isinstance(self.what, CachedQuery):
            return tuple(str(each) for each in self.what.dependencies)
        return (self.what.depends_on,)


class Insight:
    """A read-only view of one Cache: its declarations, Redis and engines.

    ``plan_of`` may ask the database; nothing here changes anything. ``only``: the Cache was given
    its regions, so declarations in other regions are left out.
    """

    def __init__(
        self, store: Store, followed: Attachment, settings: Regions, *, only: bool = False
    ) -> None:
        self._store = store
        self._attachment = followed
        self._only = only
        self.settings = settings

    @property
    def survey(self) -> Survey | None:
        """Read-only access to Redis; None if the entries are in this process's memory."""
        return self._store.survey

    @property
    def database(self) -> str | None:
        """The database whose rows are cached, without account and password."""
        return self._attachment.database

    @property
    def trackers(self) -> list[EngineTracker]:
        """The trackers of the attached engines."""
        return self._attachment.trackers

    @property
    def interests(self) -> Interests:
        """What is cached over which table; raises DeclarationError for an invalid declaration."""
        return self._attachment.known_interests()

    def tables(self) -> list[Table]:
        """Every table that cached entries are read from, sorted by name."""
        found = [table for shape in self.models() for table in tables_of(shape)]
        found += [table for each in self.declared() for table in each.tables]
        return sorted(set(found), key=lambda table: table.fullname)

    def models(self) -> list[EntityShape]:
        """The policy of every cached class, including classes without a key."""
        self._attachment.known_interests()
        return [shape for shape in shapes() if self._includes(shape.policy.region)]

    def regions(self) -> list[Region]:
        """Every region: those given to the Cache and those of the declarations."""
        named = [*self.settings, *(shape.policy.region for shape in self.models())]
        named += [each.region for each in self.declared()]
        return sorted(dict.fromkeys(named), key=lambda region: (region.db, region.name))

    def declared(self) -> list[Declared]:
        """Every declaration that makes keys."""
        self._attachment.known_interests()
        return [each for each in _declared() if self._includes(each.region)]

    def _includes(self, region: Region) -> bool:
        return not self._only or region in list(self.settings)

    def plan_of(self, declared: Declared) -> Plan | None:
        """How the entries are keyed and stored; None if no database is attached.

        Asks the database for its profile, so it can raise SQLAlchemyError.
        """
        if isinstance(declared.what, EntityShape):
            return self._attachment.plan_of(declared.what.owner)
        return self._attachment.query_plan_of(declared.what)


def tables_of(shape: EntityShape) -> list[Table]:
    """The tables of a cached class and its subclasses."""
    mappers = shape.owner.self_and_descendants
    found = dict.fromkeys(table for mapper in mappers for table in mapper.tables)
    return [table for table in found if isinstance(table, Table)]


def _declared() -> Iterator[Declared]:
    for shape in shapes():
        if shape.template is not None:
            name, policy = shape.owner.class_.__name__, shape.policy
            yield Declared(shape, "model", name, policy.region, shape.template, policy.ttl_ms)
    for query in declared_queries():
        text = query.template.text
        yield Declared(
            query, "query", text, query.region, query.template, query.ttl_ms, query.appended
        )
    for each in derived_queries():
        yield Declared(
            each, each.kind, each.name, each.region, each.template, each.ttl_ms, each.appended
        )
