"""The Cache, the engine and the sessions of one process: opened when it begins, closed at its end.

``cachedorm warm --app examples.recycling.caching:cache`` is the nightly job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

import models
from cachedorm import Cache, Observer
from examples.recycling.settings import Servers
from models.warm import guides, popular_places

WARM_SETS = (guides, popular_places)


@dataclass(frozen=True, slots=True)
class Stores:
    """An engine, a session factory on it, and the Cache that serves the factory's sessions."""

    engine: Engine
    sessions: sessionmaker[Session]
    cache: Cache

    def close(self) -> None:
        """Let go of Redis and of the database; sessions must be closed by then."""
        self.cache.detach(self.sessions)
        self.cache.close()
        self.engine.dispose()


def open_stores(servers: Servers) -> Stores:
    """Stores on these servers. Connects to none of them yet; not to be carried over a fork."""
    engine = create_engine(
        servers.database_url, pool_pre_ping=True, connect_args={"connect_timeout": 5}
    )
    sessions = sessionmaker(engine)
    cache = open_cache(servers)
    cache.attach(sessions)
    return Stores(engine, sessions, cache)


def open_cache(servers: Servers, observers: Iterable[Observer] = ()) -> Cache:
    """A Cache on the Redis that the settings name, switched on or off as they say."""
    cache = Cache(
        servers.redis_url,
        regions=models.REGIONS,
        observers=observers,
        connect_timeout=servers.redis_timeout,
        operation_timeout=servers.redis_timeout,
        commit_timeout=2 * servers.redis_timeout,
    )
    cache.enabled = servers.cache
    return cache


def cache() -> Cache:
    """A Cache attached to sessions, on the servers that the environment names."""
    return open_stores(Servers()).cache
