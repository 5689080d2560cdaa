"""The application: ``uvicorn --factory examples.recycling.service.app:create_app``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from cachedorm import Cache
from cachedorm.responses import ResponseCache
from examples.recycling.service import health, metrics, routes
from examples.recycling.service.guards import BodyLimit, Deadline
from examples.recycling.service.limits import LimitHeaders
from examples.recycling.service.methods import HeadAsGet
from examples.recycling.service.refusals import install_refusals
from examples.recycling.service.resources import opened
from examples.recycling.service.responses import PUBLIC
from examples.recycling.settings import Settings
from models import API


def create_app(settings: Settings | None = None) -> FastAPI:
    """A new application; its settings come from the environment. Opens nothing until it starts."""
    chosen = Settings() if settings is None else settings  # type: ignore[call-arg]
    app = FastAPI(
        title="Recycling",
        version="1",
        lifespan=lifespan_of(chosen),
        middleware=middleware(chosen, lambda: cache_of(app)),
        # A redirect would be made of the Host that the client claims.
        redirect_slashes=False,
    )
    install_refusals(app)
    app.include_router(health.router)
    app.include_router(routes.api())
    app.include_router(metrics.router)
    return app


def cache_of(app: FastAPI) -> Cache:
    """The Cache of an application that has started."""
    cache: Cache = app.state.resources.cache
    return cache


def lifespan_of(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What opens the application's resources at its start, and closes them at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings) as resources:
            app.state.resources = resources
            yield

    return lifespan


def middleware(settings: Settings, cache: Callable[[], Cache]) -> list[Middleware]:
    """The outermost first."""
    return [
        Middleware(Deadline, seconds=settings.request_timeout),
        Middleware(BodyLimit, size_bytes=settings.body_max_bytes),
        Middleware(LimitHeaders),
        # Inside of the limits' headers, which are one caller's; outside of the limits themselves,
        # so that a hit counts for nobody.
        Middleware(ResponseCache, cache=cache, rules=PUBLIC, region=API),
        Middleware(HeadAsGet),
    ]
