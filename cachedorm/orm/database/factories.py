"""Session factories of every kind: which class their sessions have, which engines they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from cachedorm.errors import ArgumentError

Factory = (
    sessionmaker[Any] | async_sessionmaker[Any] | scoped_session[Any] | async_scoped_session[Any]
)
Target = Factory | Engine | AsyncEngine


def factory_of(target: Any) -> Any:
    """The sessionmaker behind what was given; ArgumentError for other things."""
    if isinstance(target, scoped_session | async_scoped_session):
        return target.session_factory
    if isinstance(target, sessionmaker | async_sessionmaker):
        return target
    raise ArgumentError(
        f"attach({target!r}): give a sessionmaker, async_sessionmaker, scoped_session, Engine or"
        " AsyncEngine"
    )


def session_class(factory: Any) -> type[Session]:
    """The class of the (sync) sessions that it makes."""
    if isinstance(factory, async_sessionmaker):
        chosen = factory.kw.get("sync_session_class") or factory.class_.sync_session_class
    else:
        chosen = factory.class_
    found: type[Session] = chosen
    return found


def set_session_class(factory: Any, class_: type[Session] | None) -> None:
    """Make it make sessions of this class; None: of the class it had by itself."""
    if isinstance(factory, async_sessionmaker):
        # Its own class is shared by every async_sessionmaker; the keyword is its alone.
        factory.kw["sync_session_class"] = class_
    else:
        factory.class_ = class_


def engines_of(factory: Any) -> list[Engine | AsyncEngine]:
    """The engines that its sessions are bound to, as far as it says."""
    binds = [factory.kw.get("bind"), *(factory.kw.get("binds") or {}).values()]
    return [bind for bind in binds if isinstance(bind, Engine | AsyncEngine)]


def sessions_of(source: Any) -> Callable[[], Session]:
    """Makes sessions through a factory or an engine; those of async ones need a greenlet."""
    if isinstance(source, AsyncEngine):
        source = source.sync_engine
    if isinstance(source, Engine):
        return sessionmaker(source)
    factory = factory_of(source)
    if isinstance(factory, async_sessionmaker):
        return lambda: factory().sync_session
    made: Callable[[], Session] = factory
    return made


def is_async(source: Any) -> bool:
    """Whether its sessions are for coroutines."""
    return isinstance(source, AsyncEngine | async_sessionmaker | async_scoped_session)
