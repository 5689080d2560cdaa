"""The demo runs by itself, shows every domain, and leaves nothing behind."""

import os
import re
import subprocess
import sys

import pytest
import redis
from sqlalchemy import create_engine, text

from examples.servers import Found

KEYS = {
    "auth, database 0": "blacklist:demo-token",
    "my, database 2": "user:profile:u0001",
    "location, database 4": "location:center:c00001",
    "info, database 5": "info:guide:plastic",
    "scan, database 7": "scan:result:task-",
}
DOMAINS = ["auth", "my", "character", "location", "info", "chat", "scan", "my"]


def rows_of(output: str) -> list[list[list[str]]]:
    """The domain table's rows: each a list of cells, each cell its lines."""
    table = output[output.index("┡") : output.index("└")].splitlines()[1:]
    rows: list[list[list[str]]] = [[]]
    for line in table:
        if line.startswith("├"):
            rows.append([])
        else:
            rows[-1].append([cell.strip() for cell in line.strip("│").split("│")])
    return [[list(cell) for cell in zip(*lines, strict=True)] for lines in rows]


@pytest.fixture(scope="module")
def demo(servers: Found) -> "subprocess.CompletedProcess[str]":
    """The demo, run once on this worker's servers."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    where = {
        "CACHEDORM_SERVERS": "environment",
        "CACHEDORM_DATABASE_URL": servers.database_url,
        "CACHEDORM_REDIS_URL": servers.redis_url,
    }
    return subprocess.run(
        [sys.executable, "-m", "examples.recycling.demo"],
        env=os.environ | where,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_it_ends_well(demo: "subprocess.CompletedProcess[str]") -> None:
    """No read through the cache was stale, and nothing was written to standard error but a line."""
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.fullmatch(r"servers: .*\n", demo.stderr), demo.stderr


def test_each_domain_is_shown_with_its_keys(demo: "subprocess.CompletedProcess[str]") -> None:
    """Region, Redis database and key stand in the table, domain by domain."""
    rows = rows_of(demo.stdout)
    assert [domain[0] for domain, *_ in rows] == DOMAINS
    where = [(place, key) for _, (place, key, *_), *_ in rows]
    for place, key in KEYS.items():
        assert any(found[0] == place and found[1].startswith(key) for found in where)


def test_second_reads_come_from_redis(demo: "subprocess.CompletedProcess[str]") -> None:
    """Every row of the table: the database first, then Redis with the same answer."""
    for _, _, first, second, _, after in rows_of(demo.stdout):
        assert first[1] == "database, then kept"
        assert second[1] == "Redis"
        assert said(second) == said(first)
        assert said(after) != said(first)


def said(cell: list[str]) -> str:
    """The answer in a cell, after its time and its source; a long one stands on several lines."""
    return " ".join(cell[2:]).strip()


def test_the_race_has_two_sides(demo: "subprocess.CompletedProcess[str]") -> None:
    """Both had the same writes and reads."""
    sides = re.findall(r"│ (cache-aside by hand|cachedorm) +│ +([\d,]+) │ +([\d,]+) │", demo.stdout)
    assert [side for side, *_ in sides] == ["cache-aside by hand", "cachedorm"]
    assert sides[0][1:] == sides[1][1:]


def test_nothing_is_left_behind(demo: "subprocess.CompletedProcess[str]", servers: Found) -> None:
    """Its database is gone, and so are its entries; stamps end by themselves."""
    assert demo.returncode == 0
    made = re.search(r"database (cachedorm_\w+):", demo.stdout)
    assert made is not None
    engine = create_engine(servers.database_url)
    with engine.connect() as connection:
        databases = connection.scalars(text("SELECT datname FROM pg_database")).all()
    engine.dispose()
    assert made[1] not in databases
    for db in range(8):
        with redis.Redis.from_url(servers.redis_url, db=db) as client:
            keys = [str(key) for key in client.scan_iter(match="*")]
            assert [key for key in keys if not key.startswith("b'~")] == []
