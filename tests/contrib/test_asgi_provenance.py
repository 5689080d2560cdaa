"""What a response is made of: cached reads are noted, any other keeps it from the cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert, select, text
from sqlalchemy.orm import Session, sessionmaker
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cachedorm import Cache
from cachedorm.responses import CacheRule, ResponseCache
from cachedorm.responses.provenance import SOURCES_MAX, Provenance
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.provenance import current, recording
from tests.fixtures.patience import patient_cache
from tests.support.contrib.shelf import PAGES, REGIONS, ROWS, Base, Diary, Item, Owner, items_of
from tests.support.contrib.site import Site, asking, is_hit, is_stored

Reads = Callable[[Site], Awaitable[object]]


async def reason_of(site: Site, reads: Reads) -> str:
    """What the cache says of a response that was made with these reads."""

    async def endpoint(request: Request) -> Response:
        await reads(site)
        return JSONResponse("made")

    async with site.client(endpoint) as client:
        response = await client.get("/here")
    assert response.json() == "made"
    return response.headers["cache-status"]


async def session_sql(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
        await session.scalars(select(Diary))


async def core_sql(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
    with site.engine.connect() as connection:
        connection.execute(text("select 1"))


async def plain_session(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
    with Session(site.engine) as session:
        session.get(Item, 1)


async def a_write(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
        await session.execute(insert(Diary).values(id=1))
        await session.commit()


async def own_writes(site: Site) -> None:
    async with site.sessions() as session:
        session.add(Item(id=7, title="seven"))
        await session.get(Item, 1)


async def an_excluded_column(site: Site) -> None:
    async with site.sessions() as session:
        item = await session.get_one(Item, 1)
        await session.refresh(item, ["secret"])


async def bypassed(site: Site) -> None:
    with site.cache.bypass():
        async with site.sessions() as session:
            await session.get(Item, 1)


async def for_update(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1, with_for_update=True)


async def nothing(site: Site) -> None:
    return


async def a_plain_miss(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
    site.cache.region("rows").get("never set")


async def a_limit_of_its_own(site: Site) -> None:
    site.cache.region("rows").get_or_create("plain", lambda: "made", expiration_time=30)


async def a_value_too_old_for_it(site: Site) -> None:
    region = site.cache.region("rows")
    region.set("plain", "made")
    assert region.get("plain", expiration_time=-2) is NO_VALUE


async def values_too_old_for_it(site: Site) -> None:
    region = site.cache.region("rows")
    region.set("plain", "made")
    assert region.get_multi(["plain"], expiration_time=-2) == [NO_VALUE]


async def many_made_for_it(site: Site) -> None:
    region = site.cache.region("rows")
    region.set("plain", "made")
    made = region.get_or_create_multi(
        ["plain"], lambda key: ["anew"], expiration_time=-2, should_cache_fn=lambda value: False
    )
    assert made == ["anew"]


async def in_a_thread(site: Site) -> None:
    def read() -> None:
        with Session(site.engine) as session:
            session.scalars(select(Diary)).all()

    async with site.sessions() as session:
        await session.get(Item, 1)
    await asyncio.to_thread(read)


async def in_a_task(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
    await asyncio.create_task(session_sql(site))


async def many_past_the_cache(site: Site) -> None:
    with site.cache.bypass():
        async with site.sessions() as session:
            await site.cache.aget_many(session, Item, [1, 2])


REFUSED = {
    "SQL in a session": (session_sql, "sql"),
    "SQL on an engine": (core_sql, "sql"),
    "a session that no cache serves": (plain_session, "sql"),
    "a write": (a_write, "sql"),
    "a session with writes of its own": (own_writes, "past the cache"),
    "a column that is not cached": (an_excluded_column, "sql"),
    "a read in bypass()": (bypassed, "past the cache"),
    "many reads in bypass()": (many_past_the_cache, "past the cache"),
    "a locking read": (for_update, "sql"),
    "no read at all": (nothing, "no cached read"),
    "a plain region's miss": (a_plain_miss, "plain miss"),
    "a plain region with a limit of one's own": (a_limit_of_its_own, "own expiration"),
    "a plain value that is too old": (a_value_too_old_for_it, "own expiration"),
    "plain values that are too old": (values_too_old_for_it, "own expiration"),
    "plain values made anew": (many_made_for_it, "own expiration"),
    "SQL in a worker thread": (in_a_thread, "sql"),
    "SQL in a task": (in_a_task, "sql"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_response_is_not_stored_after(site: Site, name: str) -> None:
    """It would not follow what it was made of."""
    reads, reason = REFUSED[name]
    assert await reason_of(site, reads) == f'cachedorm; fwd=miss; detail="{reason}"'


async def by_key(site: Site) -> None:
    async with site.sessions() as session:
        await session.scalar(Item.by(id=1))


async def many(site: Site) -> None:
    async with site.sessions() as session:
        await site.cache.aget_many(session, Item, [1, 2, 3])


async def a_query(site: Site) -> None:
    async with site.sessions() as session:
        await session.scalars(items_of(owner_id=1))


async def a_sync_session(site: Site) -> None:
    def read() -> None:
        with site.sync_sessions() as session:
            session.get(Item, 1)

    await asyncio.to_thread(read)


async def a_spawned_task(site: Site) -> None:
    await asyncio.create_task(by_key(site))


async def an_object_twice(site: Site) -> None:
    async with site.sessions() as session:
        await session.get(Item, 1)
        await session.get(Item, 1)
        await session.scalars(items_of(owner_id=1))


FOLLOWED: dict[str, Reads] = {
    "Model.by": by_key,
    "get_many": many,
    "a query": a_query,
    "a sync session in a thread": a_sync_session,
    "a spawned task": a_spawned_task,
    "an object that the session holds": an_object_twice,
}


@pytest.mark.parametrize("name", FOLLOWED)
async def test_a_response_follows(site: Site, name: str) -> None:
    """Stored on a cold cache and on a warm one, and gone with the row."""
    reads = FOLLOWED[name]

    async def endpoint(request: Request) -> Response:
        await reads(site)
        return JSONResponse("made")

    async with site.client(endpoint) as client:
        assert is_stored(await client.get("/here"))
        assert is_hit(await client.get("/here"))
        await site.cache.ainvalidate_matching("response:*")
        assert is_stored(await client.get("/here"))
        await site.retitle("uno")
        assert not is_hit(await client.get("/here"))


async def test_a_thread_without_the_context(site: Site) -> None:
    """Nobody sees what it reads; unless it is given the request's context."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        with site.sync_sessions() as session:
            session.get(Item, 1)

    async def without(site: Site) -> None:
        await loop.run_in_executor(None, read)

    async def with_it(site: Site) -> None:
        await loop.run_in_executor(None, copy_context().run, read)

    assert await reason_of(site, without) == 'cachedorm; fwd=miss; detail="no cached read"'
    await asyncio.sleep(0)
    assert await reason_of(site, with_it) == "cachedorm; fwd=miss; stored"


async def test_entries_of_another_cache(site: Site, redis_url: str) -> None:
    """Whether those still stand, this cache's Redis cannot say."""
    engine = create_engine(site.engine.url)
    others = sessionmaker(engine)
    with patient_cache(redis_url, regions=REGIONS) as other:
        other.attach(others)

        async def reads(site: Site) -> None:
            await by_key(site)
            with others() as session:
                session.get(Item, 1)

        assert await reason_of(site, reads) == 'cachedorm; fwd=miss; detail="another cache"'
        other.detach(others)
        other.detach(engine)
    engine.dispose()


async def test_a_session_from_before_the_request(site: Site) -> None:
    """What it holds was read by nobody that was noted."""
    async with site.sessions() as session:
        kept = await session.get(Item, 1)

        async def reads(site: Site) -> None:
            assert await session.get(Item, 1) is kept
            await by_key(site)

        assert await reason_of(site, reads) == 'cachedorm; fwd=miss; detail="older session"'


async def test_what_is_read_after_the_response(site: Site) -> None:
    """A background task's SQL is not in it."""

    async def endpoint(request: Request) -> Response:
        await by_key(site)
        return JSONResponse("made", background=BackgroundTask(session_sql, site))

    async with site.client(endpoint) as client:
        assert is_stored(await client.get("/here"))
        assert is_hit(await client.get("/here"))


async def test_reads_while_the_body_is_sent(site: Site) -> None:
    """A body that is made while it is streamed reads too."""

    async def endpoint(request: Request) -> Response:
        async def body() -> Any:
            yield b"one "
            await by_key(site)
            yield b"two"

        return StreamingResponse(body(), media_type="text/plain")

    async with site.client(endpoint) as client:
        assert is_stored(await client.get("/here"))
        second = await client.get("/here")
        assert is_hit(second)
        assert second.text == "one two"
        await site.retitle("uno")
        assert not is_hit(await client.get("/here"))


async def test_the_log_says_what_was_read(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The statement, without its values; the observer counts the reason."""
    with caplog.at_level(logging.INFO, "cachedorm"):
        await reason_of(site, session_sql)
    assert "GET '/here' is not stored: sql: SELECT page_diaries.id" in caplog.text
    assert site.cache.stats().bypasses["pages", "response: sql"] == 1


async def test_with_nobody_recording_nothing_is_noted(site: Site) -> None:
    """Reads outside of requests leave no trace."""
    await by_key(site)
    assert current() is None


async def test_a_cold_cache_over_sqlite(tmp_path: Path) -> None:
    """A miss opens a snapshot, in which no more is served; the next request is not held up."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)

    async def endpoint(request: Request) -> Response:
        with sessions() as session:
            return JSONResponse([session.get_one(Item, number).title for number in (1, 2)])

    async with Cache(regions=REGIONS) as cache:
        cache.attach(sessions)
        with sessions.begin() as session:
            session.add_all([Item(id=1, title="one"), Item(id=2, title="two")])
        app = Starlette(routes=[Route("/here", endpoint)])
        async with asking(ResponseCache(app, cache, [CacheRule("/here")], region=PAGES)) as client:
            first = await client.get("/here")
            assert first.headers["cache-status"] == 'cachedorm; fwd=miss; detail="past the cache"'
            assert is_stored(await client.get("/here"))
            assert is_hit(await client.get("/here"))
        cache.detach(sessions)
        cache.detach(engine)
    engine.dispose()


async def test_too_many_entries(site: Site) -> None:
    """An answer of hundreds of entries is not worth a look at all of them."""
    slots = site.cache.region(ROWS).entries.slots
    provenance = Provenance(slots)
    async with site.sessions() as session:
        with recording(provenance):
            numbers = range(1, SOURCES_MAX + 2)
            await site.cache.aget_many(session, Owner, numbers)
    refusal = provenance.seal()
    assert refusal is not None
    assert refusal.reason == "too many entries"
