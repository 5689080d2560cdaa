"""A small town, and two applications on it that share a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import redis
from sqlalchemy import Engine, create_engine

from examples.recycling.data import Sizes, generate, load
from examples.recycling.migrate import migrate
from examples.servers import (
    Found,
    PrivatePostgres,
    PrivateRedis,
    make_database,
    scratch_database,
)
from tests.support.service.process import Application

SIZES = Sizes(users=40, centers=400, guides=60, revocations=5)


def fill(url: str, sizes: Sizes = SIZES) -> None:
    """Migrate an empty database and load the town."""
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection)
        load(connection, generate(2026, datetime.now(UTC), sizes))
    engine.dispose()


@pytest.fixture(scope="session")
def town_url(servers: Found, template_database: str) -> Iterator[str]:
    """A town for the whole session; each test changes rows of users of its own."""
    with scratch_database(servers.database_url, template=template_database) as url:
        fill(url)
        yield url


@pytest.fixture(scope="session")
def town_redis() -> Iterator[str]:
    """The Redis that the applications of the town share."""
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture(scope="session")
def applications(town_url: str, town_redis: str) -> Iterator[tuple[Application, Application]]:
    """Two processes on the same servers."""
    with ExitStack() as stack:
        both = tuple(Application(town_url, town_redis) for _ in range(2))
        for each in both:  # they start side by side
            stack.callback(each.close)
        one, other = both
        yield one.answering("/ready"), other.answering("/ready")


@pytest.fixture
def application(applications: tuple[Application, Application]) -> Application:
    """One of them."""
    return applications[0]


@pytest.fixture
def town(town_url: str) -> Iterator[Engine]:
    """The town's database, past every cache."""
    engine = create_engine(town_url)
    yield engine
    engine.dispose()


@pytest.fixture
def auth_redis(town_redis: str) -> Iterator[redis.Redis]:
    """Database 0, where revocations are."""
    with redis.Redis.from_url(town_redis, db=0, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[tuple[PrivatePostgres, str]]:
    """A PostgreSQL to hurt, and the URL of a town on it."""
    with PrivatePostgres() as server:
        url = make_database(server.url, postgis=True)
        fill(url)
        yield server, url
