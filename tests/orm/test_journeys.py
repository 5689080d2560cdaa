"""What the four journeys cost in Python calls of the library's own, which every user pays."""

from __future__ import annotations

import pytest

from tests.support.journeys import CALLS_MAX, Journey, journeys


@pytest.fixture
def tour(database_url: str, redis_url: str) -> dict[str, Journey]:
    """The journeys by their names."""
    return {journey.name: journey for journey in journeys(database_url, redis_url)}


def test_no_journey_is_longer_than_it_must_be(tour: dict[str, Journey]) -> None:
    """Each stays within its calls; the message says which modules it passes."""
    assert tour.keys() == CALLS_MAX.keys()
    long = [
        f"at most {CALLS_MAX[name]} wanted: {journey.brief}"
        for name, journey in tour.items()
        if journey.calls > CALLS_MAX[name]
    ]
    assert not long, "\n".join(["", *long])
