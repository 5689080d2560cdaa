"""The recycling domain on a real PostgreSQL: migrated and empty, or with the whole town in it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from examples.recycling.data import generate, load
from examples.recycling.migrate import migrate
from examples.servers import Found, scratch_database

SEED = 2026
# Revoked tokens of the town live a week: on a day of the past they would have expired by now.
NOW = datetime.now(UTC)


@pytest.fixture
def migrated(engine: Engine) -> Engine:
    """The newest schema and no rows."""
    with engine.begin() as connection:
        migrate(connection)
    return engine


@pytest.fixture
def session(migrated: Engine) -> Iterator[Session]:
    """A session on the empty schema, rolled back at the end."""
    with Session(migrated) as opened:
        yield opened
        opened.rollback()


@pytest.fixture(scope="session")
def town(servers: Found, template_database: str) -> Iterator[Engine]:
    """The whole town, loaded once; tests only read it, or roll back."""
    with scratch_database(servers.database_url, template=template_database) as url:
        made = create_engine(url)
        with made.begin() as connection:
            migrate(connection)
            load(connection, generate(SEED, NOW))
        yield made
        made.dispose()
