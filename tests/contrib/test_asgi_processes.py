"""Two real processes behind one Redis and one database, asked from outside."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import Engine

from examples.servers.private_server import free_port
from tests.fixtures.patience import PATIENCE
from tests.support.contrib.site import is_hit, is_stored

ROOT = Path(__file__).parents[2]
COMMITS = 25


@contextmanager
def served(database_url: str, redis_url: str) -> Iterator[str]:
    """One process of the shop, and its address."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "tests.support.contrib.shop_app:app",
        "--port",
        str(port),
    ]
    given = {"SHOP_DATABASE_URL": database_url, "SHOP_REDIS_URL": redis_url}
    process = subprocess.Popen(
        [*command, "--log-level", "warning"],
        cwd=ROOT,
        env=os.environ | given | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


async def answering(client: httpx.AsyncClient) -> None:
    """Wait until the process listens."""
    for _ in range(2400):
        try:
            await client.get("/docs")
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("the process does not listen")


@pytest_asyncio.fixture
async def two(
    stock: Engine, database_url: str, redis_url: str
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of two processes that serve one shop."""
    with served(database_url, redis_url) as one, served(database_url, redis_url) as other:
        # Both are one service, whichever process is asked.
        options = {"headers": {"host": "shop"}, "timeout": PATIENCE}
        async with (
            httpx.AsyncClient(base_url=one, **options) as first,  # type: ignore[arg-type]
            httpx.AsyncClient(base_url=other, **options) as second,  # type: ignore[arg-type]
        ):
            await answering(first)
            await answering(second)
            yield first, second


async def test_two_processes(two: tuple[httpx.AsyncClient, httpx.AsyncClient]) -> None:
    """One's response is the other's, one's commit ends it for both, and no race revives it."""
    first, second = two
    await ended_by_the_other(first, second)
    await held_over_a_commit(first, second)
    await never_stale(first, second)


async def ended_by_the_other(first: httpx.AsyncClient, second: httpx.AsyncClient) -> None:
    assert is_stored(await first.get("/items/1"))
    assert is_stored(await second.get("/items/2"))
    assert is_hit(await second.get("/items/1"))
    await second.put("/items/1", params={"title": "uno"})
    after = await first.get("/items/1")
    assert not is_hit(after)
    assert after.json() == "uno"


async def held_over_a_commit(first: httpx.AsyncClient, second: httpx.AsyncClient) -> None:
    """First: reads the row. Second: commits. First: answers, and stores in vain."""
    held = asyncio.create_task(first.get("/held/1"))
    await first.post("/read")
    await second.put("/items/1", params={"title": "due"})
    await first.post("/go-on")
    assert (await held).json() == "uno"
    after = await first.get("/held/1")
    assert not is_hit(after)
    assert after.json() == "due"


async def never_stale(first: httpx.AsyncClient, second: httpx.AsyncClient) -> None:
    """No response is older than the newest commit that had returned when it was asked for."""
    committed, done, hits = 0, asyncio.Event(), 0

    async def write() -> None:
        nonlocal committed
        try:
            for number in range(1, COMMITS + 1):
                await (first, second)[number % 2].put("/items/1", params={"title": str(number)})
                committed = number
                # So that there is a hit now and then to be wrong.
                for client in (first, second):
                    await client.get("/items/1")
        finally:
            done.set()

    async def read(client: httpx.AsyncClient, path: str) -> None:
        nonlocal hits
        while not done.is_set():
            known = committed
            response = await client.get(path)
            titles = response.json() if path.startswith("/owners") else [response.json()]
            assert int(titles[0]) >= known
            hits += is_hit(response)

    await first.put("/items/1", params={"title": "0"})
    readers = [(client, path) for client in (first, second) for path in ("/items/1", "/owners/1")]
    await asyncio.gather(write(), *(read(*reader) for reader in readers))
    assert hits > 0
