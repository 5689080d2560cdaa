"""Databases made and dropped beside a given one."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from examples.servers.errors import NoPostGIS, WayClosed


def make_database(server: str, *, template: str | None = None, postgis: bool = False) -> str:
    """The URL of a new empty database on the server of this URL.

    template: the name of a database nobody is connected to. postgis: with the extension in it.
    """
    made = make_url(server).set(database=f"cachedorm_{uuid.uuid4().hex[:12]}")
    with _connection(make_url(server)) as connection:
        source = f' template "{template}"' if template else ""
        connection.execute(text(f'create database "{made.database}"{source}'))
    if postgis:
        with _connection(made) as connection:
            connection.execute(text("create extension postgis"))
    return made.render_as_string(hide_password=False)


def drop_database(url: str, *, server: str) -> None:
    """Drop this database, whoever is connected to it."""
    with _connection(make_url(server)) as connection:
        name = make_url(url).database
        connection.execute(text(f'drop database if exists "{name}" with (force)'))


@contextlib.contextmanager
def scratch_database(
    server: str, *, template: str | None = None, postgis: bool = False
) -> Iterator[str]:
    """A new database for the length of a `with` block."""
    url = make_database(server, template=template, postgis=postgis)
    try:
        yield url
    finally:
        drop_database(url, server=server)


def check_postgis(url: str) -> None:
    """Raise WayClosed unless the server answers and has PostGIS to offer."""
    try:
        with _connection(make_url(url)) as connection:
            available = connection.scalar(
                text("select default_version from pg_available_extensions where name = 'postgis'")
            )
    except Exception as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise WayClosed(f"PostgreSQL does not answer: {reason[0] if reason else error}") from error
    if available is None:
        raise NoPostGIS("the PostgreSQL found there has no PostGIS")


@contextlib.contextmanager
def _connection(url: URL) -> Iterator[Any]:
    # No pool: a database that anybody is connected to can be neither template nor dropped.
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
