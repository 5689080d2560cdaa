"""A rolling deploy that brings queries: the old code writes what only the new code's lists hold.

Real processes of two versions on one Redis and one database, both writing. Whatever comes when, a
read that starts after ``commit()`` has returned sees that commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from tests.support.races.processes import Process
from tests.support.races.rollout_queries import create

QUERIES = ("narrow", "whole", "totals", "near", "spot")
# By the queries that each must change: rows that come, go, and move into and out of a filter.
WRITES: tuple[tuple[str, int, dict[str, Any], set[str]], ...] = (
    ("mission", 4, {"player_id": 1, "status": "open", "points": 8}, {"narrow", "whole", "totals"}),
    ("mission", 3, {"player_id": 1}, {"narrow", "whole", "totals"}),
    ("mission", 1, {"points": 6, "status": "done"}, {"narrow", "whole", "totals", "spot"}),
    ("mission", 2, {"player_id": 2}, {"narrow", "whole", "totals"}),
    ("mission", 2, {}, {"whole", "spot"}),
    ("player", 1, {"name": "Park"}, {"totals"}),
    ("spot", 2, {"lat": 37.57, "lon": 126.98}, {"near"}),
    ("spot", 1, {"lat": 33.5, "lon": 126.5}, {"near"}),
    ("spot", 3, {"lat": 37.565, "lon": 126.97}, {"near"}),
    ("spot", 3, {}, {"near"}),
)

Start = Callable[..., Process]


@pytest.fixture
def start(engine: Engine, redis_url: str) -> Iterator[Start]:
    """Starts processes of a version, on tables that hold a few rows."""
    create(engine)
    started: list[Process] = []

    def start(version: str, schema: str = "-") -> Process:
        url = engine.url.render_as_string(hide_password=False)
        module = "tests.support.races.rollout_queries"
        started.append(Process(module, version, schema, url, redis_url))
        return started[-1]

    yield start
    for process in started:
        process.end()


def write(process: Process, number: int) -> None:
    table, key, values, _ = WRITES[number]
    assert process.ask("write", table, key, values) is None


def read_twice(new: Process, what: str) -> list[str]:
    """The rows, which were cached at the second read if not before."""
    hits = new.ask("hits")
    first, second = (new.ask("read", what) for _ in range(2))
    assert first == second
    assert new.ask("hits") > hits
    rows: list[str] = second
    return rows


WRITERS = {
    "-": (("old", "-"), ("bare", "-"), ("text", "-"), ("old", "public"), ("bare", "public")),
    "public": (("old", "-"), ("bare", "-")),
}


@pytest.mark.parametrize("spelled", WRITERS)
def test_each_write_is_seen_by_each_query(start: Start, spelled: str) -> None:
    """Whatever the writer knows, and however either spells the tables' schema."""
    new, writers = start("new", spelled), [start(*each) for each in WRITERS[spelled]]
    for writer in writers:
        for number, (*_, changes) in enumerate(WRITES):
            before = {what: read_twice(new, what) for what in QUERIES}
            write(writer, number)
            after = {what: new.ask("read", what) for what in QUERIES}
            assert after == {what: new.ask("truth", what) for what in QUERIES}
            assert {what for what in QUERIES if after[what] != before[what]} >= changes
        writer.ask("reset")


def test_both_write_and_neither_reads_an_old_row(start: Start) -> None:
    """In any order, the old code's own list among the reads."""
    new, old = start("new"), start("old")
    random = Random(7)
    for _ in range(30):
        writer = random.choice((new, old))
        values = {
            "player_id": random.choice((1, 2)),
            "status": random.choice(("open", "done")),
            "points": random.randrange(10),
        }
        key = random.randrange(1, 7)
        assert writer.ask("write", "mission", key, values if random.random() < 0.8 else {}) is None
        for process, whats in ((new, QUERIES[:3] + QUERIES[4:]), (old, ("status",))):
            for what in whats:
                assert process.ask("read", what) == process.ask("truth", what), what
    assert new.ask("hits")
    assert old.ask("hits")


@pytest.mark.parametrize("writer", ["old", "bare"])
def test_first_cached_between_intend_and_commit(start: Start, writer: str) -> None:
    """The old answers are filled after the writer looked; they are gone when commit() returned."""
    old, new = start(writer), start("new")
    for number, whats in ((1, ("narrow", "whole", "totals")), (6, ("near",))):
        table, key, values, _ = WRITES[number]
        assert old.ask("write", table, key, values, "before") == "paused"
        before = {what: [new.ask("read", what) for _ in range(2)] for what in whats}

        assert old.ask("go") is None
        for what in whats:
            after = new.ask("read", what)
            assert after == new.ask("truth", what)
            assert after != before[what][1]


def test_first_cached_between_commit_and_settle(start: Start) -> None:
    """The new answers are filled; whether settle ends them or not, nobody reads old ones."""
    old, new = start("old"), start("new")
    table, key, values, _ = WRITES[1]
    assert old.ask("write", table, key, values, "after") == "paused"
    during = {what: new.ask("read", what) for what in QUERIES}
    assert old.ask("go") is None
    for what in QUERIES:
        assert new.ask("read", what) == new.ask("truth", what) == during[what]


def test_a_flush_in_between(start: Start, redis_client: redis.Redis) -> None:
    """The registry is lost with the entries, and is there again before the next of them."""
    old, new = start("old"), start("new")
    for number in range(4):
        for what in QUERIES:
            read_twice(new, what)
        write(old, number)
        for what in QUERIES:
            assert new.ask("read", what) == new.ask("truth", what)
        redis_client.flushall()


def test_a_query_of_its_own_keeps_the_old_codes_lists(start: Start) -> None:
    """What the new code writes ends what only the old code caches."""
    old, new = start("old"), start("new")
    for number in range(5):
        read_twice(old, "status")
        write(new, number)
        assert old.ask("read", "status") == old.ask("truth", "status")
