"""The URL that a plain dogpile user gives names the server and the database."""

import pytest
from dogpile.cache import make_region

from cachedorm.errors import ArgumentError
from cachedorm.store.backend import _database_of


@pytest.mark.parametrize(
    ("url", "server", "db"),
    [
        ("redis://localhost:6379", "redis://localhost:6379", 0),
        ("redis://localhost:6379/", "redis://localhost:6379", 0),
        ("redis://:p%40ss@cache:6379/4", "redis://:p%40ss@cache:6379", 4),
        ("redis://localhost?db=3&socket_timeout=1", "redis://localhost?socket_timeout=1", 3),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock", 2),
        ("unix:///run/redis.sock", "unix:///run/redis.sock", 0),
    ],
)
def test_a_url_is_taken_apart(url: str, server: str, db: int) -> None:
    """The server's part goes to the wire, which takes no database."""
    assert _database_of(url) == (server, db)


def test_a_region_takes_it() -> None:
    """As the documentation writes it; nothing connects before it is used."""
    region = make_region().configure(
        "cachedorm.redis", arguments={"url": "redis://localhost:6379/4"}
    )
    assert "db=4" in repr(region.backend)
    region.backend.close()


def test_a_database_is_a_number() -> None:
    """A name there is a mistake, and is said to be one."""
    with pytest.raises(ArgumentError, match="'four'"):
        make_region().configure("cachedorm.redis", arguments={"url": "redis://localhost/four"})
