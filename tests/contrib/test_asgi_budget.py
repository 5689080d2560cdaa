"""What a request costs in Redis commands and SQL, what bounds the cache, and Redis away."""

from __future__ import annotations

import httpx
import pytest
import redis
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cachedorm.responses import CacheRule
from cachedorm.responses.flights import Admission
from examples.servers import PrivateRedis
from tests.fixtures.logs import RedisLog, SqlLog
from tests.fixtures.patience import patient_cache
from tests.support.contrib.shelf import LISTS, PAGES, REGIONS, ROWS, Item, Owner, items_of
from tests.support.contrib.site import Site, is_hit, is_stored


async def test_a_hit_is_one_mget_for_each_database(
    site: Site, redis_log: RedisLog, sql_log: SqlLog
) -> None:
    """The response's, then those of the rows and of the list that it was made of."""

    async def all_of_it(request: Request) -> Response:
        async with site.sessions() as session:
            owner = await session.get_one(Owner, 1)
            item = await session.get_one(Item, 2)
            items = (await session.scalars(items_of(owner_id=1))).all()
            return JSONResponse([owner.name, item.title, *(each.title for each in items)])

    async with site.client(all_of_it) as client:
        assert is_stored(await client.get("/here"))
        redis_log.clear()
        sql_log.clear()
        hit = await client.get("/here")

    assert hit.json() == ["Kim", "two", "one"]
    assert is_hit(hit)
    assert [(command.name, command.db) for command in redis_log.commands()] == [
        ("mget", PAGES.db),
        ("mget", ROWS.db),
        ("mget", LISTS.db),
    ]
    assert sql_log == []


async def test_a_miss_is_a_look_a_lease_and_a_publication(site: Site, redis_log: RedisLog) -> None:
    """Beside what the application itself does."""
    async with site.sessions() as session:
        await session.get(Item, 1)
    async with site.client() as client:
        redis_log.clear()
        assert is_stored(await client.get("/items/1"))
    assert [(command.name, command.db) for command in redis_log.commands()] == [
        ("mget", PAGES.db),
        ("acquire", PAGES.db),
        ("mget", ROWS.db),
        ("publish", PAGES.db),
    ]


async def test_what_is_passed_on_costs_nothing(site: Site, redis_log: RedisLog) -> None:
    """Neither an undeclared path nor a request that cannot be answered asks Redis."""

    async def plain(request: Request) -> Response:
        return JSONResponse("plain")

    async with site.client(plain) as client:
        redis_log.clear()
        await client.get("/here/below")
        await client.get("/here?unknown=1")
        await client.post("/here")
    assert redis_log == []


async def test_a_304_is_as_cheap_as_a_hit(site: Site, redis_log: RedisLog) -> None:
    """It is one."""
    async with site.client() as client:
        tag = (await client.get("/items/1")).headers["etag"]
        redis_log.clear()
        response = await client.get("/items/1", headers={"if-none-match": tag})
    assert response.status_code == 304
    assert redis_log == ["mget", "mget"]


async def test_a_flood_of_distinct_urls_stays_bounded(site: Site, redis_url: str) -> None:
    """So many responses of a rule, and every key with an end."""
    rule = CacheRule("/here/{rest}", query=("q",), entries_max=5)

    async def found(request: Request) -> Response:
        async with site.sessions() as session:
            await session.get(Item, 1)
        return JSONResponse("found")

    async with site.client(found, [rule]) as client:
        answers = [await client.get(f"/here/{n}?q={n}") for n in range(12)]
        assert [is_stored(answer) for answer in answers] == [True] * 5 + [False] * 7
        assert 'detail="full"' in answers[-1].headers["cache-status"]
        # What is in already is served, and may be made anew.
        assert is_hit(await client.get("/here/3?q=3"))
        await site.retitle("uno")
        assert is_stored(await client.get("/here/3?q=3"))

    with redis.Redis.from_url(redis_url, db=PAGES.db) as pages:
        kept = pages.keys("response:*")
        assert len(kept) == 5
        assert all(0 < pages.pttl(key) <= 70_000 for key in pages.keys("*"))


def test_room_comes_back_with_time() -> None:
    """A response counts until its time is up; one that was not stored does not count."""
    now = [0.0]
    admission = Admission(2, lambda: now[0])
    assert admission.admit("a", 10_000) is True
    assert admission.admit("b", 20_000) is True
    assert admission.admit("a", 10_000) is False
    assert admission.admit("c", 10_000) is None
    admission.withdraw("b")
    assert admission.admit("c", 10_000) is True
    now[0] = 11.0
    assert admission.admit("d", 10_000) is True
    assert len(admission) == 1


async def test_with_redis_away_requests_just_run(site: Site) -> None:
    """Nothing fails, and nothing is promised; then it is back."""
    with PrivateRedis() as server:
        async with site.moved_to(patient_cache(server.url, regions=REGIONS)) as moved:
            async with moved.client() as client:
                await client.get("/items/1")
                server.stop()
                away = await client.get("/items/1")
                assert away.json() == {"title": "one"}
                assert away.headers["cache-status"] == 'cachedorm; fwd=miss; detail="unavailable"'
                await site.retitle("uno")
                assert (await client.get("/items/1")).json() == {"title": "uno"}
            assert moved.cache.stats().errors["read"] >= 1


async def test_redis_goes_away_while_the_application_runs(site: Site) -> None:
    """The response is the client's all the same."""
    with PrivateRedis() as server:
        async with site.moved_to(patient_cache(server.url, regions=REGIONS)) as moved:

            async def last(request: Request) -> Response:
                async with moved.sessions() as session:
                    item = await session.get_one(Item, 1)
                server.stop()
                return JSONResponse(item.title)

            async with moved.client(last) as client:
                response = await client.get("/here")
    assert response.json() == "one"
    assert response.headers["cache-status"] == 'cachedorm; fwd=miss; detail="lease"'


@pytest.mark.parametrize("garbage", [b"", b"V", b"x" * 300, b"V\x01" + b"\xff" * 200])
async def test_bytes_that_are_no_response_are_a_miss(
    site: Site, redis_url: str, garbage: bytes
) -> None:
    """Redis is not trusted; the next one stands in its place."""
    async with site.client() as client:
        await client.get("/items/1")
        with redis.Redis.from_url(redis_url, db=PAGES.db) as pages:
            (key,) = pages.keys("response:*")
            pages.set(key, garbage)
        assert is_stored(await client.get("/items/1"))
        assert is_hit(await client.get("/items/1"))


async def test_a_value_of_another_layout_is_a_miss(site: Site, redis_url: str) -> None:
    """A whole entry whose payload is no response."""
    async with site.client() as client:
        await client.get("/items/1")
        with redis.Redis.from_url(redis_url, db=PAGES.db) as pages:
            (key,) = pages.keys("response:*")
            slot = pages.get(key)
            assert isinstance(slot, bytes)
            for payload in (b"\xc0", b"\x92\x90\x90", b"\x92\x91\x91\x01\xc0", b"\xff"):
                pages.set(key, slot[: 36 + 16] + payload)
                response: httpx.Response = await client.get("/items/1")
                assert is_stored(response)
