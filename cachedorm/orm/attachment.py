"""Everything one Cache follows: its plans, its interests, its engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import MetaData, Table
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import InstanceState, Mapper, Session, configure_mappers
from sqlalchemy.sql.selectable import SelectBase
from sqlalchemy.util import LRUCache

from cachedorm.declare.policies.region import Region
from cachedorm.declare.policies.shape import EntityShape, entity_shape, mapped_count, shapes
from cachedorm.declare.queries.derived import DerivedQuery, derived_count, derived_queries
from cachedorm.declare.queries.query import CachedQuery, CacheOption, declared_queries, query_count
from cachedorm.errors import ConfigurationError
from cachedorm.observe import Observer
from cachedorm.orm.database.commit_outcome import CommitOutcomes
from cachedorm.orm.database.profile import is_idle
from cachedorm.orm.interest.cascades import Cascades
from cachedorm.orm.interest.declared_writes import DeclaredWrites
from cachedorm.orm.interest.registration import InterestRegistration
from cachedorm.orm.interest.tables import Interests, KeyInterest, Names
from cachedorm.orm.mapping.entity_plan import EntityPlan
from cachedorm.orm.reading.adhoc_queries import adhoc_query
from cachedorm.orm.reading.queries import DerivedPlan, QueryPlan
from cachedorm.orm.reading.read_path import why_not_publish
from cachedorm.orm.reading.refresher import Refresher
from cachedorm.orm.tracking.commits import Commits, owner_of
from cachedorm.orm.tracking.engine import EngineTracker
from cachedorm.orm.tracking.ledger import Ledger, ledger_of
from cachedorm.orm.tracking.recorder import Recorder
from cachedorm.orm.tracking.text_recorder import TextRecorder
from cachedorm.orm.tracking.write_index import WriteIndex
from cachedorm.orm.tracking.write_through import WriteThroughRows
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.protocol.changes import Touched
from cachedorm.store.store import Store

_NO_DIALECT = DefaultDialect()
_PORTS: dict[str, Any] = {"postgresql": 5432}
# How many shapes of statements cached on the spot are remembered.
ADHOC_SHAPES_MAX = 500


class _Plans(dict[Mapper[Any], EntityPlan | None]):
    """The plans by mapper. ``plans[mapper]`` makes a missing one, and costs a hit no call."""

    def __init__(self, make: Callable[[Mapper[Any]], EntityPlan | None]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, mapper: Mapper[Any]) -> EntityPlan | None:
        return self._make(mapper)


class Attachment:
    """The plans, interests and engines of one Cache."""

    def __init__(
        self,
        store: Store,
        region_of: Callable[[Region], CachedRegion],
        observer: Observer,
        database: str | None,
        check_open: Callable[[], None],
    ) -> None:
        self._store = store
        self._check_open = check_open
        self._region_of = region_of
        self._observer = observer
        self.database = database
        # Set when the Cache is closed: another Cache may then take its engines over.
        self.closed = False
        self._engines: dict[Engine, EngineTracker] = {}
        self._plans = _Plans(self._plan_made)
        # How rows of a mapper are read here, or None if they are not cached one by one.
        self.plan_of: Callable[[Mapper[Any]], EntityPlan | None] = self._plans.__getitem__
        # Bounded: an application may build statements without end.
        self._adhoc_plans: LRUCache[Any, QueryPlan] = LRUCache(ADHOC_SHAPES_MAX)
        # Of a CachedQuery a QueryPlan; a DerivedQuery makes its own.
        self._query_plans: WeakKeyDictionary[
            CachedQuery[Any] | DerivedQuery, QueryPlan | DerivedPlan
        ] = WeakKeyDictionary()
        self._built_of: tuple[int, ...] = ()
        self._tables: list[Mapping[str, Table]] = []
        self._schemas: set[str] = set()
        self._index: WriteIndex

    def follow(self, engine: Engine | AsyncEngine, *, publish: bool = True) -> EngineTracker:
        """Follow this engine's writes from now on; once is enough.

        Raises ConfigurationError if another Cache does, or if it is another database.
        """
        root = root_engine(engine)
        known = self._engines.get(root)
        if known is not None:
            return known
        before = _following.get(root)
        if before is not None and before.closed:
            before.unfollow(root)
        other = owner_of(root.dialect)
        if other is not None:
            raise ConfigurationError(
                f"engine {root.url!r} is attached to another Cache; detach it there first"
            )
        if publish:
            self._check_database(root)
        refresher = Refresher(
            root, self._store, self.query_plan_of, self._why_not_publish, self._observer
        )
        tracker = EngineTracker(
            root,
            self.write_index,
            Commits(
                self._store, CommitOutcomes(root), self._check_open, self._everything, refresher.run
            ),
            WriteThroughRows(self._through, self._observer.error),
            self._schemas,
            publish=publish,
            observer=self._observer,
        )
        self._engines[root] = tracker
        _following[root] = self
        tracker.follow()
        return tracker

    def unfollow(self, engine: Engine | AsyncEngine) -> None:
        """Leave this engine as it was."""
        root = root_engine(engine)
        tracker = self._engines.pop(root, None)
        if tracker is not None:
            _following.pop(root, None)
            tracker.unfollow()

    def tracker_of(self, engine: Engine) -> EngineTracker | None:
        """Who follows this engine, or None."""
        found = self._engines.get(engine)
        return found if found is not None else self._engines.get(root_engine(engine))

    def on_after_begin(self, session: Session, transaction: Any, connection: Connection) -> None:
        """A session of ours uses this connection: follow its engine too."""
        tracker = self.tracker_of(connection.engine)
        if tracker is None:
            tracker = self.follow(connection.engine)
            if not is_idle(connection.connection):
                # The session joins a transaction, and we have not seen what that wrote.
                self._everything(ledger_of(connection))
        if not tracker.has_begun(connection):
            tracker.begin(connection)

    def query_plan_of(
        self, query: CachedQuery[Any] | DerivedQuery
    ) -> QueryPlan | DerivedPlan | None:
        """How the answers of this query are read here, or None while no database is known."""
        plan = self._query_plans.get(query)
        source = self._source() if plan is None else None
        if source is not None and self.database is not None:
            self.write_index()
            region = self._region_of(query.region)
            profile, dialect = source.know(), source.engine.dialect
            make = query.plan if isinstance(query, DerivedQuery) else partial(QueryPlan, query)
            plan = make(region, self.database, profile, dialect)
            self._query_plans[query] = plan
            region.watch(plan.stamps)
        return plan

    def adhoc_plan_of(
        self, statement: SelectBase, shape: Any, option: CacheOption
    ) -> QueryPlan | None:
        """How answers of this shape of statement, built on the spot, are read here."""
        place = (shape, option.region, option.ttl_ms)
        plan = self._adhoc_plans.get(place)
        source = self._source() if plan is None else None
        if source is not None and self.database is not None:
            self.write_index()
            profile, dialect = source.know(), source.engine.dialect
            query = adhoc_query(statement, option, self.interests, dialect)
            region = self._region_of(option.region)
            plan = QueryPlan(query, region, self.database, profile, dialect)
            self._adhoc_plans[place] = plan
            region.watch(plan.stamps)
        return plan

    def write_index(self) -> WriteIndex:
        """What statements are recorded by; it knows every model that is mapped by now."""
        if self._size() != self._built_of:
            self._rebuild()
        return self._index

    @property
    def interests(self) -> Interests:
        """The interests of every table, as of the newest write index."""
        return self._index.interests

    def _everything(self, ledger: Ledger) -> None:
        self.write_index().texts.everything(ledger)

    def touch_object(self, touched: Touched, state: InstanceState[Any]) -> None:
        """Touch the entries of an object's row, by its identity and loaded values."""
        self.write_index()
        mapper = state.mapper
        loaded: dict[Any, Any] = {
            column: state.dict[prop.key]
            for prop in mapper.column_attrs
            for column in prop.columns
            if prop.key in state.dict
        }
        loaded.update(zip(mapper.primary_key, state.key[1] if state.key else (), strict=False))
        dialect = self.dialect
        for table in mapper.tables:
            interest = self.interests[table] if isinstance(table, Table) else None
            if interest is not None:
                row = {
                    column.name: value for column, value in loaded.items() if column.table is table
                }
                interest.touch(touched, row, dialect)

    def known_interests(self) -> Interests:
        """What is cached over every table, of all that is declared by now."""
        return self.write_index().interests

    @property
    def dialect(self) -> Dialect:
        """How the database spells values; a neutral way while no engine is followed."""
        return next(iter(self._engines)).dialect if self._engines else _NO_DIALECT

    @property
    def trackers(self) -> list[EngineTracker]:
        """Who follows them."""
        return list(self._engines.values())

    @property
    def engines(self) -> list[Engine]:
        """The root engines followed."""
        return list(self._engines)

    def _plan_made(self, mapper: Mapper[Any]) -> EntityPlan | None:
        if self.database is None:
            return None
        # A process's very first read may be this one, before anything has configured its mappers,
        # and what it is about to fill must be declared before.
        configure_mappers()
        self.write_index()
        shape = entity_shape(mapper)
        if shape is None or shape.template is None:
            self._plans[mapper] = None
            return None
        plan = self._plans.get(shape.owner)
        if plan is None:
            source = self._source()
            if source is None:
                return None
            region = self._region_of(shape.policy.region)
            plan = self._plans[shape.owner] = EntityPlan(
                shape, region, self.database, source.know(), source.engine.dialect
            )
            region.watch(plan.stamps)
        self._plans[mapper] = plan
        return plan

    def _source(self) -> EngineTracker | None:
        """The engine whose rows are cached: the first that may publish and can be asked here."""
        return next((each for each in self._engines.values() if each.publish and each.tells), None)

    def _through(self, interest: KeyInterest) -> EntityPlan | None:
        plan = self.plan_of(interest.mapper)
        followers = self._engines.values()
        if plan is None or any(each.facts.is_triggered(plan.tables) for each in followers):
            return None  # what was written may not be what the row is after its triggers
        return plan

    def _why_not_publish(self, connection: Connection, plan: QueryPlan) -> str | None:
        return why_not_publish(connection, plan, self.tracker_of)

    def _size(self) -> tuple[int, ...]:
        """Grows with each class that is mapped, with each query, table and search path."""
        return (
            mapped_count(),
            query_count(),
            derived_count(),
            len(self._schemas),
            *map(len, self._tables),
        )

    def _rebuild(self) -> None:
        counted = (mapped_count(), query_count(), derived_count())
        configure_mappers()
        declared, queries, derived = shapes(), declared_queries(), derived_queries()
        self._tables = [metadata.tables for metadata in _metadatas(declared, derived)]
        _, _, _, *size = self._size()
        names = Names(tuple(self._schemas))
        tables = [table for each in self._tables for table in tuple(each.values())]
        interests = Interests(declared, tables, names, queries=queries, derived=derived)
        for interest in interests:
            for db in interest.dbs:
                self._store.know(db, interest.stamps)
        cascades = Cascades(tables, names)
        named = {(table.schema, table.name): table for table in tables}
        unseen = DeclaredWrites(declared, tables, interests, cascades, names)
        foreign = InterestRegistration.of(interests, tables, cascades, unseen)
        interests.known, interests.written_with = foreign.known, foreign.written_with
        self._store.declare(foreign.registered)
        recorder = Recorder(interests, cascades, unseen)
        texts = TextRecorder(interests, cascades, unseen, recorder, named)
        self._index = WriteIndex(interests, recorder, texts)
        # Last, and as it was at first: what came meanwhile is another rebuilding.
        self._built_of = (*counted, *size)

    def _check_database(self, engine: Engine) -> None:
        found = database_identity(engine)
        if self.database is None:
            self.database = found
        elif not any(tracker.publish for tracker in self._engines.values()):
            return  # the application names it
        elif all(database_identity(each) != found for each in self._publishing()):
            raise ConfigurationError(
                f"engine {engine.url!r} reaches {found}, but this Cache already serves"
                f" {self.database}; give the other database a Cache of its own, or, if the two are"
                " one, attach with publish=False (a replica) or name it: Cache(database=...)"
            )

    def _publishing(self) -> list[Engine]:
        return [engine for engine, tracker in self._engines.items() if tracker.publish]


# Which Cache's followed engines an engine is among.
_following: WeakKeyDictionary[Engine, Attachment] = WeakKeyDictionary()


def _metadatas(declared: Iterable[EntityShape], derived: Iterable[DerivedQuery]) -> set[MetaData]:
    """Those of the declared classes, with all their tables."""
    found = {shape.owner.registry.metadata for shape in declared}
    found.update(query.table.metadata for query in derived)
    for shape in declared:
        found.update(each.metadata for each in shape.owner.tables if isinstance(each, Table))
    return found


def root_engine(engine: Engine | AsyncEngine) -> Engine:
    """The engine that holds the pool and the dialect, behind async and option engines."""
    found: Any = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    while getattr(found, "_proxied", None) is not None:
        found = found._proxied
    root: Engine = found
    return root


def database_identity(engine: Engine) -> str:
    """Which database an engine reaches, whatever driver and account it uses."""
    url = engine.url
    port = url.port or _PORTS.get(url.get_backend_name(), "")
    host = url.host or ",".join(_listed(url.query.get("host"))) or "localhost"
    return f"{url.get_backend_name()}://{host}:{port}/{url.database or ''}"


def _listed(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value
