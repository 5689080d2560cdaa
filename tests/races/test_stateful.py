"""Long random histories over real PostgreSQL and Redis: what is cached equals what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from examples.servers import PrivateRedis
from tests.support.races.stateful import Greenlets, LibraryMachine, Threads


@pytest.fixture
def saving_redis() -> Iterator[PrivateRedis]:
    """A Redis that can be restarted from an old file."""
    with PrivateRedis(persistence="rdb") as server:
        yield server


@pytest.mark.parametrize("colour", [Threads, Greenlets])
def test_every_read_equals_the_database(
    database_url: str, saving_redis: PrivateRedis, colour: Callable[..., Any]
) -> None:
    """After any history of writes, evictions and restarts, at every step."""
    machine = type(
        "Machine",
        (LibraryMachine,),
        {"database_url": database_url, "redis": saving_redis, "colour": staticmethod(colour)},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            # A failing history is printed as it was; shortening it would take minutes.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
