"""Patterns mean in memory what they mean in Redis."""

import pytest

from cachedorm.store.memory.glob import glob


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("user:*:42", "user:profile:42", True),
        ("user:*:42", "user:profile:142", False),
        ("user:*", "user:", True),
        ("user:?", "user:1", True),
        ("user:?", "user:12", False),
        ("user:??", "user:é", True),  # a pattern is read by bytes
        ("user:[13]", "user:3", True),
        ("user:[^13]", "user:3", False),
        ("user:[a-c]", "user:b", True),
        ("user:[c-a]", "user:b", True),
        (r"user:[\]]", "user:]", True),
        ("user:[12", "user:1", True),
        (r"user:\*", "user:*", True),
        (r"user:\*", "user:1", False),
        ("a.c", "abc", False),
        ("검색:*", "검색:종이", True),
    ],
)
def test_a_pattern_matches_as_redis_says(pattern: str, key: str, matches: bool) -> None:
    """Wild cards, classes, ranges, escapes."""
    assert bool(glob(pattern)(key)) is matches
