"""When a value is due, and when its time is up: decisions from numbers."""

import pytest

from cachedorm.store.protocol.entry import Format, describe, kept_slot, value_slot
from cachedorm.store.protocol.lifetime import Life, is_due, life_of, may_be_kept
from cachedorm.store.protocol.settings import RegionSettings

FORM = Format(b"fingerpr", bytes, bytes)
NOW = 1_700_000_000_000
HOUR = 3_600_000
MINUTE = 60_000
HARD = RegionSettings("my", 1, HOUR)
AHEAD = RegionSettings("my", 1, HOUR, refresh_ahead_ms=5 * MINUTE)
STALE = RegionSettings("my", 1, HOUR, stale_if_error_ms=10 * MINUTE)
BOTH = RegionSettings("my", 1, HOUR, refresh_ahead_ms=5 * MINUTE, stale_if_error_ms=10 * MINUTE)


def value(*, created: int = 0, up: int) -> bytes:
    return value_slot(FORM, b"server-1", [b"s" * 16], b"x", created_ms=created, soft_ms=up)


@pytest.mark.parametrize(
    ("settings", "own", "life"),
    [
        (HARD, False, Life(0, False, HOUR)),
        (AHEAD, False, Life(NOW + HOUR, False, HOUR)),
        (STALE, False, Life(NOW + HOUR, True, HOUR + 10 * MINUTE)),
        (BOTH, False, Life(NOW + HOUR, True, HOUR + 10 * MINUTE)),
        # A row that says when it ends is never kept beyond it.
        (STALE, True, Life(0, False, HOUR)),
        (BOTH, True, Life(NOW + HOUR, False, HOUR)),
    ],
)
def test_how_a_value_lives(settings: RegionSettings, own: bool, life: Life) -> None:
    assert life_of(settings, NOW, HOUR, own=own, chance=0.0) == life


def test_jitter_only_makes_a_moment_earlier() -> None:
    """By its share at most; the promise of a value that outlives its time has none."""
    assert life_of(AHEAD, NOW, HOUR, own=False, chance=1.0).soft_ms == NOW + HOUR - 3 * MINUTE
    assert life_of(STALE, NOW, HOUR, own=False, chance=1.0).soft_ms == NOW + HOUR


@pytest.mark.parametrize(
    ("left", "due"), [(HOUR, False), (5 * MINUTE + 1, False), (5 * MINUTE, True), (-1, True)]
)
def test_a_value_is_due_so_long_before_its_time_is_up(left: int, due: bool) -> None:
    assert is_due(value(up=NOW + left), NOW, 5 * MINUTE) is due


def test_a_value_without_a_moment_is_never_due() -> None:
    assert not is_due(value(up=0), NOW, 5 * MINUTE)


def test_no_value_is_due_in_the_first_half_of_its_life() -> None:
    short = value(created=NOW, up=NOW + MINUTE)
    assert not is_due(short, NOW + MINUTE // 2 - 1, 5 * MINUTE)
    assert is_due(short, NOW + MINUTE // 2, 5 * MINUTE)


def test_a_value_from_a_clock_that_is_ahead_is_due_when_its_time_is_up() -> None:
    """Created in the reader's future, it is not due at once."""
    assert not is_due(value(created=NOW + HOUR, up=NOW + 2 * HOUR), NOW, 5 * MINUTE)
    assert is_due(value(created=NOW + 2 * HOUR, up=NOW - 1), NOW, 5 * MINUTE) is False


def test_what_is_kept_is_the_same_value_for_a_little_longer() -> None:
    seen = value(created=7, up=NOW)
    before, after = describe(seen), describe(kept_slot(seen, NOW + 3000))
    assert (after.kept, after.outlives, after.soft_ms) == (True, True, NOW + 3000)
    assert (after.payload, after.stamps, after.created_ms) == (b"x", before.stamps, 7)
    assert not is_due(kept_slot(seen, NOW + 3000), NOW, 5 * MINUTE)


def test_only_what_is_over_is_kept_and_only_where_the_region_says_so() -> None:
    assert may_be_kept(value(up=NOW), NOW, 1)
    assert not may_be_kept(value(up=NOW + 1), NOW, 1)
    assert not may_be_kept(value(up=NOW), NOW, 0)
