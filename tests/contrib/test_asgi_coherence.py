"""A stored response is gone when any of the rows that it was made of changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import redis
from sqlalchemy import delete, text, update
from sqlalchemy.util.concurrency import greenlet_spawn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cachedorm import Cache, Observer, Region, tag
from cachedorm.cache import settings_of
from cachedorm.store.codec import decode_plain, encode_plain
from cachedorm.store.dogpile.region import CachedRegion
from cachedorm.store.entries.entries import NO_VALUE
from cachedorm.store.entries.fill import Loaded
from cachedorm.store.protocol.entry import Format
from cachedorm.store.protocol.keys import EntryKey
from cachedorm.testing import frozen_clock
from examples.servers import PrivateRedis
from tests.fixtures.logs import RedisLog
from tests.fixtures.patience import patient_cache
from tests.support.contrib.shelf import LISTS, PAGES, REGIONS, ROWS, Item, Owner
from tests.support.contrib.site import Site, elsewhere, is_hit, is_stored

PLAIN_TEXT = Format(b"greeting", encode_plain, decode_plain)
Change = Callable[[Site], Awaitable[object]]


async def rename_owner(site: Site) -> None:
    async with site.sessions() as session:
        owner = await session.get_one(Owner, 1)
        owner.name = "Lee"
        await session.commit()


async def add_item(site: Site) -> None:
    async with site.sessions() as session:
        session.add(Item(id=9, title="nine", owner_id=1))
        await session.commit()


async def move_item(site: Site) -> None:
    async with site.sessions() as session:
        item = await session.get_one(Item, 2)
        item.owner_id = 1
        await session.commit()


async def delete_item(site: Site) -> None:
    async with site.sessions() as session:
        await session.execute(delete(Item).where(Item.id == 1))
        await session.commit()


async def update_in_bulk(site: Site) -> None:
    async with site.sessions() as session:
        await session.execute(update(Item).values(title=Item.title + "!"))
        await session.commit()


async def update_by_text(site: Site) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("update page_items set title = 'other'"))


async def retitle(site: Site) -> None:
    await site.retitle("uno")


def invalidator(what: object, *key: object) -> Change:
    return lambda site: site.cache.ainvalidate(what, *key)


def matching(pattern: str) -> Change:
    return lambda site: site.cache.ainvalidate_matching(pattern)


CHANGES = {
    "a commit of the row": ("/items/1", retitle),
    "its deletion": ("/items/1", delete_item),
    "the insert of a row that was missing": ("/items/9", add_item),
    "a write-through": ("/owners/1", rename_owner),
    "a bulk update": ("/items/1", update_in_bulk),
    "SQL text": ("/items/1", update_by_text),
    "a row that enters a list": ("/owners/1/items", add_item),
    "a row that moves into a list": ("/owners/1/items", move_item),
    "a row that changes in a list": ("/owners/1/items", retitle),
    "SQL text, for a list": ("/owners/1/items", update_by_text),
    "its entry by hand": ("/items/1", invalidator(Item, 1)),
    "its region by hand": ("/items/1", invalidator(ROWS)),
    "a tag by hand": ("/owners/1/items", invalidator(tag(Item.owner_id, 1))),
    "a list's region by hand": ("/owners/1/items", invalidator(LISTS)),
    "a list's key by hand": ("/owners/1/items", matching("items:*")),
    "the responses' region by hand": ("/items/1", invalidator(PAGES)),
    "the response's key by hand": ("/items/1", matching("response:/items/*")),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_response_ends_with(site: Site, name: str) -> None:
    """The next request is answered by the application, and the one after it from the cache."""
    path, change = CHANGES[name]
    async with site.client() as client:
        await client.get(path)
        assert is_hit(await client.get(path))
        await change(site)
        after = await client.get(path)
        again = await client.get(path)

    assert not is_hit(after)
    assert site.runs == [path, path]
    assert is_hit(again)
    assert again.json() == after.json()


async def test_a_response_outlives_other_rows(site: Site) -> None:
    """What it was not made of may change."""
    async with site.client() as client:
        await client.get("/items/1")
        await site.retitle("zwei", number=2)
        assert is_hit(await client.get("/items/1"))


@pytest.mark.parametrize("db", [1, 2])
async def test_an_evicted_entry_or_response_is_a_miss(site: Site, redis_url: str, db: int) -> None:
    """Redis may drop what it likes; both are made anew."""
    async with site.client() as client:
        await client.get("/items/1")
        with redis.Redis.from_url(redis_url, db=db) as there:
            there.flushdb()
        after = await client.get("/items/1")
        assert is_stored(after)
        assert is_hit(await client.get("/items/1"))


async def test_an_evicted_stamp_is_a_miss(site: Site, redis_url: str) -> None:
    """A list's stamp that is gone says nothing, and then nothing is served."""
    async with site.client() as client:
        await client.get("/owners/1/items")
        with redis.Redis.from_url(redis_url, db=LISTS.db) as there:
            assert there.delete("~s:page_items.owner_id=1")
        assert not is_hit(await client.get("/owners/1/items"))


async def test_a_refilled_entry_of_other_content_ends_the_response(site: Site) -> None:
    """Another reader's refill stands there as a value, servable, and is not the one it was."""
    async with site.client() as client:
        await client.get("/items/1")
        await site.retitle("uno")
        async with site.sessions() as session:
            await session.get(Item, 1)
        after = await client.get("/items/1")

    assert not is_hit(after)
    assert after.json() == {"title": "uno"}


async def test_the_same_bytes_are_the_same_value(site: Site, redis_url: str) -> None:
    """An entry that is put back as it was makes the response servable: it is what a read gives."""
    async with site.client() as client:
        await client.get("/items/1")
        with redis.Redis.from_url(redis_url, db=ROWS.db) as there:
            slot = there.get("item:1")
            there.delete("item:1")
            assert not is_hit(await client.head("/items/1"))
            there.set("item:1", slot)
        assert is_hit(await client.get("/items/1"))


async def test_parts_that_never_stood_together_are_never_served(site: Site) -> None:
    """A commit between two reads of one request: the first is old, so the response is."""

    async def both(request: Request) -> Response:
        async with site.sessions() as session:
            item = await session.get_one(Item, 1)
            if len(site.runs) == 1:
                await elsewhere(site.retitle("uno"))
                await elsewhere(rename_owner(site))
            owner = await session.get_one(Owner, 1)
            return JSONResponse([item.title, owner.name])

    async with site.client(both) as client:
        torn = await client.get("/here")
        after = await client.get("/here")

    assert torn.json() == ["one", "Lee"]
    assert is_stored(torn)
    assert not is_hit(after)
    assert after.json() == ["uno", "Lee"]


async def test_an_entry_read_twice_and_changed_between_is_not_stored(site: Site) -> None:
    """Two values of one row cannot both be what a read would give."""

    async def twice(request: Request) -> Response:
        titles = []
        for _ in range(2):
            async with site.sessions() as session:
                item = await session.get_one(Item, 1)
                titles.append(item.title)
            await elsewhere(site.retitle("uno"))
        return JSONResponse(titles)

    async with site.client(twice) as client:
        response = await client.get("/here")
    assert response.json() == ["one", "uno"]
    assert response.headers["cache-status"] == 'cachedorm; fwd=miss; detail="changed"'


async def test_a_restart_from_an_old_file_serves_no_response(site: Site) -> None:
    """What the file holds may be older than a commit: it names another server."""
    with PrivateRedis(persistence="rdb") as server:
        async with site.moved_to(patient_cache(server.url, regions=REGIONS)) as moved:
            async with moved.client() as client:
                await client.get("/items/1")
                assert is_hit(await client.get("/items/1"))
                server.stop()
                server.start()
                assert not is_hit(await client.get("/items/1"))
            with redis.Redis.from_url(server.url, db=PAGES.db) as there:
                assert len(there.keys("response:*")) == 1


async def test_an_entry_past_its_time_is_no_part(site: Site) -> None:
    """It stands there for when the database is down; while it is not, a read would be a miss."""
    region = Region("kept", db=5, ttl=60)
    settings = replace(settings_of(region), ttl_ms=20_000, stale_if_error_ms=60_000)
    kept = CachedRegion(settings, site.cache.region(ROWS).entries.slots, Observer())

    async def greet(request: Request) -> Response:
        key = EntryKey("greeting", ("~s:greetings",), PLAIN_TEXT)
        found = await greenlet_spawn(kept.get, key)
        if found is NO_VALUE:
            found = await greenlet_spawn(kept.fill, key, lambda: Loaded("hello"))
        return JSONResponse(found)

    with frozen_clock() as clock:
        async with site.client(greet) as client:
            response = await client.get("/here")
            assert is_stored(response)
            clock.advance(21)
            assert not is_hit(await client.get("/here"))


async def test_a_new_process_serves_what_it_would_read_itself(site: Site, redis_url: str) -> None:
    """Another process's responses count once this one has read an entry of their forms."""
    async with site.client() as old, site.client() as new:
        await old.get("/items/1")
        await old.get("/items/2")
        assert is_stored(await new.get("/items/1"))
        assert is_hit(await new.get("/items/2"))
        assert is_hit(await old.get("/items/1"))


async def test_another_version_starts_with_no_responses(site: Site) -> None:
    """Code that makes something else of the same rows says so."""
    async with site.client() as old, site.client(version="2") as new:
        await old.get("/items/1")
        await old.get("/items/2")
        await new.get("/items/1")
        assert not is_hit(await new.get("/items/2"))


async def test_the_cache_in_this_process_keeps_the_same_promises(site: Site) -> None:
    """``Cache()`` without a server."""
    async with site.moved_to(Cache(regions=REGIONS)) as moved, moved.client() as client:
        await client.get("/items/1")
        assert is_hit(await client.get("/items/1"))
        await site.retitle("uno")
        assert (await client.get("/items/1")).json() == {"title": "uno"}


async def test_responses_may_share_a_database_with_rows(site: Site, redis_log: RedisLog) -> None:
    """Still one MGET for each database: the names of the parts are remembered."""
    shared = Region("shared", db=ROWS.db, ttl=60)
    moving = site.moved_to(patient_cache(site.redis_url))
    async with moving as moved, moved.client(region=shared) as client:
        await client.get("/items/1")
        assert is_hit(await client.get("/items/1"))
        redis_log.clear()
        assert is_hit(await client.get("/items/1"))
        assert redis_log == ["mget"]
        await site.retitle("uno")
        assert not is_hit(await client.get("/items/1"))
