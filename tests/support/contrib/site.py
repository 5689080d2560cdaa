"""An application behind the response cache, and a client that asks it as one process would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cachedorm import Cache
from cachedorm.responses import CacheRule, ResponseCache
from tests.support.contrib.shelf import PAGES, Item, Owner, items_of

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class Site:
    """Endpoints over the shop. ``runs``: how often each path was run by the application."""

    cache: Cache
    sessions: async_sessionmaker[AsyncSession]
    sync_sessions: sessionmaker[Session]
    engine: Engine
    redis_url: str
    runs: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def moved_to(self, cache: Cache) -> AsyncIterator[Site]:
        """The same application over another Cache, which is closed at the end."""
        self.detach(self.cache)
        cache.attach(self.sync_sessions)
        cache.attach(self.sessions)
        yield replace(self, cache=cache, runs=[])
        self.detach(cache)
        await cache.aclose()

    def detach(self, cache: Cache) -> None:
        """No longer serve the sessions from this Cache."""
        engine = self.sessions.kw["bind"]
        for attached in (self.sessions, self.sync_sessions, self.engine, engine):
            cache.detach(attached)

    def client(
        self,
        endpoint: Endpoint | None = None,
        rules: Sequence[CacheRule] | None = None,
        **options: Any,
    ) -> httpx.AsyncClient:
        """Asks the shop, or an endpoint of one's own at ``/here`` (and below)."""
        return asking(self.app(endpoint, rules, **options))

    def app(
        self,
        endpoint: Endpoint | None = None,
        rules: Sequence[CacheRule] | None = None,
        **options: Any,
    ) -> ResponseCache:
        """The application behind its cache."""
        routes = [
            Route("/items/{id:int}", self._counted(self.item)),
            Route("/owners/{id:int}", self._counted(self.owner)),
            Route("/owners/{id:int}/items", self._counted(self.items)),
        ]
        if endpoint is not None:
            routes += [
                Route("/here", self._counted(endpoint)),
                Route("/here/{rest}", self._counted(endpoint)),
            ]
        given = rules or [
            CacheRule("/items/{id}"),
            CacheRule("/owners/{id}"),
            CacheRule("/owners/{id}/items"),
            CacheRule("/here"),
        ]
        cache = options.pop("cache", self.cache)
        region = options.pop("region", PAGES)
        return ResponseCache(Starlette(routes=routes), cache, given, region=region, **options)

    def _counted(self, endpoint: Endpoint) -> Endpoint:
        async def run(request: Request) -> Response:
            self.runs.append(request.url.path)
            return await endpoint(request)

        return run

    async def item(self, request: Request) -> Response:
        async with self.sessions() as session:
            item = await session.get(Item, request.path_params["id"])
        return JSONResponse({"title": item and item.title})

    async def owner(self, request: Request) -> Response:
        async with self.sessions() as session:
            owner = await session.get(Owner, request.path_params["id"])
        return JSONResponse({"name": owner and owner.name})

    async def items(self, request: Request) -> Response:
        async with self.sessions() as session:
            found = await session.scalars(items_of(owner_id=request.path_params["id"]))
            return JSONResponse([item.title for item in found])

    async def retitle(self, title: str, number: int = 1) -> None:
        """Another title, committed."""
        async with self.sessions() as session:
            item = await session.get_one(Item, number)
            item.title = title
            await session.commit()


async def elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """Do it in the middle of a request, but not as a part of it."""
    await asyncio.create_task(work, context=Context())


def asking(app: Any) -> httpx.AsyncClient:
    """A client of this application, in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://shop")


def is_hit(response: httpx.Response) -> bool:
    """Whether the response cache says that it has answered."""
    return "cachedorm; hit" in response.headers["cache-status"]


def is_stored(response: httpx.Response) -> bool:
    """Whether it says that it has kept the application's answer."""
    return response.headers["cache-status"].endswith("; stored")
