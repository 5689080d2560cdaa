"""What a caller can get wrong at the public surface, and what the error says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, configure_mappers

from cachedorm import Cache, CachedQuery, Region, Regions, cached
from cachedorm.errors import (
    ArgumentError,
    CacheUnavailable,
    ConfigurationError,
    DeclarationError,
)
from tests.fixtures.patience import patient_cache
from tests.support.orm.library import SHELF, Book, Shelf


def test_an_engine_for_a_cache(library: Engine) -> None:
    """A Cache is made of Redis; engines are attached to it."""
    says = r"Cache\(Engine\(.*\)\): give the Redis server's URL, .* go to cache.attach"
    with pytest.raises(ArgumentError, match=says):
        Cache(library)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [6379, b"redis://localhost", redis.Redis()])
def test_anything_else_for_a_cache(given: Any) -> None:
    """Neither a port nor a client names the server."""
    with pytest.raises(ArgumentError, match=r"give the Redis server's URL, .* or a mapping"):
        Cache(given)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "redis://localhost:6379"),
        ({"host": "cache", "port": 6380, "db": 0}, "redis://cache:6380"),
        ({"host": "::1"}, "redis://[::1]:6379"),
        ({"password": "a/b@c", "ssl": True}, "rediss://localhost:6379"),
        ({"unix_socket_path": "/run/redis.sock"}, "unix:///run/redis.sock"),
    ],
)
def test_settings_of_the_redis_client(settings: Mapping[str, Any], url: str) -> None:
    """The settings of redis.Redis name the server as a URL does; the password is not shown."""
    with Cache(settings) as cache:
        assert url in repr(cache)
        assert "a/b" not in repr(cache)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"db": 2}, "the redis settings name db; each Region names its database"),
        ({"retry": object()}, "the redis setting retry is a object; give strings, numbers"),
    ],
)
def test_settings_that_cannot_be(settings: Mapping[str, Any], says: str) -> None:
    """What a URL cannot say is refused by its name."""
    with pytest.raises(ArgumentError, match=says):
        Cache(settings)


def test_settings_reach_the_server(redis_url: str) -> None:
    """A Cache of settings works as one of the URL that they spell."""
    where = dict(redis.connection.parse_url(redis_url))  # type: ignore[no-untyped-call]
    names = {"path": "unix_socket_path"}
    wanted = {"host", "port", "username", "password", "path"}
    settings = {names.get(name, name): value for name, value in where.items() if name in wanted}
    with Cache(settings) as cache, Cache(redis_url) as other:
        assert cache._store._client is not None
        assert other._store._client is not None
        assert cache._store._client.where == other._store._client.where


@pytest.mark.parametrize("name", ["operation_timeout", "connect_timeout", "commit_timeout"])
def test_milliseconds(name: str) -> None:
    """A time limit of minutes is taken for milliseconds, and refused."""
    says = f"{name}=250 is in seconds, and more than 60; for 250 milliseconds give {name}=0.25"
    make: Any = Cache
    with pytest.raises(ArgumentError, match=says):
        make(None, **{name: 250})
    for wrong in (0, -1, True, "1s"):
        with pytest.raises(ArgumentError, match=f"{name}={wrong!r}; give a positive number of"):
            make(None, **{name: wrong})


def test_get_many_of_another_kind_of_session(cache: Cache, library: Engine) -> None:
    """The other method is named."""
    with pytest.raises(ArgumentError, match=r"got an AsyncSession; await cache.aget_many"):
        cache.get_many(AsyncSession(), Book, [1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the first argument must be a Session"):
        cache.get_many(library, Book, [1])  # type: ignore[arg-type]


async def test_aget_many_of_another_kind_of_session(cache: Cache) -> None:
    """The other method is named."""
    with pytest.raises(ArgumentError, match=r"got a Session; call cache.get_many"):
        await cache.aget_many(Session(), Book, [1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the first argument must be an AsyncSession"):
        await cache.aget_many(None, Book, [1])  # type: ignore[arg-type]


def test_a_query_with_a_models_key() -> None:
    """A query and a model's policy of one region need two keys."""
    configure_mappers()  # as whatever executes the query does first
    query = CachedQuery(SHELF, "book:{id}", select(Book.id).where(Book.id == bindparam("id")))
    says = r"CachedQuery\('book:{id}'\): Book.__cache__ has this key in region 'shelf' too"
    with pytest.raises(DeclarationError, match=says):
        assert query.dependencies


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ((), r"invalidate\(Shelf\): the key has row, room; missing: row, room"),
        ((1,), r"invalidate\(Shelf, 1\): the key has row, room; missing: room"),
        ((1, "a", 2), r"invalidate\(Shelf, 1, 'a', 2\): the key has row, room; given: 3 values"),
        (("1", "a"), r"invalidate\(Shelf, '1', 'a'\): row expects int, got str"),
    ],
)
def test_a_key_that_is_none(cache: Cache, key: tuple[Any, ...], says: str) -> None:
    """The columns that a key lacks are named, and the type that a column expects."""
    with pytest.raises(ArgumentError, match=says):
        cache.invalidate(Shelf, *key)


def test_cached_on_text() -> None:
    """The option is made of a region, and put on a select."""
    says = r"cached: region must be a Region, got .*; write select\(...\).options\(cached\(REGION"
    with pytest.raises(DeclarationError, match=says):
        cached(text("select 1"))  # type: ignore[arg-type]


def test_check(cache: Cache) -> None:
    """A Redis that serves every region passes."""
    cache.check()


async def test_acheck_without_redis() -> None:
    """A Redis that does not answer is said at start-up."""
    async with Cache("redis://127.0.0.1:1") as cache:
        with pytest.raises(CacheUnavailable):
            await cache.acheck()
    with Cache() as memory:
        memory.check()


def test_check_of_a_database_that_is_not_there(redis_url: str) -> None:
    """A region in a database that the server has not is said at start-up."""
    with patient_cache(redis_url, regions=Regions(Region("far", db=999, ttl=60))) as cache:
        says = "region 'far' is in database 999, but the server has"
        with pytest.raises(ConfigurationError, match=says):
            cache.check()
