"""Commits and clearings staged between the steps of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.fixtures.patience import aeventually
from tests.support.contrib.shelf import PAGES, Item
from tests.support.contrib.site import Site, is_hit, is_stored
from tests.support.races.staging import Stage


class Gate:
    """An endpoint that reads item 1, and then waits to be let go on."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.has_read = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        async with self._site.sessions() as session:
            item = await session.get_one(Item, 1)
        self.has_read.set()
        await self.go_on.wait()
        return JSONResponse(item.title)


@pytest_asyncio.fixture
async def gate(site: Site) -> AsyncIterator[Gate]:
    """The endpoint; whoever still waits at the end is let go."""
    made = Gate(site)
    yield made
    made.go_on.set()


@pytest.mark.parametrize("entry", ["filled by it", "cached before"])
async def test_a_commit_between_reading_and_storing(site: Site, gate: Gate, entry: str) -> None:
    """Reader: row read. Writer: commits. Reader: stores its response, which is never served."""
    if entry == "cached before":
        async with site.sessions() as session:
            await session.get(Item, 1)
    async with site.client(gate) as client:
        first = asyncio.create_task(client.get("/here"))
        await gate.has_read.wait()
        await site.retitle("uno")
        gate.go_on.set()
        assert (await first).json() == "one"
        after = await client.get("/here")

    assert not is_hit(after)
    assert after.json() == "uno"


async def test_a_clearing_between_reading_and_storing(site: Site, gate: Gate) -> None:
    """The region's stamp was fixed before the application ran, so the clearing ends it."""
    async with site.client(gate) as client:
        first = asyncio.create_task(client.get("/here"))
        await gate.has_read.wait()
        await site.cache.ainvalidate(PAGES)
        gate.go_on.set()
        await first
        assert not is_hit(await client.get("/here"))


async def test_a_commit_before_a_follower_asks(site: Site, gate: Gate) -> None:
    """Leader: row read. Writer: commits. Follower: asks, joins, and is not given the old row."""
    async with site.client(gate) as client:
        leader = asyncio.create_task(client.get("/here"))
        await gate.has_read.wait()
        await site.retitle("uno")
        follower = asyncio.create_task(client.get("/here"))
        await asyncio.sleep(0)
        gate.go_on.set()

        assert (await leader).json() == "one"
        assert (await follower).json() == "uno"


async def test_followers_of_an_overtaken_run_share_the_next(site: Site, gate: Gate) -> None:
    """One of them leads again, and the others are given what it makes."""
    async with site.client(gate) as client:
        leader = asyncio.create_task(client.get("/here"))
        await gate.has_read.wait()
        await site.retitle("uno")
        followers = [asyncio.create_task(client.get("/here")) for _ in range(5)]
        # Each has looked, and waits for the leader.
        await aeventually(lambda: site.cache.stats().misses["pages", "lease"] == 5)
        gate.go_on.set()
        answers = await asyncio.gather(*followers)
        await leader

    assert [answer.json() for answer in answers] == ["uno"] * 5
    assert site.runs == ["/here"] * 2


async def test_while_a_writer_is_about_to_commit(site: Site) -> None:
    """Its intent hides the entry, so a stored response is not served and none is stored."""
    seen: list[Response] = []
    site.cache.detach(site.engine)
    stage = Stage(site.engine)
    site.cache.attach(site.engine)
    loop = asyncio.get_running_loop()

    def retitle() -> None:
        with site.sync_sessions() as session:
            session.get_one(Item, 1).title = "uno"
            session.commit()

    async with site.client() as client:
        await client.get("/items/1")
        assert is_hit(await client.get("/items/1"))

        def ask() -> None:
            asking = asyncio.run_coroutine_threadsafe(client.get("/items/1"), loop)
            seen.append(asking.result(10))  # type: ignore[arg-type]

        stage.before = ask
        stage.after = ask
        await asyncio.to_thread(retitle)
        after = await client.get("/items/1")

    assert [response.headers["cache-status"] for response in seen] == [
        'cachedorm; fwd=stale; detail="unpublished"',
        'cachedorm; fwd=miss; detail="unpublished"',
    ]
    assert after.json() == {"title": "uno"}
    assert is_stored(after)


async def test_a_rollback_leaves_the_truth(site: Site) -> None:
    """What was hidden for a commit that did not come is made anew, as it was."""
    async with site.client() as client:
        await client.get("/items/1")
        async with site.sessions() as session:
            item = await session.get_one(Item, 1)
            item.title = "uno"
            await session.flush()
            await session.rollback()
        assert (await client.get("/items/1")).json() == {"title": "one"}
