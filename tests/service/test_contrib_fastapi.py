"""`cachedorm.contrib.fastapi` in an application of a dozen lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from cachedorm import Cache, WarmSet
from cachedorm.contrib.fastapi import serving, session_of
from cachedorm.errors import CacheClosedError
from examples.recycling.migrate import migrate
from models import REGIONS, Guide
from models.warm import popular_places
from tests.fixtures.patience import patient_cache

Made = tuple[Cache, async_sessionmaker[AsyncSession]]
Opened = Annotated[AsyncSession, Depends(session_of(lambda request: request.app.state.sessions))]


@pytest.fixture
async def made(engine: Engine, redis_url: str) -> AsyncIterator[Made]:
    """A Cache and a factory on a migrated database with two guides."""
    with engine.begin() as connection:
        migrate(connection)
    with Session(engine) as session:
        session.add_all(Guide(category=name, title="t", content="c") for name in ("can", "jar"))
        session.commit()
    async_engine: AsyncEngine = create_async_engine(engine.url)
    yield patient_cache(redis_url, regions=REGIONS), async_sessionmaker(async_engine)
    await async_engine.dispose()


async def test_an_application_reads_through_it(made: Made) -> None:
    """Warm before the first request; each request has a session of its own; closed at the end."""
    cache, sessions = made

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.sessions = sessions
        async with serving(cache, sessions, warm=[WarmSet("all guides", Guide)], ready_within=300):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/guides/{category}")
    async def guide(category: str, session: Opened) -> dict[str, str | None]:
        found = await session.scalar(Guide.by(category=category))
        return {"title": found.title if found else None}

    async with lifespan(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for category in ("can", "jar"):
                assert (await client.get(f"/guides/{category}")).json() == {"title": "t"}
        assert cache.stats().hits == {"info": 2}
    with pytest.raises(CacheClosedError):
        cache.region("info")


async def test_what_is_not_warm_in_time_goes_on(made: Made, engine: Engine) -> None:
    """Serving begins; at the end the task is stopped wherever it is."""
    cache, sessions = made
    with engine.connect() as connection:
        connection.execute(text("lock table info_db.recycle_guides in access exclusive mode"))
        async with serving(cache, sessions, warm=[WarmSet("late guides", Guide)], ready_within=0):
            tasks = [each for each in asyncio.all_tasks() if each.get_name() == "cachedorm-warming"]
            assert len(tasks) == 1
            assert not tasks[0].done()
        assert tasks[0].cancelled()
        connection.rollback()


async def test_a_warming_that_fails_is_told(
    made: Made, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The application starts, and the log says what is cold; the next set is filled."""
    cache, sessions = made
    with engine.begin() as connection:
        connection.execute(text("drop table location_db.recycle_centers"))
    after = WarmSet("guides after that", Guide)
    with caplog.at_level(logging.WARNING, "cachedorm"):
        async with serving(
            cache, sessions, warm=[popular_places, after], ready_within=300
        ) as warming:
            assert list(warming.failed) == ["popular places"]
            assert [each.name for each in warming.warmed] == ["guides after that"]
            assert "failed=['popular places']" in repr(warming)
    assert "warming popular places at startup failed" in caplog.text


async def test_a_session_that_cannot_be_closed_is_no_error(
    made: Made, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is on its way by then; an error would only cut the client's connection."""
    _, sessions = made
    dependency = session_of(lambda _: sessions)(HTTPConnection({"type": "http"}))
    session = await anext(dependency)
    pid = await session.scalar(text("select pg_backend_pid()"))
    with engine.connect() as connection:
        connection.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    with pytest.raises(StopAsyncIteration), caplog.at_level(logging.WARNING, "cachedorm"):
        await anext(dependency)
    assert "closing a session" in caplog.text
    async with sessions() as another:
        assert await another.scalar(text("select 1")) == 1


async def test_an_error_in_between_is_raised(made: Made) -> None:
    """What the path operation raises is its own to answer."""
    _, sessions = made
    dependency = session_of(lambda _: sessions)(HTTPConnection({"type": "http"}))
    await anext(dependency)
    with pytest.raises(LookupError):
        await dependency.athrow(LookupError("not there"))
