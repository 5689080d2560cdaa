"""What one application owns while it runs: the database, the cache, the limiter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from starlette.requests import HTTPConnection

from cachedorm import Cache
from cachedorm.contrib.fastapi import Warming, serving
from cachedorm.contrib.prometheus import PrometheusObserver
from examples.recycling.caching import WARM_SETS, open_cache
from examples.recycling.service.limiter import RATE_DB, Limiter
from examples.recycling.service.tokens import Tokens
from examples.recycling.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """Open from the application's start to its end."""

    settings: Settings
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    cache: Cache
    limiter: Limiter
    tokens: Tokens
    warming: Warming
    metrics: CollectorRegistry


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Resources]:
    """Everything open and the cache warm, or being warmed; closed afterwards in turn.

    Starts whether or not the servers are up: `/ready` says when they are.
    """
    engine = _engine(settings)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    limiter = Limiter(settings.durable_redis_in(RATE_DB), settings.limit_timeout)
    metrics = CollectorRegistry()
    observers = (PrometheusObserver(metrics),)
    cache = open_cache(settings, observers)
    sets = WARM_SETS if settings.cache and settings.warm_at_start else ()
    try:
        async with serving(
            cache, sessions, warm=sets, ready_within=settings.ready_within
        ) as warming:
            yield Resources(
                settings, engine, sessions, cache, limiter, _tokens(settings), warming, metrics
            )
    finally:
        await limiter.close()
        await engine.dispose()


def resources_of(connection: HTTPConnection) -> Resources:
    """The resources of the application that a request came to."""
    resources: Resources = connection.app.state.resources
    return resources


def _tokens(settings: Settings) -> Tokens:
    return Tokens(settings.jwt_secret.get_secret_value(), settings.jwt_issuer)


def _engine(settings: Settings) -> AsyncEngine:
    seconds = settings.database_timeout
    return create_async_engine(
        settings.database_url,
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_timeout=seconds,
        pool_pre_ping=True,
        connect_args={
            # libpq counts whole seconds, and reads 1 as 2.
            "connect_timeout": max(2, round(seconds)),
            # A peer that has gone without a word is noticed in the time of a request.
            "tcp_user_timeout": round(settings.request_timeout * 1000),
        },
    )
