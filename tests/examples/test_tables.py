"""What the demo says is what it saw, also when that is not what was hoped for."""

import pytest

from examples.recycling.race import BY_HAND
from examples.recycling.tables import conclusion, lifetime
from examples.recycling.verdict import Verdict


def verdict(side: str, stale: int) -> Verdict:
    return Verdict(side, 10, 10, 5, stale, 0.1, 0, 0.001)


@pytest.mark.parametrize(
    ("invalidator", "ours", "said"),
    [
        (3, 0, "by hand gave 3 stale answers, cachedorm none"),
        (0, 0, "The race proved nothing"),
        (3, 1, "cachedorm gave 1 stale answers: that is a bug"),
        (0, 1, "cachedorm gave 1 stale answers: that is a bug"),
    ],
)
def test_the_conclusion_follows_from_the_counts(invalidator: int, ours: int, said: str) -> None:
    """A rival without a stale read proves nothing, and our own stale reads are called a bug."""
    assert said in conclusion([verdict(BY_HAND, invalidator), verdict("cachedorm", ours)])


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (3600, "60 min"), (86_400, "24 h"), (604_800, "7 d")]
)
def test_lifetimes_read_as_they_were_declared(seconds: float, text: str) -> None:
    """An hour is 60 minutes, a day 24 hours."""
    assert lifetime(seconds) == text
