"""Cache: owns the regions, attaches to session factories and engines, closes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload
from urllib.parse import quote, urlencode

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util.concurrency import greenlet_spawn

from cachedorm.declare.policies.region import Region, Regions
from cachedorm.declare.policies.tag import Tag
from cachedorm.declare.queries.query import CachedQuery
from cachedorm.declare.queries.warmset import ParameterSets, WarmSet
from cachedorm.errors import ArgumentError, CacheClosedError, ConfigurationError
from cachedorm.inspection.declarations import Insight
from cachedorm.observe import CacheStats, LogObserver, Observer, Observers, Stats
from cachedorm.orm.attachment import Attachment
from cachedorm.orm.database.factories import (
    Target,
    engines_of,
    factory_of,
    session_class,
    sessions_of,
    set_session_class,
)
from cachedorm.orm.database.outages import database_is_down
from cachedorm.orm.invalidation import Invalidator
from cachedorm.orm.reading.entities import Reader
from cachedorm.orm.reading.many import ManyReader
from cachedorm.orm.reading.queries import QueryReader
from cachedorm.orm.reading.read_path import ReadPath, ReadSwitch
from cachedorm.orm.reading.session import cached_session_class
from cachedorm.orm.warming.warmer import Progress, Warmed, Warmer
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.batch import BATCH
from cachedorm.store.protocol.settings import RegionSettings
from cachedorm.store.store import Store

T = TypeVar("T")


class Cache:
    """The cache of one database: sessions attached to it read from Redis and are never stale.

    ``redis`` is the server's URL, or a mapping of settings as ``redis.Redis`` takes them (``host``,
    ``port``, ``password``); neither names a database number, since regions name theirs. Without it
    entries live in this process, with the same promises within it. ``database`` names the database
    that the rows come from where its URL does not (several addresses of one database); entries of
    different databases are never mixed up. ``observers`` are notified of events; a LogObserver
    among them replaces the library's own. Time limits are seconds. Connects when it is first
    used. Close it when done. Raises ConfigurationError for a URL that cannot be used, and
    ArgumentError for anything else than a URL or settings, or a time limit above 60 seconds.

    ``cache.enabled = False`` is the kill switch: this process's reads go to the database, its
    writes still invalidate, so that it can be switched on again at any time.
    """

    def __init__(
        self,
        redis: str | Mapping[str, Any] | None = None,
        *,
        regions: Regions | None = None,
        database: str | None = None,
        observers: Iterable[Observer] = (),
        connect_timeout: float = 0.25,
        operation_timeout: float = 0.25,
        commit_timeout: float = 0.5,
    ) -> None:
        url = _redis_url(redis)
        _check_seconds("connect_timeout", connect_timeout)
        _check_seconds("operation_timeout", operation_timeout)
        _check_seconds("commit_timeout", commit_timeout)
        self._stats = Stats()
        self._observers = observer = _told_together(self._stats, observers)
        self._store = Store.connect(
            url,
            connect_timeout=connect_timeout,
            operation_timeout=operation_timeout,
            commit_timeout=commit_timeout,
            observer=observer,
            commands=observer.commands,
            outage=database_is_down,
        )
        self._closed_list = regions is not None and len(regions) > 0
        self._declared = regions if regions is not None else Regions()
        self._regions: dict[str, CachedRegion] = {}
        self._switch = ReadSwitch()
        self._attachment = Attachment(self._store, self._live, observer, database, self._on_commit)
        followed = self._attachment
        path = ReadPath(followed.tracker_of, self._switch, observer)
        self._reader = Reader(followed.plan_of, path)
        self._many = ManyReader(followed.plan_of, path)
        self._queries = QueryReader(followed.query_plan_of, followed.adhoc_plan_of, path)
        self._invalidator = Invalidator(followed, self._store, self._live, observer)
        self._warmer = Warmer(
            followed.plan_of, followed.query_plan_of, followed.tracker_of, observer
        )
        self._attached: dict[int, tuple[Any, type[Session] | None, type[Session]]] = {}
        self._unsent_reported = False

    @property
    def enabled(self) -> bool:
        """The kill switch: False sends this process's reads to the database."""
        return self._switch.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._switch.enabled = enabled

    def attach(self, target: Target, *, publish: bool = True) -> None:
        """Serve the sessions of a factory from this cache, or follow the writes of an engine.

        A factory's new sessions get a subclass of its session class, and every engine they use is
        followed; open sessions stay as they are. ``publish=False`` is for an engine on a replica:
        what is read there may be old, so it is never stored. Attaching twice does nothing.
        Raises ConfigurationError if another Cache is attached, ArgumentError for other things.
        """
        self._check_open()
        if isinstance(target, Engine | AsyncEngine):
            self._attachment.follow(target, publish=publish)
            return
        factory = factory_of(target)
        if id(factory) in self._attached:
            return
        before = session_class(factory)
        if getattr(before, "_cachedorm_reader", None) is not None:
            raise ConfigurationError(
                f"{factory!r} is attached to another Cache; detach it there first"
            )
        for engine in engines_of(factory):
            self._attachment.follow(engine, publish=publish)
        made = cached_session_class(before, self._reader, self._queries, self._many)
        event.listen(made, "after_begin", self._attachment.on_after_begin)
        self._attached[id(factory)] = (factory, before, made)
        set_session_class(factory, made)

    def detach(self, target: Target) -> None:
        """Undo ``attach``: new sessions of the factory, or the engine, know nothing of this cache.

        The engines that a factory brought along stay followed until they are detached themselves,
        since other sessions may write through them.
        """
        if isinstance(target, Engine | AsyncEngine):
            self._attachment.unfollow(target)
            return
        factory = factory_of(target)
        found = self._attached.pop(id(factory), None)
        if found is not None:
            set_session_class(factory, found[1])

    def region(self, name: str | Region) -> CachedRegion:
        """The live region of this name, a dogpile.cache region; ArgumentError if there is none."""
        self._check_open()
        if isinstance(name, Region):
            return self._live(name)
        live = self._regions.get(name)
        return live if live is not None else self._live(self._declared[name])

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Within the block, this caller's reads go to the database; its writes are followed."""
        token = self._switch.bypassing.set(True)
        try:
            yield
        finally:
            self._switch.bypassing.reset(token)

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Notify this observer too within the block, of events in every thread."""
        self._observers.add(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    @overload
    def invalidate(self, what: Region | Tag, /) -> None: ...

    @overload
    def invalidate(self, what: type[Any], first: Any, /, *key: Any) -> None: ...

    @overload
    def invalidate(self, what: object, /) -> None: ...

    def invalidate(self, what: Any, /, *key: Any) -> None:
        """Invalidate the entries of an object, of a model's key, with a tag, or of a whole Region.

        As in ``invalidate(user)``, ``invalidate(User, 42)``, ``invalidate(tag(Mission.user_id,
        42))``, ``invalidate(MY)``. Needed only for writes that no attached session made. A
        key invalidates that row's own entry; an object also the queries it may be in. If Redis
        is unavailable, the invalidation is sent later. Raises ArgumentError for what has no entry.
        """
        self._invalidate(what, *key)

    def _invalidate(self, what: Any, *key: Any) -> None:
        self._check_open()
        self._invalidator.invalidate(what, key)

    def invalidate_where(self, **field: Any) -> None:
        """End every entry, in every region, whose template or tags have this field and value.

        ``invalidate_where(user_id=42)`` is everything of one user, whatever else is in the keys.
        Takes one field. Raises ArgumentError for a field that nothing declared has.
        """
        self._check_open()
        if len(field) != 1:
            raise ArgumentError(f"invalidate_where takes one field=value; given: {len(field)}")
        self._invalidator.invalidate_where(*field.popitem())

    def invalidate_matching(self, pattern: str, region: Region | str | None = None) -> int:
        """End every entry whose key matches a glob pattern, as Redis reads it; how many.

        In one region or in all. Looks at every key there, a batch at a time: for people, not for
        programs, which have ``invalidate_where``. Raises ArgumentError for an empty pattern or an
        unknown region.
        """
        self._check_open()
        return self._invalidator.invalidate_matching(pattern, self._regions_named(region))

    @overload
    async def ainvalidate(self, what: Region | Tag, /) -> None: ...

    @overload
    async def ainvalidate(self, what: type[Any], first: Any, /, *key: Any) -> None: ...

    @overload
    async def ainvalidate(self, what: object, /) -> None: ...

    async def ainvalidate(self, what: Any, /, *key: Any) -> None:
        """As ``invalidate``, for coroutines."""
        await greenlet_spawn(self._invalidate, what, *key)

    async def ainvalidate_where(self, **field: Any) -> None:
        """As ``invalidate_where``, for coroutines."""
        await greenlet_spawn(self.invalidate_where, **field)

    async def ainvalidate_matching(self, pattern: str, region: Region | str | None = None) -> int:
        """As ``invalidate_matching``, for coroutines."""
        gone: int = await greenlet_spawn(self.invalidate_matching, pattern, region)
        return gone

    def get_many(self, session: Session, model: type[T], keys: Iterable[Any]) -> list[T | None]:
        """The objects with these primary keys, in their order, None where there is no such row.

        What the session holds is the session's own; the rest is one read of the cache, and one
        SELECT for what is not there. As ``session.get`` it goes to the database where a cached
        read could be wrong. Keys are as for ``session.get``. Raises ArgumentError for what is none.
        """
        self._check_open()
        given: object = session
        if isinstance(given, AsyncSession):
            raise ArgumentError(
                "get_many got an AsyncSession; await cache.aget_many(session, ...) instead"
            )
        if not isinstance(given, Session):
            raise ArgumentError(f"get_many({given!r}, ...): the first argument must be a Session")
        return self._many.get_many(session, model, keys)

    async def aget_many(
        self, session: AsyncSession, model: type[T], keys: Iterable[Any]
    ) -> list[T | None]:
        """As ``get_many``, for coroutines."""
        given: object = session
        if isinstance(given, Session):
            raise ArgumentError(
                "aget_many got a Session; call cache.get_many(session, ...) instead"
            )
        if not isinstance(given, AsyncSession):
            raise ArgumentError(
                f"aget_many({given!r}, ...): the first argument must be an AsyncSession"
            )
        return await session.run_sync(self.get_many, model, keys)

    def warm(
        self,
        what: WarmSet | type | CachedQuery[Any],
        parameters: ParameterSets | None = None,
        *,
        source: Target | None = None,
        batch: int = BATCH,
        after: str | None = None,
        progress: Progress | None = None,
    ) -> Warmed:
        """Fill what is not cached yet: all rows of a model, or a query for each set of parameters.

        Leased like any miss, so nothing newer is overwritten; a batch at a time, so memory is
        bounded. ``after`` goes on from a ``position`` of before; ``progress`` is called after
        each batch. Reads through ``source``, by default what was attached first. Blocks until done.
        Raises CacheUnavailable without Redis, ConfigurationError where nothing may be stored.
        """
        self._check_open()
        sessions = sessions_of(self.source if source is None else source)
        chosen = WarmSet.of(what, parameters)
        return self._warmer.warm(sessions, chosen, batch=batch, after=after, progress=progress)

    async def awarm(
        self,
        what: WarmSet | type | CachedQuery[Any],
        parameters: ParameterSets | None = None,
        **options: Any,
    ) -> Warmed:
        """As ``warm``, for coroutines, with its keywords."""
        warmed: Warmed = await greenlet_spawn(self.warm, what, parameters, **options)
        return warmed

    @property
    def source(self) -> Target:
        """The factory or engine that was attached first; ConfigurationError if there is none."""
        attached: list[Target] = [factory for factory, _, _ in self._attached.values()]
        for found in (*attached, *self._attachment.engines):
            return found
        raise ConfigurationError("nothing is attached to this Cache, so it reads no database")

    @property
    def engines(self) -> list[Engine]:
        """The engines whose writes are followed; of an AsyncEngine its ``sync_engine``."""
        return self._attachment.engines

    @property
    def insight(self) -> Insight:
        """What this cache is made of, to look at: its server, what is declared, its engines."""
        return Insight(self._store, self._attachment, self._declared, only=self._closed_list)

    def stats(self) -> CacheStats:
        """The counts since this cache was made, as a value that does not change."""
        return self._stats.snapshot()

    def check(self) -> None:
        """Ask Redis whether it can serve the regions: for start-up.

        Connects and blocks. Raises CacheUnavailable if Redis does not answer, ConfigurationError
        for a region whose database number the server does not have.
        """
        self._check_open()
        for region in self._regions_named(None):
            self._live(region)
        self._store.check()

    async def acheck(self) -> None:
        """As ``check``, for coroutines."""
        await greenlet_spawn(self.check)

    def close(self) -> None:
        """Detach the factories and let go of Redis.

        Reads of sessions that are still open go to the database. A commit that changes cached rows
        after this succeeds, but Redis does not hear of it: the log says so, once. Close the cache
        after the last commit.
        """
        self._let_go()
        self._store.close()

    async def aclose(self) -> None:
        """As ``close``, for connections opened by async sessions."""
        self._let_go()
        await self._store.aclose()

    def _let_go(self) -> None:
        self._switch.closed = self._attachment.closed = True
        for factory, before, _ in self._attached.values():
            set_session_class(factory, before)
        self._attached.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._switch.closed else "open" if self.enabled else "disabled"
        factories, engines = len(self._attached), len(self._attachment.engines)
        return (
            f"<Cache {state} {self._store!r} factories={factories} engines={engines}"
            f" database={self._attachment.database!r}>"
        )

    def _on_commit(self) -> None:
        """A commit changes cached rows: say once if Redis can no longer hear of it."""
        if self._switch.closed and not self._unsent_reported:
            self._unsent_reported = True
            self._observers.error(
                "closed",
                CacheClosedError(
                    "a commit changed cached rows after this Cache was closed, so its invalidation"
                    " is not sent: other processes may serve the old rows until their time to live"
                    " is over; close the Cache after the last commit"
                ),
            )

    def _check_open(self) -> None:
        if self._switch.closed:
            raise CacheClosedError("this Cache is closed; use it before close(), or make another")

    def _live(self, region: Region) -> CachedRegion:
        if self._closed_list:
            self._declared.require(region, "Cache")
        else:
            self._declared.add(region)  # refuses a second meaning of one name
        live = self._regions.get(region.name)
        if live is None:
            live = self._regions[region.name] = self._store.region(settings_of(region))
        return live

    def _regions_named(self, named: Region | str | None) -> list[Region]:
        if isinstance(named, Region):
            return [named]
        if named is not None:
            return [self._declared[named]]
        return list(self._declared) or self._invalidator.regions()


def _told_together(stats: Stats, observers: Iterable[Observer]) -> Observers:
    """All observers of a Cache as one; ArgumentError for what is none."""
    if not isinstance(observers, Iterable):
        raise ArgumentError(f"Cache: observers={observers!r}: give a list, of one or several")
    given = tuple(observers)
    for each in given:
        if not isinstance(each, Observer):
            raise ArgumentError(
                f"Cache: observers: {each!r} is not an Observer; give instances of its subclasses"
            )
    logs = () if any(isinstance(each, LogObserver) for each in given) else (LogObserver(),)
    return Observers((stats, *logs, *given))


_SECONDS_MAX: Final = 60


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ArgumentError(f"Cache: {name}={value!r}; give a positive number of seconds")
    if value > _SECONDS_MAX:
        raise ArgumentError(
            f"Cache: {name}={value!r} is in seconds, and more than {_SECONDS_MAX};"
            f" for {value} milliseconds give {name}={value / 1000:g}"
        )


def _redis_url(given: object) -> str | None:
    """The URL of what the caller names the Redis server by."""
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return _url_of_settings(given)
    raise ArgumentError(
        f"Cache({given!r}): give the Redis server's URL, as in 'redis://localhost:6379', or a"
        " mapping of the redis client's settings, as in {'host': 'localhost'}; engines and session"
        " factories go to cache.attach(...)"
    )


def _url_of_settings(settings: Mapping[Any, Any]) -> str:
    options = {str(name): value for name, value in settings.items() if value is not None}
    for name, value in options.items():
        if not isinstance(value, str | int | float):
            raise ArgumentError(
                f"Cache: the redis setting {name} is a {type(value).__name__}; give strings,"
                " numbers, True or False"
            )
    if options.pop("db", 0):
        raise ArgumentError(
            "Cache: the redis settings name db; each Region names its database, so leave db out"
        )
    user, password = options.pop("username", ""), options.pop("password", "")
    account = f"{quote(str(user), '')}:{quote(str(password), '')}@" if user or password else ""
    host, port = options.pop("host", "localhost"), options.pop("port", 6379)
    path, tls = options.pop("unix_socket_path", None), options.pop("ssl", False)
    if path is not None:
        url = f"unix://{account}{quote(str(path))}"
    else:
        host = f"[{host}]" if ":" in str(host) else host
        url = f"{'rediss' if tls else 'redis'}://{account}{host}:{port}"
    return f"{url}?{urlencode(options)}" if options else url


def settings_of(region: Region) -> RegionSettings:
    """The region's settings as the store takes them, in milliseconds."""
    from cachedorm.declare.policies.region import milliseconds

    def ms(name: str) -> int:
        return milliseconds(getattr(region, name), name)

    return RegionSettings(
        name=region.name,
        db=region.db,
        ttl_ms=region.ttl_ms,
        negative_ttl_ms=ms("negative_ttl"),
        jitter=region.jitter,
        lease_ms=ms("lease"),
        wait_ms=ms("wait") if region.wait else 0,
        intent_ms=ms("intent"),
        intents=region.intents,
        refresh_ahead_ms=ms("refresh_ahead") if region.refresh_ahead else 0,
        stale_if_error_ms=ms("stale_if_error") if region.stale_if_error else 0,
    )
