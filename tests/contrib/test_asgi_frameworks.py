"""FastAPI, Starlette and Litestar, each with its own way to add a middleware."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware import DefineMiddleware
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from cachedorm.responses import CacheRule, ResponseCache
from tests.support.contrib.shelf import PAGES, Diary, Item
from tests.support.contrib.site import Site, asking, is_hit, is_stored

RULES = [
    CacheRule("/async/{number}"),
    CacheRule("/sync/{number}"),
    CacheRule("/plain/{number}"),
]


def fastapi_app(site: Site) -> Any:
    """Sessions as dependencies; ``def`` endpoints run in FastAPI's threads."""
    router = APIRouter()

    async def opened() -> AsyncIterator[AsyncSession]:
        async with site.sessions() as session:
            yield session

    def opened_sync() -> Iterator[Session]:
        with site.sync_sessions() as session:
            yield session

    @router.get("/async/{number}")
    async def read(number: int, session: Annotated[AsyncSession, Depends(opened)]) -> str:
        return (await session.get_one(Item, number)).title

    @router.get("/sync/{number}")
    def read_sync(number: int, session: Annotated[Session, Depends(opened_sync)]) -> str:
        return session.get_one(Item, number).title

    @router.get("/plain/{number}")
    def read_plain(number: int, session: Annotated[Session, Depends(opened_sync)]) -> str:
        session.scalars(select(Diary)).all()
        return session.get_one(Item, number).title

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(ResponseCache, cache=site.cache, rules=RULES, region=PAGES)
    return app


def starlette_app(site: Site) -> Any:
    """With a BaseHTTPMiddleware inside, which runs the rest in a task of its own."""

    async def read(request: Request) -> Response:
        async with site.sessions() as session:
            item = await session.get_one(Item, request.path_params["number"])
        return JSONResponse(item.title)

    def read_sync(request: Request) -> Response:
        with site.sync_sessions() as session:
            return JSONResponse(session.get_one(Item, request.path_params["number"]).title)

    def read_plain(request: Request) -> Response:
        with site.sync_sessions() as session:
            session.scalars(select(Diary)).all()
            return JSONResponse(session.get_one(Item, request.path_params["number"]).title)

    async def timed(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    return Starlette(
        routes=[
            Route("/async/{number:int}", read),
            Route("/sync/{number:int}", read_sync),
            Route("/plain/{number:int}", read_plain),
        ],
        middleware=[
            Middleware(ResponseCache, cache=site.cache, rules=RULES, region=PAGES),
            Middleware(BaseHTTPMiddleware, dispatch=timed),
        ],
    )


def litestar_app(site: Site) -> Any:
    """Litestar hands its middleware on to each route."""

    @get("/async/{number:int}")
    async def read(request: LitestarRequest[Any, Any, Any]) -> str:
        async with site.sessions() as session:
            return (await session.get_one(Item, request.path_params["number"])).title

    @get("/sync/{number:int}", sync_to_thread=True)
    def read_sync(request: LitestarRequest[Any, Any, Any]) -> str:
        with site.sync_sessions() as session:
            return session.get_one(Item, request.path_params["number"]).title

    @get("/plain/{number:int}", sync_to_thread=True)
    def read_plain(request: LitestarRequest[Any, Any, Any]) -> str:
        with site.sync_sessions() as session:
            session.scalars(select(Diary)).all()
            return session.get_one(Item, request.path_params["number"]).title

    middleware: Any = ResponseCache
    cached = DefineMiddleware(middleware, cache=site.cache, rules=RULES, region=PAGES)
    return Litestar([read, read_sync, read_plain], middleware=[cached], openapi_config=None)


FRAMEWORKS: dict[str, Callable[[Site], Any]] = {
    "FastAPI": fastapi_app,
    "Starlette": starlette_app,
    "Litestar": litestar_app,
}


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_response_follows_its_row(site: Site, framework: str, kind: str) -> None:
    """From coroutines and from the framework's threads."""
    path = f"/{kind}/1"
    async with asking(FRAMEWORKS[framework](site)) as client:
        first = await client.get(path)
        assert is_stored(first)
        second = await client.get(path)
        assert is_hit(second)
        assert second.content == first.content
        await site.retitle("uno")
        after = await client.get(path)
        assert not is_hit(after)
        assert "uno" in after.text
        assert is_hit(await client.get(path))


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_sql_in_a_thread_is_seen(site: Site, framework: str) -> None:
    """The framework copies the context into its threads."""
    async with asking(FRAMEWORKS[framework](site)) as client:
        response = await client.get("/plain/1")
    assert response.status_code == 200
    assert response.headers["cache-status"] == 'cachedorm; fwd=miss; detail="sql"'


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_missing_row_is_the_applications_affair(site: Site, framework: str) -> None:
    """Whatever it makes of it, it is no 200 and not kept."""
    async with asking(FRAMEWORKS[framework](site)) as client:
        answers = [await client.get("/async/77") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 500]
    assert not any(is_hit(answer) for answer in answers if "cache-status" in answer.headers)


async def test_a_mounted_application(site: Site) -> None:
    """Rules are about paths as the wrapped application sees them."""

    async def read(request: Request) -> Response:
        async with site.sessions() as session:
            item = await session.get_one(Item, request.path_params["number"])
        return JSONResponse(item.title)

    inner = Starlette(routes=[Route("/items/{number:int}", read)])
    rules = [CacheRule("/items/{number}")]
    cached = ResponseCache(inner, site.cache, rules, region=PAGES)
    other = ResponseCache(inner, site.cache, rules, region=PAGES)
    app = Starlette(routes=[Mount("/shop", cached), Mount("/other", other)])
    async with asking(app) as client:
        await client.get("/shop/items/1")
        assert is_hit(await client.get("/shop/items/1"))
        assert not is_hit(await client.get("/other/items/1"))


async def test_a_compressed_response_is_kept_apart(site: Site) -> None:
    """Gzip inside the cache varies on what the client accepts; say so in the rule."""

    async def read(request: Request) -> Response:
        async with site.sessions() as session:
            item = await session.get_one(Item, 1)
        return JSONResponse([item.title] * 500)

    def app(rule: CacheRule) -> ResponseCache:
        inner = GZipMiddleware(Starlette(routes=[Route("/here", read)]))
        return ResponseCache(inner, site.cache, [rule], region=PAGES)

    async with asking(app(CacheRule("/here"))) as client:
        unsaid = await client.get("/here")
    assert unsaid.headers["cache-status"].endswith('detail="vary"')
    async with asking(app(CacheRule("/here", vary=("accept-encoding",)))) as client:
        await client.get("/here")
        hit = await client.get("/here")
        plain = await client.get("/here", headers={"accept-encoding": "identity"})
    assert is_hit(hit)
    assert hit.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert hit.json() == plain.json()
