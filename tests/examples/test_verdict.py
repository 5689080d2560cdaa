"""The judge of the race: stale is older than a commit that had returned before the read."""

import pytest

from examples.recycling.verdict import Commits, Event, Run, judge

FIRST = Event("a", version=1, began_ns=10, returned_ns=20)
SECOND = Event("a", version=2, began_ns=30, returned_ns=40)


def read(version: int, began_ns: int, user_id: str = "a") -> Event:
    return Event(user_id, version, began_ns, began_ns + 1)


@pytest.mark.parametrize(
    ("version", "began_ns", "stale_for_ns"),
    [
        (0, 15, 0),  # version 1 is on its way
        (0, 20, 0),  # it returns at the very moment
        (0, 21, 1),  # it had returned
        (1, 21, 0),
        (1, 35, 0),  # version 2 is on its way
        (1, 50, 10),
        (0, 50, 30),  # two behind: old since the first of them
        (2, 50, 0),
        (2, 35, 0),  # seen before its commit had returned: early, not stale
    ],
)
def test_a_read_is_held_against_commits_that_had_returned(
    version: int, began_ns: int, stale_for_ns: int
) -> None:
    """Only a commit that returned before the read began makes it stale, and since then."""
    assert Commits([FIRST, SECOND]).stale_for_ns(read(version, began_ns)) == stale_for_ns


def test_a_later_version_that_returns_first_counts() -> None:
    """Version 2 is committed after 1, but its writer returned sooner: 0 is old from then on."""
    late = Event("a", version=1, began_ns=10, returned_ns=90)
    commits = Commits([late, SECOND])
    assert commits.stale_for_ns(read(0, 50)) == 10
    assert commits.stale_for_ns(read(1, 50)) == 10


def test_rows_do_not_count_for_each_other() -> None:
    """A commit to another row makes nothing stale."""
    assert Commits([FIRST]).stale_for_ns(read(0, 50, user_id="b")) == 0


def test_the_verdict_counts_reads_and_not_the_writers_own() -> None:
    """Stale reads, hits of readers, and the time that the worst of them was behind."""
    writer = Run(writes=True, events=(FIRST, SECOND), hits=7)
    reader = Run(writes=False, events=(read(0, 25), read(1, 50), read(2, 60)), hits=2)
    verdict = judge("side", [writer, reader], left_stale=0)
    assert (verdict.reads, verdict.writes, verdict.hits) == (3, 2, 2)
    assert verdict.stale == 2
    assert verdict.oldest_s == 10 / 1e9


def test_a_race_without_commits_finds_nothing() -> None:
    """Nothing was written, so nothing was old."""
    reader = Run(writes=False, events=(read(0, 25),), hits=1)
    assert judge("side", [Run(True, (), 0), reader], left_stale=0).stale == 0
