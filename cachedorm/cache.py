"""Cache: owns the regions, attaches to session factories and engines, closes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from sqlalchemy import event, inspect
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Mapper, Session, scoped_session, sessionmaker

from cachedorm.declare.region import Region, Regions
from cachedorm.declare.shape import entity_shape
from cachedorm.errors import ArgumentError, CacheClosedError, ConfigurationError
from cachedorm.observe import LogObserver, Observer, Observers, Stats
from cachedorm.orm.followed import Followed
from cachedorm.orm.outages import database_is_down
from cachedorm.orm.reads import Reader
from cachedorm.orm.session import cached_session_class
from cachedorm.store.region import CachedRegion, RegionSettings
from cachedorm.store.slots import Touched
from cachedorm.store.store import Store

Factory = (
    sessionmaker[Any] | async_sessionmaker[Any] | scoped_session[Any] | async_scoped_session[Any]
)
Target = Factory | Engine | AsyncEngine


class Cache:
    """The cache of one database: sessions attached to it read from Redis and are never stale.

    ``url`` is the Redis server's, without a database number (regions name theirs); without a URL
    entries live in this process, with the same promises within it. ``database`` names the database
    that the rows come from where its URL does not (several addresses of one database); entries of
    different databases are never mixed up. Time limits are seconds. Close it when done.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        regions: Regions | None = None,
        database: str | None = None,
        observers: Iterable[Observer] = (),
        connect_timeout: float = 0.25,
        operation_timeout: float = 0.25,
        commit_timeout: float = 0.5,
    ) -> None:
        self._stats = Stats()
        observer = Observers((self._stats, LogObserver(), *observers))
        self._store = Store.connect(
            url,
            connect_timeout=connect_timeout,
            operation_timeout=operation_timeout,
            commit_timeout=commit_timeout,
            observer=observer,
            outage=database_is_down,
        )
        self._closed_list = regions is not None and len(regions) > 0
        self._declared = regions if regions is not None else Regions()
        self._regions: dict[str, CachedRegion] = {}
        self._followed = Followed(self._store, self._live, observer, database, self._check_open)
        self._reader = Reader(
            self._followed.plan_of, self._followed.follower_of, self._serves, observer
        )
        self._bypassing: ContextVar[bool] = ContextVar("cachedorm_bypass", default=False)
        self._attached: dict[int, tuple[Any, type[Session] | None, type[Session]]] = {}
        self._closed = False
        self.enabled = True

    def attach(self, target: Target, *, publish: bool = True) -> None:
        """Serve the sessions of a factory from this cache, or follow the writes of an engine.

        A factory's new sessions get a subclass of its session class, and every engine they use is
        followed; open sessions stay as they are. ``publish=False`` is for an engine on a replica:
        what is read there may be old, so it is never stored. Attaching twice does nothing.
        Raises ConfigurationError if another Cache is attached, ArgumentError for other things.
        """
        self._check_open()
        if isinstance(target, Engine | AsyncEngine):
            self._followed.follow(target, publish=publish)
            return
        factory = _factory_of(target)
        if id(factory) in self._attached:
            return
        before = _session_class(factory)
        if getattr(before, "_cachedorm_reader", None) is not None:
            raise ConfigurationError(
                f"{factory!r} is attached to another Cache; detach it there first"
            )
        for engine in _engines_of(factory):
            self._followed.follow(engine, publish=publish)
        made = cached_session_class(before, self._reader)
        event.listen(made, "after_begin", self._followed.met)
        self._attached[id(factory)] = (factory, before, made)
        _set_session_class(factory, made)

    def detach(self, target: Target) -> None:
        """Undo ``attach``: new sessions of the factory, or the engine, know nothing of this cache.

        The engines that a factory brought along stay followed until they are detached themselves,
        since other sessions may write through them.
        """
        if isinstance(target, Engine | AsyncEngine):
            self._followed.unfollow(target)
            return
        factory = _factory_of(target)
        found = self._attached.pop(id(factory), None)
        if found is not None:
            _set_session_class(factory, found[1])

    def region(self, name: str) -> CachedRegion:
        """The live region of this name, a dogpile.cache region; ArgumentError if there is none."""
        self._check_open()
        live = self._regions.get(name)
        return live if live is not None else self._live(self._declared[name])

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Within the block, this caller's reads go to the database; its writes are followed."""
        token = self._bypassing.set(True)
        try:
            yield
        finally:
            self._bypassing.reset(token)

    def invalidate(self, what: Any, *key: Any) -> None:
        """Make one row's entries doubtful: by object, or by model and key (``User, 42``).

        For writes that no session saw. A committed write needs none of this.
        """
        self._check_open()
        touched = Touched()
        if isinstance(what, type):
            self._touch_key(touched, inspect(what), key)
        else:
            state = inspect(what)
            if state.key is None:
                raise ArgumentError(f"invalidate({what!r}): the object has no identity yet")
            self._followed.touch_object(touched, state)
        self._store.invalidate(touched)

    def stats(self) -> Stats:
        """What happened since this cache was made, counted per region."""
        return self._stats

    def close(self) -> None:
        """Let go of Redis. Detach factories and engines first: a closed cache refuses to serve."""
        self._closed = True
        self._store.close()

    async def aclose(self) -> None:
        """As ``close``, for connections opened by async sessions."""
        self._closed = True
        await self._store.aclose()

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
        state = "closed" if self._closed else "open" if self.enabled else "disabled"
        factories, engines = len(self._attached), len(self._followed.engines)
        return (
            f"<Cache {state} {self._store!r} factories={factories} engines={engines}"
            f" database={self._followed.database!r}>"
        )

    def _serves(self) -> bool:
        self._check_open()
        return self.enabled and not self._bypassing.get()

    def _check_open(self) -> None:
        if self._closed:
            raise CacheClosedError(
                "this Cache is closed, but sessions attached to it are still in use;"
                " close it last, or detach their factories and engines first"
            )

    def _live(self, region: Region) -> CachedRegion:
        if self._closed_list:
            self._declared.require(region, "Cache")
        else:
            self._declared.add(region)  # refuses a second meaning of one name
        live = self._regions.get(region.name)
        if live is None:
            live = self._regions[region.name] = self._store.region(settings_of(region))
        return live

    def _touch_key(self, touched: Touched, mapper: Mapper[Any], key: tuple[Any, ...]) -> None:
        shape = entity_shape(mapper)
        if shape is None or shape.template is None:
            raise ArgumentError(f"invalidate({mapper.class_.__name__}): it is not cached by key")
        fields = shape.template.fields
        if len(key) != len(fields):
            raise ArgumentError(
                f"invalidate({mapper.class_.__name__}, ...) takes its key's fields:"
                f" {', '.join(fields)}; given: {len(key)}"
            )
        text = shape.template.render(dict(zip(fields, key, strict=True)))
        touched.add_entries(shape.policy.region.db, (text,))


def settings_of(region: Region) -> RegionSettings:
    """The region's settings as the store takes them, in milliseconds."""
    from cachedorm.declare.region import milliseconds

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


def _factory_of(target: Any) -> Any:
    if isinstance(target, scoped_session | async_scoped_session):
        return target.session_factory
    if isinstance(target, sessionmaker | async_sessionmaker):
        return target
    raise ArgumentError(
        f"attach({target!r}): give a sessionmaker, async_sessionmaker, scoped_session, Engine or"
        " AsyncEngine"
    )


def _session_class(factory: Any) -> type[Session]:
    if isinstance(factory, async_sessionmaker):
        chosen = factory.kw.get("sync_session_class") or factory.class_.sync_session_class
    else:
        chosen = factory.class_
    found: type[Session] = chosen
    return found


def _set_session_class(factory: Any, class_: type[Session] | None) -> None:
    if isinstance(factory, async_sessionmaker):
        # Its own class is shared by every async_sessionmaker; the keyword is its alone.
        factory.kw["sync_session_class"] = class_
    else:
        factory.class_ = class_


def _engines_of(factory: Any) -> list[Engine | AsyncEngine]:
    binds = [factory.kw.get("bind"), *(factory.kw.get("binds") or {}).values()]
    return [bind for bind in binds if isinstance(bind, Engine | AsyncEngine)]
