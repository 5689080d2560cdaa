"""The shop as a service: ``uvicorn tests.support.contrib.shop_app:app``, several of them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from cachedorm.responses import CacheRule, ResponseCache
from tests.fixtures.patience import patient_cache
from tests.support.contrib.shelf import PAGES, REGIONS, Item, items_of

engine = create_async_engine(os.environ["SHOP_DATABASE_URL"])
cache = patient_cache(os.environ["SHOP_REDIS_URL"], regions=REGIONS)
sessions = async_sessionmaker(engine)
has_read, go_on = asyncio.Event(), asyncio.Event()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Attach at the start, let go at the end."""
    cache.attach(sessions)
    yield
    cache.detach(sessions)
    cache.detach(engine)
    await cache.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(
    ResponseCache,
    cache=cache,
    rules=[CacheRule("/items/{number}"), CacheRule("/owners/{owner}"), CacheRule("/held/{number}")],
    region=PAGES,
)


@app.get("/items/{number}")
async def item(number: int) -> str:
    """The title of one item."""
    async with sessions() as session:
        return (await session.get_one(Item, number)).title


@app.get("/owners/{owner}")
async def items(owner: int) -> list[str]:
    """The titles of one owner's items."""
    async with sessions() as session:
        return [each.title for each in await session.scalars(items_of(owner_id=owner))]


@app.get("/held/{number}")
async def held(number: int) -> str:
    """The same as an item, but held between reading and answering."""
    title = await item(number)
    has_read.set()
    await go_on.wait()
    return title


@app.post("/go-on")
async def let_go_on() -> None:
    """Let what is held be answered."""
    await has_read.wait()
    go_on.set()


@app.post("/read")
async def wait_for_read() -> None:
    """Answers when what is held has read its row."""
    await has_read.wait()


@app.put("/items/{number}")
async def retitle(number: int, title: str) -> str:
    """Another title, committed when this answers."""
    async with sessions() as session:
        found = await session.get_one(Item, number)
        found.title = title
        await session.commit()
    return title
