"""Everything one Cache follows: its plans, its interests, its engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import InstanceState, Mapper, Session, configure_mappers

from cachedorm.declare.region import Region
from cachedorm.declare.shape import entity_shape, shape_count, shapes
from cachedorm.errors import ConfigurationError
from cachedorm.observe import Observer
from cachedorm.orm.cascades import Cascades
from cachedorm.orm.commits import Commits, owner_of
from cachedorm.orm.doubt import Doubts
from cachedorm.orm.follow import EngineFollower
from cachedorm.orm.foreign import Foreign
from cachedorm.orm.interest import Interests, KeyInterest
from cachedorm.orm.newrows import NewRows
from cachedorm.orm.plan import EntityPlan
from cachedorm.orm.recorder import Recorder
from cachedorm.orm.texts import TextRecorder
from cachedorm.orm.unseen import Unseen
from cachedorm.store.region import CachedRegion
from cachedorm.store.slots import Touched
from cachedorm.store.store import Store

_NO_DIALECT = DefaultDialect()
_PORTS: dict[str, Any] = {"postgresql": 5432}


class Followed:
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
        self._engines: dict[Engine, EngineFollower] = {}
        self._plans: dict[Mapper[Any], EntityPlan | None] = {}
        self._shape_count = -1
        self._registries: set[Any] = set()
        self._recorder: Recorder
        self._texts: TextRecorder
        self.interests: Interests

    def follow(self, engine: Engine | AsyncEngine, *, publish: bool = True) -> EngineFollower:
        """Follow this engine's writes from now on; once is enough.

        Raises ConfigurationError if another Cache does, or if it is another database.
        """
        root = root_engine(engine)
        known = self._engines.get(root)
        if known is not None:
            return known
        other = owner_of(root.dialect)
        if other is not None:
            raise ConfigurationError(
                f"engine {root.url!r} is attached to another Cache; detach it there first"
            )
        if publish:
            self._check_database(root)
        follower = EngineFollower(
            root,
            self.recorder,
            self.texts,
            Commits(self._store, Doubts(root), self._check_open),
            NewRows(self._through, self._observer.error),
            publish=publish,
            observer=self._observer,
        )
        self._engines[root] = follower
        follower.follow()
        return follower

    def unfollow(self, engine: Engine | AsyncEngine) -> None:
        """Leave this engine as it was."""
        follower = self._engines.pop(root_engine(engine), None)
        if follower is not None:
            follower.unfollow()

    def follower_of(self, engine: Engine) -> EngineFollower | None:
        """Who follows this engine, or None."""
        found = self._engines.get(engine)
        return found if found is not None else self._engines.get(root_engine(engine))

    def met(self, session: Session, transaction: Any, connection: Connection) -> None:
        """A session of ours uses this connection: follow its engine too."""
        follower = self.follower_of(connection.engine)
        if follower is None:
            follower = self.follow(connection.engine)
        follower.begin(connection)

    def plan_of(self, mapper: Mapper[Any]) -> EntityPlan | None:
        """How rows of this mapper are read here, or None if they are not cached one by one."""
        try:
            return self._plans[mapper]
        except KeyError:
            return self._plan_made(mapper)

    def recorder(self) -> Recorder:
        """Records statements; knows every model that is mapped by now."""
        self._renew()
        return self._recorder

    def texts(self) -> TextRecorder:
        """Records SQL text; knows every model that is mapped by now."""
        self._renew()
        return self._texts

    def touch_object(self, touched: Touched, state: InstanceState[Any]) -> None:
        """Make the entries of an object's row doubtful, by its identity and what it has loaded."""
        self._renew()
        mapper = state.mapper
        loaded: dict[Any, Any] = {
            column: state.dict[prop.key]
            for prop in mapper.column_attrs
            for column in prop.columns
            if prop.key in state.dict
        }
        loaded.update(zip(mapper.primary_key, state.key[1] if state.key else (), strict=False))
        dialect = next(iter(self._engines)).dialect if self._engines else _NO_DIALECT
        for table in mapper.tables:
            interest = self.interests[table] if isinstance(table, Table) else None
            if interest is not None:
                row = {
                    column.name: value for column, value in loaded.items() if column.table is table
                }
                interest.touch(touched, row, dialect)

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
        self._renew()
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

    def _source(self) -> EngineFollower | None:
        """The engine whose rows are cached: the first that may publish."""
        return next((each for each in self._engines.values() if each.publish), None)

    def _through(self, interest: KeyInterest) -> EntityPlan | None:
        plan = self.plan_of(interest.mapper)
        followers = self._engines.values()
        if plan is None or any(each.facts.is_triggered(plan.tables) for each in followers):
            return None  # what was written may not be what the row is after its triggers
        return plan

    def _renew(self) -> None:
        if any(registry._new_mappers for registry in self._registries):
            configure_mappers()
        if shape_count() != self._shape_count:
            self._rebuild()

    def _rebuild(self) -> None:
        configure_mappers()
        self._shape_count = shape_count()
        declared = shapes()
        self._registries = {shape.owner.registry for shape in declared}
        metadatas = {registry.metadata for registry in self._registries}
        metadatas.update(
            table.metadata
            for shape in declared
            for table in shape.owner.tables
            if isinstance(table, Table)
        )
        tables = [table for metadata in metadatas for table in metadata.tables.values()]
        interests = Interests(declared, tables)
        for interest in interests:
            for db in interest.dbs:
                self._store.know(db, (interest.stamp,))
        cascades = Cascades(tables)
        named = {(table.schema, table.name): table for table in tables}
        unseen = Unseen(declared, tables, interests, cascades)
        foreign = Foreign.of(interests, tables, cascades, unseen)
        interests.known, interests.written_with = foreign.known, foreign.written_with
        self._store.declare(foreign.registered)
        self.interests = interests
        self._recorder = Recorder(interests, cascades, unseen)
        self._texts = TextRecorder(interests, cascades, unseen, self._recorder, named)

    def _check_database(self, engine: Engine) -> None:
        found = database_identity(engine)
        if self.database is None:
            self.database = found
        elif not any(follower.publish for follower in self._engines.values()):
            return  # named by hand
        elif all(database_identity(each) != found for each in self._publishing()):
            raise ConfigurationError(
                f"engine {engine.url!r} reaches {found}, but this Cache already serves"
                f" {self.database}; give the other database a Cache of its own, or, if the two are"
                " one, attach with publish=False (a replica) or name it: Cache(database=...)"
            )

    def _publishing(self) -> list[Engine]:
        return [engine for engine, follower in self._engines.items() if follower.publish]


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
