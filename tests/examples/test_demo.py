"""The demo runs by itself, shows every domain, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import redis
from rich.cells import cell_len
from sqlalchemy import create_engine, text

from examples.servers import Found

# By domain, the keys that are shown, in their order; what stands behind a colon is a row's own.
KEYS = {
    "auth": ["blacklist:demo-token"],
    "my": ["user:profile:u0001", "user:activity:u0001"],
    "character": ["user:profile:u0002", "character:state:u0001", "character:missions:u0001"],
    "location": ["location:center:c00001", "location:nearby:wydm9:2?k=20"],
    "info": [
        "info:guide:plastic",
        "info:categories:all",
        "info:search:플라스틱",
        "info:search:plastic",
    ],
    "chat": ["user:profile:u0003", "chat:history:u0001?limit=10", "chat:history:u0001?limit=3"],
    "scan": ["scan:result:task-000fc16a9167", "scan:history:u0001?limit=5"],
    "my, async": ["user:profile:u0004"],
    "api": ["response:/guides/paper:*"],
}
# A response is looked at in its own database, and what it was made of in theirs.
FROM_TWO_DATABASES = {"response:/guides/paper:*"}
# What the writer leaves in the cache itself: written through, or filled anew.
PUT_BY_THE_WRITER = {"blacklist:demo-token", "character:state:u0001"}


@dataclass
class Shown:
    """One scene as it was printed."""

    domain: str
    key: str
    steps: list[list[str]] = field(default_factory=list)


def shown_in(output: str) -> list[Shown]:
    """The scenes: domains stand at the margin, keys a little in, steps further."""
    domain, found = "", list[Shown]()
    for line in output[output.index("\nauth\n") : output.index("\ncache.stats()")].splitlines():
        words = re.split(r"  +", line.strip())
        if line.startswith("    "):
            found[-1].steps.append(words)
        elif line.startswith("  ") and len(words) == 2:
            found.append(Shown(domain, words[0]))
        elif line and not line.startswith(" "):
            domain = line
    return found


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
    """Domain by domain: single rows, lists, counts, searches, places; and a whole response."""
    shown: dict[str, list[str]] = {}
    for scene in shown_in(demo.stdout):
        shown.setdefault(scene.domain, []).append(scene.key)
    assert shown == KEYS


def test_second_reads_come_from_redis(demo: "subprocess.CompletedProcess[str]") -> None:
    """The database first, then a command for each Redis database with the same answer, and after
    the write another answer."""
    for scene in shown_in(demo.stdout):
        first, second, write, after = scene.steps
        assert [first[0], second[0], write[2], after[0]] == ["read", "read again", "commit", "read"]
        assert first[2] == "database, then kept", scene
        two = scene.key in FROM_TWO_DATABASES
        assert second[2] == ("Redis, 2 commands" if two else "Redis, 1 command"), scene
        by_writer = scene.key in PUT_BY_THE_WRITER
        assert after[2] == ("Redis, 1 command" if by_writer else "database, then kept"), scene
        assert second[3] == first[3], scene
        assert after[3] != first[3], scene


def test_it_fits_a_terminal(demo: "subprocess.CompletedProcess[str]") -> None:
    """No line is longer than 100 columns; a Korean letter takes two."""
    assert max(cell_len(line) for line in demo.stdout.splitlines()) <= 100


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
