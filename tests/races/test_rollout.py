"""A rolling deploy: real processes of two versions on one Redis and one database, both writing.

The old code has never heard of what the new one caches. Whatever comes when, a read that starts
after ``commit()`` has returned sees that commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from cachedorm.store.protocol.interest_registry import REGISTRY_KEY
from tests.fixtures.patience import eventually
from tests.support.races.processes import Process
from tests.support.races.rollout import create


class Version(Process):
    """A running process of one version."""

    def __init__(self, version: str, database_url: str, redis_url: str) -> None:
        super().__init__("tests.support.races.rollout", version, database_url, redis_url)

    def read(self, what: str) -> Any:
        return self.ask("read", what)

    def write(self, what: str, title: str) -> None:
        assert self.ask("write", what, title) is None


Start = Callable[[str], Version]


@pytest.fixture
def start(engine: Engine, redis_url: str) -> Iterator[Start]:
    """Starts processes of a version, on tables that hold one book and one note, called 0."""
    create(engine)
    started: list[Version] = []

    def start(version: str) -> Version:
        url = engine.url.render_as_string(hide_password=False)
        started.append(Version(version, url, redis_url))
        started[-1].wait()
        return started[-1]

    yield start
    for process in started:
        process.end()


WHAT = pytest.mark.parametrize("what", ["book", "note"])
WRITERS = pytest.mark.parametrize("writer", ["old", "bare"])


@WHAT
@WRITERS
def test_the_new_code_sees_what_the_old_code_writes(start: Start, writer: str, what: str) -> None:
    """Under another key, or over a table that the writer caches nothing of."""
    old, new = start(writer), start("new")
    assert [new.read(what), new.read(what)] == ["0", "0"]
    assert new.ask("hits") == 1

    old.write(what, "1")

    assert new.read(what) == "1"


@WHAT
def test_both_write_and_neither_reads_an_old_row(start: Start, what: str) -> None:
    """In turns, with every row cached by both in between."""
    old, new = start("old"), start("new")
    for turn in range(1, 11):
        writer = (old, new)[turn % 2]
        assert [each.read(what) for each in (old, new)] == [str(turn - 1)] * 2
        writer.write(what, str(turn))
        assert [each.read(what) for each in (new, old)] == [str(turn)] * 2
    assert new.ask("hits")


@WHAT
@WRITERS
def test_first_cached_between_intend_and_commit(start: Start, writer: str, what: str) -> None:
    """The old row is filled after the writer looked; it is gone when commit() has returned."""
    old, new = start(writer), start("new")
    assert old.ask("write", what, "1", "before") == "paused"

    assert [new.read(what), new.read(what)] == ["0", "0"]

    assert old.ask("go") is None
    assert new.read(what) == "1"


@WHAT
def test_first_cached_between_commit_and_settle(start: Start, what: str) -> None:
    """The new row is filled; whether settle ends it or not, nobody reads the old one."""
    old, new = start("old"), start("new")
    assert old.ask("write", what, "1", "after") == "paused"

    assert new.read(what) == "1"

    assert old.ask("go") is None
    assert new.read(what) == "1"


@WHAT
def test_a_flush_in_between(start: Start, redis_client: redis.Redis, what: str) -> None:
    """The registry is lost with the entries, and is there again before the next of them."""
    old, new = start("old"), start("new")
    for turn in range(1, 4):
        assert [new.read(what), new.read(what)] == [str(turn - 1)] * 2
        old.write(what, str(turn))
        assert new.read(what) == str(turn)
        redis_client.flushall()
    # Filled by a process that had registered before the flush, read by nobody who knows.
    hits = new.ask("hits")
    assert [new.read(what), new.read(what)] == ["3", "3"]
    assert new.ask("hits") == hits + 1
    old.write(what, "4")
    assert new.read(what) == "4"


@WHAT
def test_a_writer_that_starts_after_the_flush(
    start: Start, redis_client: redis.Redis, what: str
) -> None:
    """It knows nothing, and finds in Redis what was registered again."""
    new = start("new")
    assert new.read(what) == "0"
    redis_client.flushall()
    assert [new.read(what), new.read(what)] == ["0", "0"]

    start("old").write(what, "1")

    assert new.read(what) == "1"


def test_a_table_that_nobody_cached_so_far(start: Start, redis_client: redis.Redis) -> None:
    """A writer that has just looked passes Redis by; the first fills wait it out."""
    old, new = start("old"), start("new")
    old.write("note", "1")
    redis_client.hset(REGISTRY_KEY, "~born", 1)  # as on a Redis that has run for a minute
    old.write("note", "2")

    assert [new.read("note"), new.read("note")] == ["2", "2"]
    assert new.ask("hits") == 0
    old.write("note", "3")

    assert new.read("note") == "3"


def test_a_commit_that_outlives_its_look(start: Start, redis_client: redis.Redis) -> None:
    """A writer that had nothing to tell looks again after a COMMIT that took long."""
    old, new = start("old"), start("new")
    old.write("note", "1")
    redis_client.hset(REGISTRY_KEY, "~born", 1)
    old.write("note", "2")
    assert old.ask("write", "note", "3", "before") == "paused"

    def cached() -> bool:
        assert new.read("note") == "2"
        return bool(new.ask("hits"))

    eventually(cached)  # once the period has passed

    assert old.ask("go") is None

    assert new.read("note") == "3"
