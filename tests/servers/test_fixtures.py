"""The fixtures that every other test stands on."""

from collections.abc import Callable

import pytest
import redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from tests.fixtures.databases import sweep
from tests.fixtures.logs import RedisLog, SqlLog


def test_redis_log_names_every_command_in_order(
    redis_log: RedisLog, redis_client: "redis.Redis"
) -> None:
    """The log holds each command with its database and arguments, in the order of execution."""
    redis_client.set('a "quoted" \\ key', "한국")
    redis_client.mget("a", "b")

    assert redis_log == ["set", "mget"]
    assert redis_log.commands()[0].args[0] == 'a "quoted" \\ key'
    assert redis_log.commands()[1].args == ("a", "b")
    assert {command.db for command in redis_log.commands()} == {0}


def test_redis_log_counts_a_script_as_one(redis_log: RedisLog, redis_client: "redis.Redis") -> None:
    """What a script does inside is not a command of ours."""
    redis_client.eval("redis.call('SET', KEYS[1], 1) return redis.call('GET', KEYS[1])", 1, "k")

    assert redis_log == ["eval"]


def test_redis_log_knows_the_database(redis_log: RedisLog, redis_url: str) -> None:
    """Commands carry the number of the database they ran in; SELECT itself is not listed."""
    with redis.Redis.from_url(redis_url, db=7) as client:
        client.get("x")

    assert [(c.db, c.name) for c in redis_log.commands()] == [(7, "get")]
    assert "select" in [c.name for c in redis_log.commands(handshakes=True)]


def test_redis_log_can_be_cleared(redis_log: RedisLog, redis_client: "redis.Redis") -> None:
    """After clear() only what follows is listed."""
    redis_client.get("before")
    redis_log.clear()
    redis_client.get("after")

    assert [command.args for command in redis_log.commands()] == [("after",)]


@pytest.mark.parametrize("turn", [1, 2])
def test_redis_is_empty_at_the_start(redis_client: "redis.Redis", turn: int) -> None:
    """A test finds nothing of the one before it."""
    assert redis_client.info("keyspace") == {}
    redis_client.set("left behind", turn)


@pytest.mark.parametrize("turn", [1, 2])
def test_database_is_swept_after_each_test(engine: Engine, turn: int) -> None:
    """Tables, schemas, types, functions and prepared transactions end with the test."""
    with engine.begin() as connection:
        connection.execute(text("create table t (id serial primary key, p geography(point, 4326))"))
        connection.execute(text("create schema my_db create table users (id int)"))
        connection.execute(text("create type colour as enum ('red')"))
        connection.execute(text("create function f() returns int language sql as 'select 1'"))
        connection.execute(text("create view v as select * from t"))
    with engine.connect() as connection:
        connection.execute(text("insert into t default values"))
        connection.execute(text("prepare transaction 'left in doubt'"))


def test_sweeping_does_not_wait_for_a_forgotten_lock(engine: Engine, database_url: str) -> None:
    """Connections that a test left open are ended first."""
    with engine.connect() as forgotten:
        forgotten.execute(text("create table t (id int)"))
        forgotten.commit()
        forgotten.execute(text("lock table t"))
        sweep(database_url)
        with pytest.raises(OperationalError, match="terminating connection"):
            forgotten.execute(text("select 1"))
    with engine.connect() as connection:
        assert connection.scalar(text("select to_regclass('t')")) is None


def test_new_databases_have_postgis(new_database: Callable[[], str]) -> None:
    """A fresh database measures metres on the sphere at once."""
    first, second = new_database(), new_database()
    assert first != second
    engine = create_engine(first)
    with engine.connect() as connection:
        metres = connection.scalar(
            text("select st_distance('point(127 37)'::geography, 'point(127 38)'::geography)")
        )
    engine.dispose()
    assert 110_000 < float(metres or 0) < 112_000


async def test_async_engines_use_the_same_url(async_database_url: str) -> None:
    """psycopg serves asyncio under the same name."""
    engine = create_async_engine(async_database_url)
    async with engine.connect() as connection:
        assert await connection.scalar(text("select 1")) == 1
    await engine.dispose()


def test_sql_log_lists_statements_and_counts_checkouts(engine: Engine, sql_log: SqlLog) -> None:
    """What an engine sends is listed; its transactions and checkouts are counted."""
    with engine.begin() as connection:
        connection.execute(text("select 1"))

    assert sql_log == ["select 1"]
    assert (sql_log.checkouts, sql_log.begins, sql_log.commits) == (1, 1, 1)
    sql_log.clear()
    assert sql_log == []
